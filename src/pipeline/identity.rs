//! What makes two arrivals the same, and two texts the same.
//!
//! Queue, store and worker must agree on both, whatever keeps them, so the
//! hashes are taken here and nowhere else.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use crate::domain::comment::Comment;

/// SHA-256 of the raw text, as hex: whether a person would read the same words.
pub fn text_hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// The key of the cache of judgements: the text's hash, and the language with
/// it where the source declares one, since that is all that a judgement looks at.
pub fn judged_hash(comment: &Comment) -> String {
    match &comment.language {
        None => text_hash(&comment.text),
        Some(language) => hash_of(&[language, &comment.text]),
    }
}

/// What tells one arrival of a comment from the next: its explicit revision,
/// else a hash over everything that arrived.
pub fn arrival_key(comment: &Comment) -> String {
    match comment.revision {
        // The prefixes keep a revision apart from a hash, whatever its digits.
        Some(revision) => format!("r{revision}"),
        None => format!("c{}", content_hash(comment)),
    }
}

/// SHA-256 over the parts, as hex. Each part is preceded by its length, so
/// that no two lists of parts run together into the same bytes.
pub fn hash_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        update(&mut hash, Some(part));
    }
    hex::encode(hash.finalize())
}

fn content_hash(comment: &Comment) -> String {
    let mut hash = Sha256::new();
    let Comment { key: _, revision: _, edited_at, text, posted_at, author, url, parent_id, language, groups } = comment;
    update(&mut hash, Some(text));
    for time in [edited_at, posted_at] {
        update(&mut hash, time.map(|time| time.to_string()).as_deref());
    }
    for part in [&author.id, &author.name, &author.email, url, parent_id, language] {
        update(&mut hash, part.as_deref());
    }
    for (name, value) in groups {
        update(&mut hash, Some(name));
        update(&mut hash, Some(value));
    }
    hex::encode(hash.finalize())
}

fn update(hash: &mut Sha256, part: Option<&str>) {
    // An absent part has the one length that no text in memory can have.
    let size = part.map_or(u64::MAX, |part| part.len() as u64);
    hash.update(size.to_le_bytes());
    hash.update(part.unwrap_or_default().as_bytes());
}

/// What orders the revisions of one comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionOrder {
    /// As the source counts.
    pub revision: Option<i64>,
    /// Unix milliseconds.
    pub edited_at_ms: Option<i64>,
    /// When it was published, as its queue counts; two may have one number.
    pub sequence: i64,
}

impl RevisionOrder {
    /// The order of one arrival.
    pub fn of(comment: &Comment, sequence: i64) -> Self {
        Self {
            revision: comment.revision,
            edited_at_ms: comment.edited_at.map(jiff::Timestamp::as_millisecond),
            sequence,
        }
    }

    /// Compares by the strongest evidence that both have: revision, else time of
    /// editing, else arrival. Equal evidence falls through to the next. Where all of
    /// it is equal, the one that is recorded later counts as the later one.
    pub fn compare(self, other: Self) -> Ordering {
        let both = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => Ordering::Equal,
        };
        both(self.revision, other.revision)
            .then_with(|| both(self.edited_at_ms, other.edited_at_ms))
            .then_with(|| self.sequence.cmp(&other.sequence))
    }
}

/// Whether a reader would see anything: `false` for a text of white space,
/// controls and invisible characters only.
pub fn is_visible(text: &str) -> bool {
    text.chars().any(|c| {
        !(c.is_whitespace()
            || c.is_control()
            || matches!(c,
                '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
                | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::comment::{CommentId, CommentKey, ConsultationId, SourceName};

    fn comment(text: &str) -> Comment {
        let key = CommentKey {
            consultation: ConsultationId::new("m").unwrap(),
            source: SourceName::new("s").unwrap(),
            id: CommentId::new("1").unwrap(),
        };
        Comment::bare(key, text)
    }

    #[test]
    fn every_field_that_arrived_tells_arrivals_apart() {
        let base = comment("a");
        let changes: [fn(&mut Comment); 9] = [
            |c| c.text.push('b'),
            |c| c.author.id = Some("x".into()),
            |c| c.author.name = Some("x".into()),
            |c| c.author.email = Some("x".into()),
            |c| c.url = Some("x".into()),
            |c| c.parent_id = Some("x".into()),
            |c| c.language = Some("x".into()),
            |c| c.edited_at = Some(jiff::Timestamp::UNIX_EPOCH),
            |c| c.posted_at = Some(jiff::Timestamp::UNIX_EPOCH),
        ];
        let mut keys = vec![arrival_key(&base)];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            keys.push(arrival_key(&other));
        }
        let mut grouped = base.clone();
        grouped.groups.insert("ward".into(), "x".into());
        keys.push(arrival_key(&grouped));
        let unique: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
    }

    #[test]
    fn a_declared_language_is_judged_apart() {
        let plain = comment("a");
        let welsh = Comment { language: Some("cy".into()), ..plain.clone() };
        assert_eq!(judged_hash(&plain), text_hash("a"));
        assert_ne!(judged_hash(&welsh), judged_hash(&plain));
    }

    #[test]
    fn an_explicit_revision_alone_names_the_arrival() {
        let first = Comment { revision: Some(3), ..comment("a") };
        let second = Comment { revision: Some(3), ..comment("b") };
        assert_eq!(arrival_key(&first), arrival_key(&second));
    }

    #[test]
    fn the_strongest_shared_evidence_orders_revisions() {
        let order = |revision, edited_at_ms, sequence| RevisionOrder { revision, edited_at_ms, sequence };
        let late_but_older = order(Some(1), None, 9);
        assert_eq!(order(Some(2), None, 1).compare(late_but_older), Ordering::Greater);
        assert_eq!(order(None, Some(5), 1).compare(order(None, Some(4), 2)), Ordering::Greater);
        assert_eq!(order(None, None, 2).compare(order(Some(7), Some(7), 1)), Ordering::Greater);
        assert_eq!(order(None, Some(5), 1).compare(order(Some(7), Some(5), 1)), Ordering::Equal);
    }

    #[test]
    fn invisible_characters_are_nothing() {
        assert!(!is_visible(" \u{200b}\u{feff}\t\u{3164}\n"));
        assert!(is_visible(" . "));
        assert!(is_visible("👍🏽"));
    }
}
