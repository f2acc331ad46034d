//! Where comments stand that cannot stand at their arrival's sequence: at the next free place after it.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgConnection;

use super::connection::store_error;
use super::texts::kept;
use crate::domain::comment::ConsultationId;
use crate::pipeline::ports::StoreError;
use crate::store::standing::LATEST;

/// Places that this transaction has given away and not written yet.
#[derive(Default)]
pub struct Taken<'a>(HashSet<(&'a ConsultationId, i64)>);

impl<'a> Taken<'a> {
    /// Takes a place. `false` where somebody has it.
    pub fn take(&mut self, consultation: &'a ConsultationId, position: i64) -> bool {
        self.0.insert((consultation, position))
    }
}

/// A comment that needs a place.
pub struct Wish<'a> {
    pub at: usize,
    pub consultation: &'a ConsultationId,
    pub sequence: i64,
}

/// Gives each the first free place at its sequence or a little above it.
///
/// Each window after a sequence offers what lies behind its last comment up to the window's end;
/// the nearest offer is taken. So a lookup costs the same behind one tie and behind a hundred
/// thousand, and ties lie close together. Ends of all windows taken is the work of someone
/// who tries: then it is the place behind everything.
pub async fn find<'a>(
    conn: &mut PgConnection,
    wishes: &[Wish<'a>],
    taken: &mut Taken<'a>,
    given: &mut BTreeMap<usize, i64>,
) -> Result<(), StoreError> {
    if wishes.is_empty() {
        return Ok(());
    }
    // Many tie at one place: it is asked about once.
    let mut asked: Vec<(&ConsultationId, i64)> =
        wishes.iter().map(|wish| (wish.consultation, wish.sequence.clamp(0, LATEST))).collect();
    asked.sort_unstable();
    asked.dedup();
    let mut offers = offers(conn, &asked).await?;
    for wish in wishes {
        let place = (wish.consultation, wish.sequence.clamp(0, LATEST));
        let at = asked.binary_search(&place).expect("every wish was asked for above");
        let position = first(&mut offers[at], wish.consultation, taken);
        given.insert(wish.at, position);
    }
    Ok(())
}

/// Free places from a number up to another, in order.
type Offers = Vec<(i64, i64)>;

/// The first place that nobody took meanwhile. Offers are used up from their beginning, so
/// that the thousandth tie is found as quickly as the first.
fn first<'a>(offers: &mut Offers, consultation: &'a ConsultationId, taken: &mut Taken<'a>) -> i64 {
    for (from, beyond) in offers {
        while *from < *beyond {
            *from += 1;
            if taken.take(consultation, *from - 1) {
                return *from - 1;
            }
        }
    }
    unreachable!("the last offer has no end")
}

async fn offers(conn: &mut PgConnection, asked: &[(&ConsultationId, i64)]) -> Result<Vec<Offers>, StoreError> {
    let (consultations, sequences): (Vec<String>, Vec<i64>) =
        asked.iter().map(|(consultation, sequence)| (kept(consultation.as_str()).into_owned(), *sequence)).unzip();
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT w.n, o.position, o.beyond \
         FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (consultation, sequence, n), \
         LATERAL ( \
             SELECT COALESCE((SELECT c.sequence + 1 FROM comments c WHERE c.consultation = w.consultation \
                 AND c.sequence >= w.sequence AND c.sequence < w.sequence + size \
                 ORDER BY c.sequence DESC LIMIT 1), w.sequence) AS position, w.sequence + size AS beyond \
             FROM (VALUES (1::bigint), (16), (256), (4096), (65536), (1048576), (16777216)) AS windows (size) \
             UNION ALL \
             SELECT COALESCE((SELECT MAX(c.sequence) + 1 FROM comments c WHERE c.consultation = w.consultation), 0), \
                 9223372036854775807 \
         ) AS o ORDER BY w.n, o.beyond = 9223372036854775807, o.position",
    )
    .bind(consultations)
    .bind(sequences)
    .fetch_all(conn)
    .await
    .map_err(store_error)?;
    let mut offers = vec![Offers::new(); asked.len()];
    for (n, position, beyond) in rows {
        if position < beyond {
            offers[n as usize - 1].push((position, beyond));
        }
    }
    Ok(offers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_offer_is_used_up_before_the_next() {
        let here = ConsultationId::new("here").unwrap();
        let mut taken = Taken::default();
        assert!(taken.take(&here, 11));
        let mut offers = vec![(10, 13), (12, 20), (100, i64::MAX)];
        let places: Vec<i64> = (0..4).map(|_| first(&mut offers, &here, &mut taken)).collect();
        assert_eq!(places, [10, 12, 13, 14]);
    }
}
