//! Column names, given and guessed, and what becomes of the values.

use super::*;

fn mapped(pairs: &[(&str, &str)]) -> FileOptions {
    let pair = |(field, column): &(&str, &str)| ((*field).to_owned(), (*column).to_owned());
    FileOptions { map: pairs.iter().map(pair).collect(), ..options() }
}

fn refused_with(bytes: &str, options: &FileOptions) -> String {
    let outcome = read_with("f.csv", bytes.as_bytes(), options);
    outcome.err().expect("the file is refused").to_string()
}

#[test]
fn the_shipped_columns_fill_every_field() {
    let all = csv("id,text,author,email,posted_at,url,parent_id,respondent_type,age_band,ward,group_role\n\
         4128,words,K.,k@example.org,2026-11-02T11:48:23Z,https://example.org/#1,4100,individual,\
         16-18,Weighbridge,parent\n");
    let comment = all.comments()[0];
    assert_eq!(comment.author.name.as_deref(), Some("K."));
    assert_eq!(comment.author.email.as_deref(), Some("k@example.org"));
    assert_eq!(comment.posted_at.unwrap().to_string(), "2026-11-02T11:48:23Z");
    assert_eq!(comment.parent_id.as_deref(), Some("4100"));
    let groups: Vec<_> = comment.groups.iter().collect();
    let pair = |(a, b): &(&String, &String)| format!("{a}={b}");
    assert_eq!(
        groups.iter().map(pair).collect::<Vec<_>>(),
        ["age_band=16-18", "respondent_type=individual", "role=parent", "ward=Weighbridge"]
    );
    assert_eq!(comment.key.consultation.as_str(), "mentoring");
    assert!(all.notices.is_empty());
}

#[test]
fn names_differ_in_case_and_spaces_only_by_accident() {
    for header in ["Response ID,RESPONSE", "comment_ID,comment_content", "Ref,Your-Text\u{a0}"] {
        let options = if header.starts_with("Ref") { mapped(&[("text", "your text")]) } else { options() };
        let file = format!("{header}\n7,words\n");
        let all = read_with("f.csv", file.as_bytes(), &options).unwrap();
        assert_eq!((all.ids(), all.texts()), (vec!["7"], vec!["words"]), "{header}");
    }
}

#[test]
fn the_wordpress_export_is_understood() {
    let all = csv("comment_ID,comment_author,comment_author_email,comment_author_url,comment_date,\
         comment_date_gmt,comment_content,comment_parent,user_id\n\
         5,Ann,ann@example.org,,2026-07-01 13:00:00,2026-07-01 12:00:00,words,0,0\n");
    let comment = all.comments()[0];
    assert_eq!(comment.posted_at.unwrap().to_string(), "2026-07-01T12:00:00Z");
    assert_eq!(comment.parent_id, None);
    assert_eq!(all.notice("columns_ignored").unwrap().count, 2);
}

#[test]
fn delimiters_are_told_from_the_header() {
    for (name, file) in [
        ("f.csv", "id;text\n1;a, b\n"),
        ("f.tsv", "id\ttext\n1\ta, b\n"),
        ("f.csv", "id\ttext\n1\ta, b\n"),
        ("f.csv", "sep=;\r\nid;text\r\n1;a, b\r\n"),
        ("f.csv", "\"text, all of it\";id;text\nx;1;a, b\n"),
    ] {
        assert_eq!(read(name, file).texts(), ["a, b"], "{file:?}");
    }
    assert_eq!(csv("text\nfirst\nsecond, too\n").reasons(), [(2, "wrong_field_count")]);
}

#[test]
fn an_exact_name_wins_over_another_usual_one() {
    let all = csv("comment,text,id\nnot me,me,1\n");
    assert_eq!(all.texts(), ["me"]);
    let message = refused("f.csv", "id,comment,response\n1,a,b\n");
    assert_eq!(
        message,
        "f.csv: the columns `comment`, `response` could each be `text`: choose one with \
         `--map text=COLUMN`"
    );
    let options = mapped(&[("text", "response")]);
    let all = read_with("f.csv", b"id,comment,response\n1,a,b\n", &options).unwrap();
    assert_eq!(all.texts(), ["b"]);
}

#[test]
fn a_file_without_a_text_column_names_what_it_has() {
    let message = refused("f.csv", "id,What do you think?\n1,words\n");
    assert!(message.contains("its columns are `id`, `What do you think?`"), "{message}");
    assert!(message.contains("--map text=COLUMN"), "{message}");
    let options = mapped(&[("text", "What do you think?")]);
    let all = read_with("f.csv", b"id,What do you think?\n1,words\n", &options).unwrap();
    assert_eq!(all.texts(), ["words"]);
}

#[test]
fn a_wrong_map_is_answered_with_what_exists() {
    let message = refused_with("id,text\n", &mapped(&[("txt", "text")]));
    assert!(message.contains("unknown field `txt`"), "{message}");
    assert!(message.contains("id, text, author"), "{message}");
    let message = refused_with("id,text\n", &mapped(&[("text", "Words")]));
    assert!(message.contains("no column `Words` (`--map text=Words`)"), "{message}");
    let mut options = options();
    options.groups.push("Role".to_owned());
    let message = refused_with("id,text\n", &options);
    assert!(message.contains("no column `Role` (`--group Role`)"), "{message}");
}

#[test]
fn a_column_named_by_group_becomes_a_breakdown() {
    let mut options = options();
    options.groups.push("Home Town".to_owned());
    let all = read_with("f.csv", b"id,text,home town\n1,words, Sorrel \n", &options).unwrap();
    assert_eq!(all.comments()[0].groups["home_town"], "Sorrel");
}

#[test]
fn a_row_without_an_id_gets_one_from_its_content() {
    let file = "text,name\nyes,Ann\nyes,Bob\nyes,Ann\n";
    let first = csv(file);
    let ids = first.ids();
    assert_eq!(ids, csv(file).ids());
    assert!(ids[0].starts_with("row-") && ids[0].ends_with("-1"), "{}", ids[0]);
    assert_eq!(ids[2], ids[0].replace("-1", "-2").as_str());
    assert_ne!(ids[0], ids[1]);
    assert_eq!(first.notice("id_derived").unwrap().count, 3);
    // The order of columns and rows does not matter.
    let other = csv("name,text\nBob,yes\nAnn,yes\nAnn,yes\n");
    assert_eq!(other.ids(), [ids[1], ids[0], ids[2]]);
}

#[test]
fn source_and_consultation_come_from_the_options_first() {
    let file = b"id,text,source,consultation\n1,words,post,parking\n";
    let all = read_with("f.csv", file, &options()).unwrap();
    assert_eq!(all.comments()[0].key.source.as_str(), "post");
    assert_eq!(all.comments()[0].key.consultation.as_str(), "mentoring");
    assert_eq!(all.notice("other_consultation").unwrap().count, 1);
    let told = FileOptions { source: SourceName::new("web"), consultation_from_rows: true, ..options() };
    let all = read_with("f.csv", file, &told).unwrap();
    assert_eq!(all.comments()[0].key.source.as_str(), "web");
    assert_eq!(all.comments()[0].key.consultation.as_str(), "parking");
}

#[test]
fn sources_are_named_after_the_file() {
    for (name, expected) in [
        ("a/b/mentoring.csv.gz", "mentoring"),
        ("Spring.2026.CSV", "Spring.2026"),
        (".csv", ".csv"),
        ("stdin", "stdin"),
        ("élan.jsonl", "élan"),
    ] {
        assert_eq!(stem(name), expected);
    }
}
