//! JSON Lines.

use super::*;

fn json(lines: &str) -> All {
    read("file.jsonl", lines)
}

#[test]
fn a_published_comment_is_read_whole() {
    let all = json(
        "{\"id\":7,\"text\":\"words\",\"revision\":3,\"posted_at\":\"2026-11-02T14:03:22Z\",\
         \"author\":{\"id\":\"u1\",\"name\":\"Ann\",\"email\":\"ann@example.org\"},\
         \"parent_id\":6,\"language\":\"en\",\"groups\":{\"ward\":\"Marlpit\"},\"url\":null}\n",
    );
    let comment = all.comments()[0];
    assert_eq!(comment.key.id.as_str(), "7");
    assert_eq!(comment.revision, Some(3));
    assert_eq!(comment.author.id.as_deref(), Some("u1"));
    assert_eq!(comment.author.name.as_deref(), Some("Ann"));
    assert_eq!(comment.parent_id.as_deref(), Some("6"));
    assert_eq!(comment.groups["ward"], "Marlpit");
    assert_eq!(comment.posted_at.unwrap().to_string(), "2026-11-02T14:03:22Z");
    assert!(all.notices.is_empty(), "{:?}", all.notices);
}

#[test]
fn what_moothall_writes_it_reads_again() {
    let all = json("{\"id\":\"a\",\"text\":\"words\",\"author\":\"u2\",\"source\":\"post\"}");
    let wire = crate::wire::CommentV1::from(all.comments()[0]);
    let again = json(&serde_json::to_string(&wire).unwrap());
    assert_eq!(again.rows, all.rows);
}

#[test]
fn other_usual_names_are_understood_and_the_exact_one_wins() {
    let all = json(
        "{\"comment_id\":1,\"comment\":\"a\",\"name\":\"Ann\",\"mood\":1}\n{\"id\":2,\"body\":\"b\",\"text\":\"c\"}",
    );
    assert_eq!((all.ids(), all.texts()), (vec!["1", "2"], vec!["a", "c"]));
    assert!(all.notice("columns_ignored").unwrap().text.contains("`mood`"));
    let options = FileOptions { map: vec![("text".to_owned(), "Words".to_owned())], ..options() };
    let all = read_with("f.jsonl", b"{\"text\":\"a\",\"words\":\"b\"}", &options).unwrap();
    assert_eq!(all.texts(), ["b"]);
}

#[test]
fn a_bad_line_fails_alone_and_its_text_is_not_repeated() {
    let all = json(
        "{\"id\":1,\"text\":\"one\"}\n\n{\"id\":2,\"text\":\"secret\n{\"id\":3,\"text\":4}\n\
         [1]\n{\"id\":5}\n{\"id\":6,\"text\":\" \"}\n{\"text\":\"\\ud800\"}\n{\"id\":8,\"text\":\"end\"}",
    );
    assert_eq!(all.ids(), ["1", "8"]);
    let unreadable = "unreadable";
    assert_eq!(
        all.reasons(),
        [(3, unreadable), (4, unreadable), (5, unreadable), (6, "no_text"), (7, "blank"), (8, unreadable)]
    );
    let failed = all.failed();
    assert!(failed.iter().all(|f| !f.detail.contains("secret")));
    assert!(failed[0].detail.contains("not valid JSON"), "{}", failed[0].detail);
    assert!(failed[1].detail.starts_with("`text` is a number"), "{}", failed[1].detail);
    assert!(failed[1].detail.ends_with("(line 4)"));
}

#[test]
fn content_decides_where_the_name_is_wrong() {
    assert_eq!(csv("{\"id\":1,\"text\":\"a\"}\n").texts(), ["a"]);
    assert_eq!(json("id,text\n1,a\n").texts(), ["a"]);
    let all = json("broken\n{\"id\":1,\"text\":\"a\"}\n");
    assert_eq!((all.texts(), all.reasons()), (vec!["a"], vec![(1, "unreadable")]));
}

#[test]
fn a_list_is_refused_with_a_way_out() {
    for file in ["[{\"id\":1}]", "[\n {\"id\":1}\n]", "{\n  \"id\": 1\n}"] {
        let message = refused("f.json", file);
        assert!(message.contains("one object on each line"), "{message}");
    }
}

#[test]
fn a_line_beyond_the_limit_is_passed_over() {
    let mut options = options();
    options.max_record_bytes = 200_000;
    let long = "x".repeat(1_000_000);
    let file = format!("{{\"id\":1,\"text\":\"{long}\"}}\n{{\"id\":2,\"text\":\"b\"}}\n");
    let all = read_with("f.jsonl", file.as_bytes(), &options).unwrap();
    assert_eq!((all.ids(), all.reasons()), (vec!["2"], vec![(1, "too_large")]));
    assert_eq!(all.failed()[0].raw.len(), 64 * 1024);
    assert!(all.failed()[0].detail.contains("1000018 bytes"), "{}", all.failed()[0].detail);
}
