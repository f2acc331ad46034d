//! Names for rows that bring none, the same whenever the same file is read.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::columns::{Field, Fields};
use super::table::{Problem, RawRecord};

/// Numbers equal rows, so that each has a name of its own.
///
/// Some 20 bytes stay for each such row; rows with an id leave nothing here.
#[derive(Default)]
pub(super) struct Identities {
    /// Keyed by the part of the hash that an id shows.
    derived: HashMap<u64, u32>,
    failed: HashMap<u64, u32>,
}

impl Identities {
    /// An id from what the row says and how many equal rows came before it.
    pub(super) fn derive(&mut self, fields: &Fields) -> String {
        let mut hash = Sha256::new();
        let mut part = |name: &str, value: &str| {
            chained(&mut hash, name);
            chained(&mut hash, value);
        };
        for field in Field::ALL {
            if let Some(value) = fields.get(field) {
                part(field.key(), value);
            }
        }
        for (group, value) in &fields.groups {
            part(group, value);
        }
        let short = first_eight(&hash.finalize());
        let ordinal = self.derived.entry(short).or_default();
        *ordinal += 1;
        format!("row-{short:016x}-{ordinal}")
    }

    /// SHA-256 over the source, the whole record and its ordinal among equal ones.
    pub(super) fn fingerprint(&mut self, source: &str, record: &RawRecord) -> String {
        let digest: [u8; 32] = match &record.problem {
            Some(Problem::TooLarge { digest, .. }) => *digest,
            _ => Sha256::digest(&record.bytes).into(),
        };
        let ordinal = self.failed.entry(first_eight(&digest)).or_default();
        *ordinal += 1;
        let mut hash = Sha256::new();
        chained(&mut hash, source);
        hash.update(digest);
        hash.update(ordinal.to_le_bytes());
        hex::encode(hash.finalize())
    }
}

/// Hashes a text behind its length, which keeps neighbours apart.
fn chained(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn first_eight(digest: &[u8]) -> u64 {
    let first = digest.iter().take(8);
    first.fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
