//! Comments for faults, and the seeded randomness behind everything.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use moothall::domain::comment::{Author, Comment, CommentId, CommentKey, ConsultationId, SourceName};

/// The consultation of every row.
pub fn mentoring() -> ConsultationId {
    ConsultationId::new("mentoring").unwrap()
}

/// A seed that nobody chose.
pub fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0) % 1_000_000
}

/// A comment with its first revision.
pub fn comment(id: &str, text: &str) -> Comment {
    revision(id, 1, text)
}

/// One revision of a comment.
pub fn revision(id: &str, revision: i64, text: &str) -> Comment {
    let key = CommentKey {
        consultation: mentoring(),
        source: SourceName::new("faults").unwrap(),
        id: CommentId::new(id).unwrap(),
    };
    Comment { revision: Some(revision), ..Comment::bare(key, text) }
}

/// Comments `c{start}` to `c{end}`, each with words of its own; one in fifty is a
/// disclosure, one in fifty spam, one in fifty is held.
pub fn some(range: std::ops::Range<usize>) -> Vec<Comment> {
    range
        .map(|n| {
            let kind = match n % 50 {
                7 => "help",
                17 => "spam",
                27 => "hold",
                _ => "fine",
            };
            let text = format!(
                "{kind} {n}: our mentor came every week, and for a year somebody asked how the day had been and \
                 waited for the answer; whatever the council calls the scheme, number {n} should go on"
            );
            comment(&format!("c{n}"), &text)
        })
        .collect()
}
