//! One labelled text, and which part of the work it may be used for.

use sha2::{Digest, Sha256};

use crate::domain::opinion::{Attitude, Stance, Tone};

/// Where a labelled text came from; it says what its labels are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A row of an example file: coded by the whole codebook.
    Coded,
    /// A comment on which a person decided in review.
    Reviewed,
    /// Under `examples` of a theme: that theme for sure, others hardly.
    Listed,
    /// A label, definition, or line of `includes` or `excludes`: words about a theme, no comment.
    Described,
}

/// The fixed split, by hash of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Learnt from.
    Train,
    /// Learnt from here; encoders are trained without it.
    Calibration,
    /// Never learnt from: for reporting.
    HeldOut,
}

/// A labelled text. A label that nobody gave is unknown, never "no".
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// As written.
    pub text: String,
    /// File and line, or key, for people.
    pub place: String,
    /// What must stay on one side of every split: a text's copies, a minimal pair.
    pub group: String,
    /// Where it came from.
    pub origin: Origin,
    /// The split.
    pub part: Part,
    /// Whether the encoder itself was trained on these labels: what is measured on such a row flatters.
    pub seen: bool,
    /// For each theme of the codebook, in its order.
    pub themes: Vec<Option<bool>>,
    /// Not about the subject.
    pub off_topic: Option<bool>,
    /// Stance over the codebook's pair.
    pub stance: Option<Stance>,
    /// Attitude to the subject.
    pub attitude: Option<Attitude>,
    /// How it is said.
    pub tone: Option<Tone>,
}

/// SHA-256 (hex) of `moothall-split-v1:` and the text in lower case with single spaces:
/// the key of the fixed split, the same as in `models/training/splits.py`.
pub fn split_key(text: &str) -> String {
    let plain = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    hex::encode(Sha256::digest(format!("moothall-split-v1:{plain}").as_bytes()))
}

/// The part that a key falls into: 12 % held out, 10 % calibration, the rest train.
pub fn part_of(key: &str) -> Part {
    match key.get(..8).and_then(|start| u32::from_str_radix(start, 16).ok()).unwrap_or(0) % 100 {
        0..12 => Part::HeldOut,
        12..22 => Part::Calibration,
        _ => Part::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_that_of_the_training_code() {
        // Printed by models/training/splits.py.
        for (text, key, part) in SPLITS {
            assert_eq!(&split_key(text)[..8], key, "{text}");
            assert_eq!(part_of(&split_key(text)), part, "{text}");
        }
        assert_eq!(split_key(" A  buddy\nscheme "), split_key("a buddy scheme"));
    }

    const SPLITS: [(&str, &str, Part); 4] = [
        ("Buddy number 0 é", "3c833e2a", Part::Train),
        ("pair:xp003", "5a4931c2", Part::HeldOut),
        ("pair:xp013", "c30f824a", Part::Calibration),
        ("ŁÓDŹ  street", "0cbbe5e8", Part::Train),
    ];
}
