//! What holds for any file.

use ::csv::{QuoteStyle, Terminator, WriterBuilder};
use proptest::prelude::*;

use super::*;

fn written(rows: &[(String, String)], delimiter: u8, crlf: bool, all: bool) -> Vec<u8> {
    let mut writer = WriterBuilder::new()
        .delimiter(delimiter)
        .terminator(if crlf { Terminator::CRLF } else { Terminator::Any(b'\n') })
        .quote_style(if all { QuoteStyle::Always } else { QuoteStyle::Necessary })
        .from_writer(Vec::new());
    writer.write_record(["id", "text", "name"]).unwrap();
    for (text, name) in rows {
        writer.write_record(["x", text, name]).unwrap();
    }
    writer.into_inner().unwrap()
}

fn words() -> impl Strategy<Value = String> {
    "[a-c,;\"\n\r\t é🌍']{0,12}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_record_that_is_written_comes_out_as_it_was(
        rows in prop::collection::vec((words(), words()), 0..20),
        delimiter in prop::sample::select(vec![b',', b';', b'\t']),
        crlf: bool,
        all: bool,
    ) {
        let read = csv(written(&rows, delimiter, crlf, all));
        prop_assert_eq!(read.rows.len(), rows.len());
        for (row, (text, _)) in read.rows.iter().zip(&rows) {
            match row {
                Row::Comment(comment) => prop_assert_eq!(&comment.text, text),
                Row::Failed(failed) => {
                    prop_assert_eq!(failed.reason.as_str(), "blank");
                    prop_assert!(text.trim().is_empty());
                }
            }
        }
    }

    #[test]
    fn any_bytes_come_to_an_end(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        head in prop::sample::select(vec![
            &b""[..], b"id,text\n", b"text\n", b"{\"id\":1,\"text\":\"a\"}\n", b"\x1f\x8b\x08\0",
            b"\xff\xfei\0d\0,\0t\0e\0x\0t\0\n\0", b"id,text\n1,\"a\n",
        ]),
        limit in 1_usize..200,
    ) {
        let file = [head, &bytes].concat();
        let options = FileOptions { max_record_bytes: limit, max_text_bytes: 50, ..options() };
        if let Ok(all) = read_with("f.csv", &file, &options) {
            prop_assert!(all.rows.len() <= file.len());
        }
    }

    #[test]
    fn any_marks_and_lines_come_to_an_end(
        body in "[a\"\",,\n\r{}:1]{0,400}",
        head in prop::sample::select(vec!["id,text\n", "id,text,name\n", "text\n", ""]),
        limit in 1_usize..100,
    ) {
        let options = FileOptions { max_record_bytes: limit.max(20), ..options() };
        let file = format!("{head}{body}");
        if let Ok(all) = read_with("f.csv", file.as_bytes(), &options) {
            prop_assert!(all.rows.len() <= file.len());
        }
    }
}
