//! The store in PostgreSQL, for several workers on several hosts.
//!
//! It means what the one in SQLite means, table for table. What differs is how processes keep
//! out of each other's way: whoever changes comments of a consultation waits for a turn that
//! the server gives ([`record::turn`]), and messages are claimed with `SKIP LOCKED`. A batch
//! takes the same few statements whether it holds one comment or a thousand.

mod connection;
mod outbox;
mod positions;
mod reading;
mod record;
mod rulebooks;
mod schema;
mod shadow;
pub(in crate::store) mod texts;
mod write;

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

pub use self::connection::{PostgresConfig, PostgresDatabase, StoreUrl};
pub use self::schema::{ServerFacts, schema_version};

pub(in crate::store) use self::connection::store_error;
pub(in crate::store) use self::schema::COPYING;

use self::texts::{given, kept};
use crate::domain::assessment::Assessment;
use crate::domain::comment::{CommentKey, ConsultationId};
use crate::domain::decision::Verdict;
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::clock::Clock;
use crate::pipeline::identity::hash_of;
use crate::pipeline::ports::{
    Backlog, Disagreement, Disclosure, FailedRow, FailedRows, Funnel, Judged, OutboxRow, Recorded, Store, StoreError,
    StoredComment,
};
use crate::store::record::assessment_from_row;
use crate::store::rows::{DisclosureRow, FailureRow, StoredRow, consultations, funnel};
use crate::store::standing::Tell;

/// The [`Store`] in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    database: PostgresDatabase,
    clock: Clock,
}

impl PostgresStore {
    /// A store over a server, which need not be there yet: each call connects as it must.
    /// The schema is brought up by [`PostgresDatabase::migrate`].
    pub fn new(database: PostgresDatabase, clock: Clock) -> Self {
        Self { database, clock }
    }
}

/// What a failed row is told from others by.
fn failure_hash(row: &FailedRow) -> String {
    hash_of(&[row.consultation.as_str(), &row.source, &row.fingerprint])
}

#[async_trait]
impl FailedRows for PostgresStore {
    async fn fail(&self, rows: &[FailedRow]) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let column = |of: fn(&FailedRow) -> &str| rows.iter().map(|row| kept(of(row)).into_owned()).collect::<Vec<_>>();
        let ids: Vec<Option<String>> =
            rows.iter().map(|row| row.id.as_deref().map(|id| kept(id).into_owned())).collect();
        let work = async {
            let mut lease = self.database.lease().await?;
            // By their hash, so that two processes with the same rows never wait for each other.
            let new = sqlx::query(
                "INSERT INTO failures (key_hash, consultation, source, id, row_number, reason, detail, raw, \
                 fingerprint, failed_at_ms) \
                 SELECT decode(key, 'hex'), consultation, source, id, row_number, reason, detail, raw, fingerprint, $10 \
                 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], \
                     $8::text[], $9::text[]) \
                     AS w (key, consultation, source, id, row_number, reason, detail, raw, fingerprint) \
                 ORDER BY key ON CONFLICT (key_hash) DO NOTHING",
            )
            .bind(rows.iter().map(failure_hash).collect::<Vec<_>>())
            .bind(column(|row| row.consultation.as_str()))
            .bind(column(|row| &row.source))
            .bind(ids)
            .bind(rows.iter().map(|row| row.row as i64).collect::<Vec<_>>())
            .bind(column(|row| &row.reason))
            .bind(column(|row| &row.detail))
            .bind(column(|row| &row.raw))
            .bind(column(|row| &row.fingerprint))
            .bind(self.clock.now_ms())
            .execute(&mut *lease)
            .await
            .map_err(store_error)?
            .rows_affected();
            lease.well();
            Ok(new)
        };
        self.database.in_time(work).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn record(&self, judged: &[Judged]) -> Result<Vec<Recorded>, StoreError> {
        let batch = record::prepare(judged)?;
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            record::turn(&mut tx, judged.iter().map(|one| &one.comment.key.consultation)).await?;
            let recorded = record::record(&mut tx, &batch, self.clock.now_ms()).await?;
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(recorded)
        };
        self.database.in_time(work).await
    }

    async fn failures(&self, consultation: &ConsultationId) -> Result<Vec<FailedRow>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let rows: Vec<FailureRow> = sqlx::query_as(
                "SELECT source, id, row_number, reason, detail, raw, fingerprint FROM failures \
                 WHERE consultation = $1 ORDER BY source, row_number, no",
            )
            .bind(kept(consultation.as_str()))
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(rows)
        };
        let rows = self.database.in_time(work).await?;
        Ok(rows.into_iter().map(|row| given_failure(row).failed(consultation)).collect())
    }

    async fn cached(
        &self,
        version: &PipelineVersion,
        text_hashes: &[String],
    ) -> Result<Vec<Option<Assessment>>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            // One row is enough for each: a flood of one text has thousands.
            let rows: Vec<(String, Option<String>)> = sqlx::query_as(
                "SELECT w.hash, (SELECT a.assessment FROM revisions r JOIN assessments a ON a.revision_no = r.no \
                 WHERE r.text_hash = w.hash AND a.pipeline_version = $2 LIMIT 1) FROM unnest($1::text[]) AS w (hash)",
            )
            .bind(text_hashes)
            .bind(&version.0)
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(rows)
        };
        let rows = self.database.in_time(work).await?;
        let by_hash: HashMap<String, String> = rows.into_iter().filter_map(|(hash, row)| Some((hash, row?))).collect();
        text_hashes.iter().map(|hash| by_hash.get(hash).map(|row| assessment_from_row(row)).transpose()).collect()
    }

    async fn page(
        &self,
        consultation: &ConsultationId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredComment>, StoreError> {
        let mut query = reading::stored("");
        query.push(" WHERE c.consultation = ").push_bind(kept(consultation.as_str()).into_owned());
        let rows: Vec<StoredRow> = reading::page(&self.database, query, after, limit).await?;
        rows.into_iter().map(|row| reading::given_stored(row).stored()).collect()
    }

    async fn funnel(&self, consultation: &ConsultationId) -> Result<Funnel, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            // One statement is one snapshot: a row cannot move between two counts.
            let rows: Vec<(String, i64)> = sqlx::query_as(
                "SELECT CASE WHEN withdrawn_at_ms IS NOT NULL THEN 'withdrawn' ELSE verdict END, \
                 count(*) FROM comments WHERE consultation = $1 AND current_revision IS NOT NULL \
                 GROUP BY 1 \
                 UNION ALL SELECT 'failed', count(*) FROM failures WHERE consultation = $1",
            )
            .bind(kept(consultation.as_str()))
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            funnel(rows)
        };
        self.database.in_time(work).await
    }

    async fn disclosures(&self, consultation: Option<&ConsultationId>) -> Result<Vec<Disclosure>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let rows: Vec<DisclosureRow> = sqlx::query_as(
                "SELECT r.comment, a.assessment, d.escalated_at_ms, d.acknowledged_at_ms, \
                 d.acknowledged_by FROM disclosures d \
                 JOIN comments c ON c.no = d.comment_no \
                 JOIN revisions r ON r.no = d.revision_no \
                 JOIN assessments a ON a.no = d.assessment_no \
                 WHERE $1::text IS NULL OR c.consultation = $1 \
                 ORDER BY CASE WHEN d.acknowledged_at_ms IS NULL THEN 0 ELSE 1 END, \
                 d.escalated_at_ms, d.comment_no",
            )
            .bind(consultation.map(|consultation| kept(consultation.as_str())))
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(rows)
        };
        let rows = self.database.in_time(work).await?;
        rows.into_iter()
            .map(|row| DisclosureRow { acknowledged_by: row.acknowledged_by.map(given), ..row }.disclosure())
            .collect()
    }

    async fn acknowledge(&self, key: &CommentKey, by: &str) -> Result<bool, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            // The first person to look is the one who is kept.
            let found = sqlx::query(
                "UPDATE disclosures SET \
                 acknowledged_at_ms = COALESCE(acknowledged_at_ms, $1), \
                 acknowledged_by = COALESCE(acknowledged_by, $2) \
                 WHERE comment_no = (SELECT no FROM comments WHERE key_hash = decode($3, 'hex'))",
            )
            .bind(self.clock.now_ms())
            .bind(kept(by))
            .bind(record::key_hash(key))
            .execute(&mut *lease)
            .await
            .map_err(store_error)?
            .rows_affected();
            lease.well();
            Ok(found > 0)
        };
        self.database.in_time(work).await
    }

    async fn withdraw(&self, key: &CommentKey, revision: Option<i64>) -> Result<bool, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            record::turn(&mut tx, [&key.consultation]).await?;
            let changed = sqlx::query(
                "INSERT INTO comments (key_hash, consultation, source, id, withdrawn_at_ms, withdrawn_revision) \
                 VALUES (decode($1, 'hex'), $2, $3, $4, $5, $6) \
                 ON CONFLICT (key_hash) DO UPDATE SET \
                 withdrawn_at_ms = excluded.withdrawn_at_ms, \
                 withdrawn_revision = excluded.withdrawn_revision \
                 WHERE comments.withdrawn_at_ms IS NULL \
                 AND NOT EXISTS (SELECT 1 FROM revisions r WHERE r.no = comments.current_revision \
                     AND r.revision > excluded.withdrawn_revision)",
            )
            .bind(record::key_hash(key))
            .bind(kept(key.consultation.as_str()))
            .bind(kept(key.source.as_str()))
            .bind(kept(key.id.as_str()))
            .bind(self.clock.now_ms())
            .bind(revision)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(changed > 0)
        };
        self.database.in_time(work).await
    }

    async fn retag(&self, judged: &[Judged], tell: &[bool]) -> Result<Vec<Recorded>, StoreError> {
        let mut batch = record::prepare(judged)?;
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            record::turn(&mut tx, judged.iter().map(|one| &one.comment.key.consultation)).await?;
            let mut adoptions: HashMap<&ConsultationId, i64> = HashMap::new();
            for (one, tell) in batch.iter_mut().zip(tell) {
                one.tell = Tell::Nobody;
                if *tell {
                    let consultation = &one.judged.comment.key.consultation;
                    let adoption = match adoptions.get(consultation) {
                        Some(adoption) => *adoption,
                        None => rulebooks::adoption(&mut tx, consultation).await?,
                    };
                    adoptions.insert(consultation, adoption);
                    one.tell = Tell::InAdoption(adoption);
                }
            }
            let recorded = record::record(&mut tx, &batch, self.clock.now_ms()).await?;
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(recorded)
        };
        self.database.in_time(work).await
    }

    async fn decide(&self, key: &CommentKey, text_hash: &str, verdict: Verdict, by: &str) -> Result<bool, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let mut tx = lease.begin().await?;
            record::turn(&mut tx, [&key.consultation]).await?;
            let decided = decide(&mut tx, key, text_hash, (verdict, by), self.clock.now_ms()).await?;
            tx.commit().await.map_err(store_error)?;
            lease.well();
            Ok(decided)
        };
        self.database.in_time(work).await
    }

    async fn disagreements(&self, consultation: &ConsultationId) -> Result<Vec<Disagreement>, StoreError> {
        reading::disagreements(&self.database, consultation).await
    }

    async fn sent_then_claim(
        &self,
        event_ids: &[String],
        kind: &str,
        owner: &str,
        limit: u32,
        lease_ms: i64,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let claim = outbox::Claim { kind, owner, limit, lease_ms };
        self.database.in_time(outbox::sent_then_claim(&self.database, self.clock.now_ms(), event_ids, claim)).await
    }

    async fn sent(&self, event_ids: &[String]) -> Result<(), StoreError> {
        self.database.in_time(outbox::sent(&self.database, self.clock.now_ms(), event_ids)).await
    }

    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        self.database.in_time(outbox::release(&self.database, owner)).await
    }

    async fn backlog(&self, kind: Option<&str>) -> Result<Backlog, StoreError> {
        self.database.in_time(outbox::backlog(&self.database, kind)).await
    }

    async fn consultations(&self) -> Result<Vec<ConsultationId>, StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            let ids: Vec<String> = sqlx::query_scalar(
                "SELECT consultation FROM comments WHERE current_revision IS NOT NULL \
                 UNION SELECT consultation FROM failures ORDER BY 1",
            )
            .fetch_all(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(ids)
        };
        let ids = self.database.in_time(work).await?;
        consultations(&ids.into_iter().map(given).collect::<Vec<_>>())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let work = async {
            let mut lease = self.database.lease().await?;
            // A real write, so that a full disk and a standby show.
            sqlx::query(
                "INSERT INTO meta (key, value) VALUES ('ping', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(self.clock.now_ms().to_string())
            .execute(&mut *lease)
            .await
            .map_err(store_error)?;
            lease.well();
            Ok(())
        };
        self.database.in_time(work).await
    }
}

fn given_failure(row: FailureRow) -> FailureRow {
    let FailureRow { source, id, row_number, reason, detail, raw, fingerprint } = row;
    FailureRow {
        source: given(source),
        id: id.map(given),
        row_number,
        reason: given(reason),
        detail: given(detail),
        raw: given(raw),
        fingerprint: given(fingerprint),
    }
}

/// Records what a person decided about a text, if it is the current one.
async fn decide(
    conn: &mut PgConnection,
    key: &CommentKey,
    text_hash: &str,
    (verdict, by): (Verdict, &str),
    now_ms: i64,
) -> Result<bool, StoreError> {
    let no: Option<i64> = sqlx::query_scalar(
        "UPDATE comments SET verdict = $1 WHERE key_hash = decode($2, 'hex') \
         AND current_revision IS NOT NULL AND text_hash = $3 RETURNING no",
    )
    .bind(verdict.key())
    .bind(record::key_hash(key))
    .bind(text_hash)
    .fetch_optional(&mut *conn)
    .await
    .map_err(store_error)?;
    let Some(no) = no else { return Ok(false) };
    sqlx::query(
        "INSERT INTO decisions (comment_no, text_hash, verdict, decided_by, decided_at_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(no)
    .bind(text_hash)
    .bind(verdict.key())
    .bind(kept(by))
    .bind(now_ms)
    .execute(conn)
    .await
    .map_err(store_error)?;
    Ok(true)
}
