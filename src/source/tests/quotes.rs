//! Quotation marks, sizes and field counts.

use std::fmt::Write as _;

use super::*;

#[test]
fn quoted_newlines_delimiters_and_marks_are_text() {
    let all = csv("id,text\r\n1,\"one\r\ntwo, \"\"three\"\"\"\r\n\r\n2,\"\"\r\n3,end");
    assert_eq!(all.texts(), ["one\r\ntwo, \"three\"", "end"]);
    assert_eq!(all.reasons(), [(2, "blank")]);
    assert_eq!(all.failed()[0].id.as_deref(), Some("2"));
    assert_eq!(all.failed()[0].detail, "the text is empty (line 5)");
}

#[test]
fn lines_may_end_as_on_old_macs() {
    assert_eq!(csv("id,text\r1,one\r2,two\r").texts(), ["one", "two"]);
}

#[test]
fn a_row_with_another_number_of_fields_fails_alone() {
    let all = csv("id,text,name\n1,one,Ann\n2,two\n3,three, and more,Ann\n4,four,Bob\n");
    assert_eq!(all.ids(), ["1", "4"]);
    assert_eq!(all.reasons(), [(2, "wrong_field_count"), (3, "wrong_field_count")]);
    assert!(all.failed()[1].detail.starts_with("the row has 4 fields and the header 3"));
    assert_eq!(all.failed()[1].raw, "3,three, and more,Ann");
}

#[test]
fn empty_fields_beyond_the_header_lose_nothing() {
    let all = csv("id,text\n1,one,,\n");
    assert_eq!(all.texts(), ["one"]);
    assert_eq!(all.notice("empty_extra_fields").unwrap().count, 1);
}

#[test]
fn marks_that_are_not_doubled_are_kept_as_text() {
    let all = csv("id,text\n1,\"he said \"no\" twice\"\n2,5\" nails\n3,\"a \"b\" c\nand left\"\n");
    assert_eq!(all.texts(), ["he said \"no\" twice", "5\" nails", "a \"b\" c\nand left"]);
    assert_eq!(all.notice("inner_quotes").unwrap().count, 2);
}

#[test]
fn a_mark_never_closed_costs_its_own_row_only() {
    let all = csv("id,text\n1,one\n2,\"two\n3,three\n4,four\n5,five");
    assert_eq!(all.ids(), ["1", "3", "4", "5"]);
    assert_eq!(all.reasons(), [(2, "unterminated_quote")]);
    let failed = all.failed()[0];
    assert_eq!(failed.raw, "2,\"two");
    assert!(failed.detail.ends_with("(line 3)"), "{}", failed.detail);
    let Row::Comment(last) = all.rows.last().unwrap() else { panic!("the last row failed") };
    assert_eq!(last.text, "five");
}

#[test]
fn a_mark_never_closed_in_the_last_row_fails_it() {
    let all = csv("id,text\n1,one\n2,\"cut off in the mid");
    assert_eq!(all.ids(), ["1"]);
    assert_eq!(all.reasons(), [(2, "unterminated_quote")]);
}

#[test]
fn rows_that_run_together_are_not_taken_for_one_comment() {
    let all = csv("id,text,name\n1,\"one,Ann\n2,\"two\",Bob\n3,\"three\",Cy\n");
    assert_eq!(all.reasons(), [(1, "unterminated_quote")]);
    assert!(all.failed()[0].raw.contains("2,\"two\",Bob"));
    assert_eq!(all.ids(), ["3"]);
}

#[test]
fn a_mark_that_would_swallow_a_long_file_costs_its_own_row_only() {
    let mut options = options();
    options.max_record_bytes = 20_000;
    let mut file = "id,text\n1,\"one\n".to_owned();
    for row in 2..5_000 {
        writeln!(file, "{row},words and more words").unwrap();
    }
    let all = read_with("f.csv", file.as_bytes(), &options).unwrap();
    assert_eq!(all.reasons(), [(1, "unterminated_quote")]);
    assert_eq!(all.comments().len(), 4_998);
}

#[test]
fn a_file_of_unclosed_marks_is_read_in_reasonable_time() {
    // Each line ends inside quotation marks, wherever reading begins.
    let mut file = "id,text,name\n".to_owned();
    for _ in 0..60_000 {
        file.push_str("a\",b,\"\n");
    }
    let start = std::time::Instant::now();
    let all = csv(&file);
    assert!(!all.rows.is_empty());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_long_text_fails_and_its_raw_row_is_cut() {
    let long = "é".repeat(2_500_000);
    let all = csv(format!("id,text\n1,\"{long}\"\n2,fine\n"));
    assert_eq!(all.ids(), ["2"]);
    let failed = all.failed()[0];
    assert_eq!((failed.reason.as_str(), failed.id.as_deref()), ("too_large", Some("1")));
    assert!(failed.raw.len() <= 64 * 1024 && failed.raw.len() > 60_000);
    assert!(failed.detail.contains("5000000 bytes"), "{}", failed.detail);
}

#[test]
fn a_record_beyond_the_limit_is_passed_over_without_being_held() {
    let mut options = options();
    options.max_record_bytes = 100_000;
    let long = "one long line, of one long text\n".repeat(50_000);
    for field in [long.replace('\n', " ").replace(',', ""), format!("\"{}\"", long.replace(',', ""))] {
        let file = format!("id,text\n1,{field}\n2,fine\n");
        let all = read_with("f.csv", file.as_bytes(), &options).unwrap();
        assert_eq!(all.reasons(), [(1, "too_large")]);
        assert_eq!(all.ids(), ["2"]);
    }
}

#[test]
fn equal_failed_rows_differ_and_the_same_file_again_does_not() {
    let file = "id,text\n1,\n1,\n2,\n";
    let prints = |all: &All| -> Vec<String> {
        let failed = all.failed();
        failed.iter().map(|f| f.fingerprint.clone()).collect()
    };
    let first = prints(&csv(file));
    assert_eq!(first, prints(&csv(file)));
    assert_ne!(first[0], first[1]);
    assert_ne!(first[0], first[2]);
    assert_eq!(first[0].len(), 64);
    // A row added above changes nothing for those that were there.
    assert_eq!(first, prints(&csv("id,text\n9,words\n1,\n1,\n2,\n")));
}
