//! Stable pseudonyms: the same comment and the same respondent keep theirs as
//! long as the key stays, and nobody without the key can work back.

use std::collections::HashSet;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::comment::CommentKey;

/// Letters and figures that cannot be mistaken for one another (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 10 letters hold 50 bits: among 500,000 comments two meet with probability 0.0001.
const SHORT: usize = 10;
/// What the later of two that meet gets.
const LONG: usize = 20;

/// Gives pseudonyms under one key.
pub struct Pseudonyms {
    key: [u8; 32],
    taken: HashSet<String>,
}

impl Pseudonyms {
    /// Under this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, taken: HashSet::new() }
    }

    /// A comment's `response_id`. Ask once for each comment, in order.
    pub fn response(&mut self, key: &CommentKey) -> String {
        self.fresh("R", &["response", key.consultation.as_str(), key.source.as_str(), key.id.as_str()])
    }

    /// An escalated comment's id: derived apart, so that it cannot be matched
    /// with the `response_id` that the same comment had before or has afterwards.
    pub fn escalated(&mut self, key: &CommentKey) -> String {
        self.fresh("E", &["escalated", key.consultation.as_str(), key.source.as_str(), key.id.as_str()])
    }

    /// A failed row's id.
    pub fn failed(&mut self, consultation: &str, fingerprint: &str) -> String {
        self.fresh("F", &["failed", consultation, fingerprint])
    }

    /// A respondent's id; the same person has the same one in every row of a consultation.
    pub fn respondent(&self, consultation: &str, respondent_key: &str) -> String {
        format!("P-{}", &self.letters(&["respondent", consultation, respondent_key])[..12])
    }

    /// Tells two keys apart without telling anything about either.
    pub fn key_name(&self) -> String {
        self.letters(&["name of the key"])[..8].to_owned()
    }

    fn fresh(&mut self, prefix: &str, parts: &[&str]) -> String {
        let letters = self.letters(parts);
        let short = format!("{prefix}-{}", &letters[..SHORT]);
        if self.taken.insert(short.clone()) { short } else { format!("{prefix}-{}", &letters[..LONG]) }
    }

    /// 24 letters: 120 of the 256 bits.
    fn letters(&self, parts: &[&str]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("an HMAC takes a key of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        digest
            .chunks(5)
            .take(3)
            .flat_map(|five| {
                let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
                (0..8).rev().map(move |at| ALPHABET[(bits >> (at * 5) & 31) as usize] as char)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::comment::{CommentId, ConsultationId, SourceName};

    fn key(id: &str) -> CommentKey {
        CommentKey {
            consultation: ConsultationId::new("mentoring").unwrap(),
            source: SourceName::new("form").unwrap(),
            id: CommentId::new(id).unwrap(),
        }
    }

    #[test]
    fn a_pseudonym_depends_on_the_key_and_on_nothing_else() {
        let once = Pseudonyms::new([1; 32]).response(&key("7"));
        assert_eq!(once, Pseudonyms::new([1; 32]).response(&key("7")));
        assert_ne!(once, Pseudonyms::new([2; 32]).response(&key("7")));
        assert_eq!(once.len(), 12);
        assert!(!once.contains('7') || once != "R-7");
    }

    #[test]
    fn an_escalated_comment_cannot_be_matched_with_its_response() {
        let mut ids = Pseudonyms::new([1; 32]);
        assert_ne!(ids.response(&key("7"))[2..], ids.escalated(&key("7"))[2..]);
    }

    #[test]
    fn a_pseudonym_that_is_taken_grows() {
        let mut ids = Pseudonyms::new([1; 32]);
        let (first, second) = (ids.response(&key("7")), ids.response(&key("7")));
        assert!(second.starts_with(&first) && second.len() > first.len());
    }
}
