//! Dates over a whole file.

use super::*;

fn posted(all: &All) -> Vec<String> {
    let comments = all.comments();
    let date = |c: &&Comment| c.posted_at.map_or("none".to_owned(), |at| at.to_string());
    comments.iter().map(date).collect()
}

fn dated(dates: &[&str]) -> String {
    let rows = dates.iter().map(|date| format!("words,{date}\n"));
    format!("text,date\n{}", rows.collect::<String>())
}

#[test]
fn the_rows_show_which_number_is_the_month() {
    let all = csv(dated(&["02/11/2026", "11/25/2026"]));
    assert_eq!(posted(&all), ["2026-02-11T00:00:00Z", "2026-11-25T00:00:00Z"]);
    assert!(all.notice("date_order_assumed").is_none());
    let all = csv(dated(&["02/11/2026", "25/11/2026"]));
    assert_eq!(posted(&all)[0], "2026-11-02T00:00:00Z");
    assert!(all.notice("date_order_assumed").is_none());
}

#[test]
fn the_day_comes_first_where_nothing_shows_it_and_a_notice_says_so() {
    let file = dated(&["02/11/2026", "3/11/26"]);
    let all = csv(&file);
    assert_eq!(posted(&all), ["2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"]);
    let notice = all.notice("date_order_assumed").unwrap();
    assert_eq!(notice.count, 2);
    assert!(notice.text.contains("--date-order mdy"));
    let options = FileOptions { day_first: Some(false), ..options() };
    let all = read_with("f.csv", file.as_bytes(), &options).unwrap();
    assert_eq!(posted(&all)[0], "2026-02-11T00:00:00Z");
    assert!(all.notice("date_order_assumed").is_none());
}

#[test]
fn dates_that_contradict_each_other_are_remarked_on() {
    let all = csv(dated(&["25/11/2026", "26/11/2026", "11/27/2026"]));
    assert_eq!(posted(&all)[2], "2026-11-27T00:00:00Z");
    let notice = all.notice("date_order_contradicted").unwrap();
    assert_eq!(notice.count, 1);
    assert!(notice.text.contains("row 3"), "{}", notice.text);
}

#[test]
fn a_date_that_cannot_be_read_costs_the_comment_nothing_else() {
    let all = csv(dated(&["2026-11-02", "last spring", "", "32/13/2026"]));
    assert_eq!(posted(&all)[1..], ["none", "none", "none"]);
    let notice = all.notice("date_unreadable").unwrap();
    assert_eq!(notice.count, 2);
    assert!(notice.text.contains("row 2"), "{}", notice.text);
    assert!(!notice.text.contains("spring"));
}
