//! The fuzz targets in the ordinary tests: every file of their corpus, found ones among them,
//! and each of these broken in a few hundred ways that are the same on every run.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use moothall_numerics::seeded::Seeded;
use targets::TARGETS;

/// Ways in which a file is broken.
const WAYS: u64 = 200;

/// Flips, cuts, repeats and foreign pieces.
fn break_it(bytes: &[u8], dice: &mut Seeded) -> Vec<u8> {
    const PIECES: [&[u8]; 12] =
        [b"\xff", b"\x00", b"\"", b"\\", b"\n", b"{", b"[[", b"\xf0\x9f", b"=", b",", b"-1", b"99999999999999999999"];
    let mut broken = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(broken.len() + 1);
        match dice.below(4) {
            0 if at < broken.len() => broken[at] ^= 1 << dice.below(8),
            1 => broken.truncate(at),
            2 => {
                let again = broken[at..].to_vec();
                broken.extend(again);
            }
            _ => {
                let piece = PIECES[dice.below(PIECES.len())];
                broken.splice(at..at, piece.iter().copied());
            }
        }
    }
    broken
}

#[test]
fn every_parser_of_outside_bytes_survives_its_corpus_and_what_is_made_of_it() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.expect("a corpus is a folder").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        target(b"");
        for file in files {
            let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            target(&bytes);
            let mut dice = Seeded(bytes.len() as u64);
            for _ in 0..WAYS {
                target(&break_it(&bytes, &mut dice));
            }
        }
    }
}

#[test]
fn every_target_has_its_own_program() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
