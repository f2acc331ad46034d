//! Learning to code by a written codebook: from labelled examples and their
//! vectors to heads, with the figures that say how far to trust them.
//!
//! Pure: vectors and texts in, numbers out; no file, no clock, and a seed that is
//! given. Reading examples and writing heads is left to the edges.

pub mod check;
pub mod curve;
pub mod example;
pub mod fit;
pub mod near;
pub mod report;
pub mod words;

use sha2::{Digest, Sha256};

use crate::domain::codebook::Codebook;

/// SHA-256 (hex) of everything in a codebook's file that heads learn from. Titles of reports,
/// tag points and the order of headlines are not part of it: changing them trains nothing anew.
pub fn taught(codebook: &Codebook) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&codebook.id);
    if let Some(pair) = &codebook.stance {
        add(pair.structured.as_str());
        add(pair.organic.as_str());
    }
    for theme in &codebook.themes {
        add(theme.id.as_str());
        add(&theme.label);
        add(&theme.definition);
        for list in [&theme.includes, &theme.excludes, &theme.examples] {
            add(&list.len().to_string());
            for line in list {
                add(line);
            }
        }
    }
    hex::encode(hash.finalize())
}
