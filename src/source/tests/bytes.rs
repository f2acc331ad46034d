//! Encodings, packing, and files that are something else.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_column() {
    let all = csv(b"\xef\xbb\xbfid,text\n1,caf\xc3\xa9\n");
    assert_eq!((all.ids(), all.texts()), (vec!["1"], vec!["café"]));
    assert!(all.notice("byte_order_mark").is_some());
}

#[test]
fn utf_16_is_decoded_in_either_byte_order() {
    let text = "\u{feff}id,text\r\n1,naïve 🌍\r\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [little, big] {
        let all = csv(bytes);
        assert_eq!(all.texts(), ["naïve 🌍"]);
        assert!(all.notice("utf16").is_some());
    }
    let bare: Vec<u8> = text[3..].encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refused("f.csv", bare).contains("UTF-16 without a byte-order mark"));
}

#[test]
fn windows_1252_is_assumed_for_what_is_not_utf_8() {
    let all = csv(b"id,text\n1,it\x92s \x80 5 caf\xe9\n2,plain\n");
    assert_eq!(all.texts(), ["it\u{2019}s € 5 café", "plain"]);
    assert_eq!(all.notice("windows_1252").unwrap().count, 1);
}

#[test]
fn one_broken_row_in_a_utf_8_file_fails_alone() {
    let mut bytes = "id,text\n1,café naïve\n".as_bytes().to_vec();
    bytes.extend(b"2,caf\xe9\n3,fine\n");
    let all = csv(&bytes);
    assert_eq!(all.ids(), ["1", "3"]);
    assert_eq!(all.reasons(), [(2, "invalid_utf8")]);
    assert_eq!(all.failed()[0].raw, "2,caf\u{fffd}");
    assert!(all.failed()[0].detail.contains("(line 3)"));

    // Beyond the sample, even in a file that was ASCII so far.
    let mut late = b"id,text\n".to_vec();
    for row in 0..30_000 {
        late.extend(format!("{row},{}\n", "words ".repeat(10)).as_bytes());
    }
    late.extend(b"x,caf\xe9\ny,fine\n");
    let all = csv(&late);
    assert_eq!(all.comments().len(), 30_001);
    assert_eq!(all.reasons(), [(30_001, "invalid_utf8")]);
}

#[test]
fn nul_characters_are_removed_and_counted() {
    let all = csv(b"id,text\n1,be\0fore\n2,\0\n3,a long enough text to be no binary file\n");
    assert_eq!(all.texts()[0], "before");
    assert_eq!(all.reasons(), [(2, "blank")]);
    assert_eq!(all.notice("nul_removed").unwrap().count, 2);
}

#[test]
fn gzip_is_known_by_its_content_and_may_have_several_members() {
    let mut packed = gzip(b"id,text\n1,one\n");
    packed.extend(gzip(b"2,two\n"));
    let all = read("mentoring.csv.gz", &packed);
    assert_eq!(all.texts(), ["one", "two"]);
    assert_eq!(all.comments()[0].key.source.as_str(), "mentoring");
    assert_eq!(read("unnamed", &packed).texts(), ["one", "two"]);
    assert!(refused("twice.csv.gz", gzip(&packed)).contains("gzip twice"));
}

#[test]
fn a_gzip_file_that_ends_early_says_so_in_a_failed_row() {
    let mut table = b"id,text\n".to_vec();
    for row in 0..2_000_u32 {
        let noise = row.wrapping_mul(2_654_435_761);
        table.extend(format!("{row},words {noise}\n").as_bytes());
    }
    let packed = gzip(&table);
    let all = read("cut.csv.gz", &packed[..packed.len() / 2]);
    assert!(all.comments().len() > 100);
    assert_eq!(all.failed().len(), 1);
    let last = all.failed()[0];
    assert_eq!(last.reason, "unreadable");
    assert!(last.detail.contains("cannot be read beyond"));
    assert!(refused("cut.gz", &packed[..5]).starts_with("cannot read cut.gz"));
}

#[test]
fn an_error_while_reading_ends_in_one_failed_row() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let reader = Cursor::new(b"id,text\n1,one\n").chain(Failing);
    let mut file = open_reader("f.csv", reader, &options()).unwrap();
    assert!(matches!(file.next(), Some(Row::Comment(_))));
    let Some(Row::Failed(failed)) = file.next() else { panic!("no failed row") };
    assert!(failed.detail.contains("the disk is gone"));
    assert!(file.next().is_none());
}

#[test]
fn what_is_no_text_is_named_with_what_to_do() {
    for (bytes, what) in [
        (&b"PK\x03\x04....[Content_Types].xml..xl/workbook.xml"[..], "Excel workbook"),
        (b"PK\x03\x04....data.csv", "zip archive"),
        (b"%PDF-1.7\n%....", "a PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel"),
        (b"<!DOCTYPE html><html><body>", "a web page"),
        (b"\x00\x01\x02\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00", "a binary file"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
    ] {
        let message = refused("f.csv", bytes);
        assert!(message.contains(what), "{message}");
        assert!(message.starts_with("f.csv is "), "{message}");
    }
}

#[test]
fn an_empty_file_is_refused_and_a_header_alone_is_not() {
    for bytes in [&b""[..], b"\xef\xbb\xbf", b" \n\n", b"\xff\xfe"] {
        assert_eq!(refused("f.csv", bytes), "file is empty: f.csv");
    }
    assert_eq!(refused("f.csv.gz", gzip(b"")), "file is empty: f.csv.gz");
    let all = csv("id,text\r\n");
    assert!(all.rows.is_empty());
    assert!(all.notice("no_rows").is_some());
}

#[test]
fn a_missing_file_and_a_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| open(path, &options()).err().unwrap().to_string();
    assert!(message(folder.path()).contains("is a folder"));
    assert!(message(&folder.path().join("none.csv")).starts_with("cannot open"));
}

#[test]
fn progress_counts_the_bytes_of_the_file_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.csv.gz");
    let packed = gzip(b"id,text\n1,one\n2,two\n");
    std::fs::write(&path, &packed).unwrap();
    let mut file = open(&path, &options()).unwrap();
    assert_eq!(file.total_bytes(), Some(packed.len() as u64));
    assert_eq!(file.by_ref().count(), 2);
    assert_eq!(file.bytes_read(), packed.len() as u64);
    assert_eq!(file.source().as_str(), "some");
}
