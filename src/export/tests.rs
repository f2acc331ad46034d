//! The whole folder, read back as its readers would.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::sample::{Shelf, at, comment, comments, failed, redactor, rulebook};
use super::*;
use crate::domain::decision::{ReasonKey, Verdict};
use crate::domain::opinion::Attitude;
use crate::domain::reading::PiiKind;

fn options(out_dir: &Path) -> ExportOptions {
    ExportOptions {
        out_dir: out_dir.to_owned(),
        as_at: at("2026-03-20T07:00:00Z"),
        pseudonym_key: [7; 32],
        in_queue: Depth { waiting: 3, in_flight: 1, parked: 2 },
        restricted: true,
        redactor: redactor(),
        run: RunInfo {
            id: "run-1".to_owned(),
            started_at: at("2026-03-20T07:00:01Z"),
            software: "moothall 0.1.0".to_owned(),
        },
        reliability: vec![Reliability {
            name: "F1 over the headline themes".to_owned(),
            figure: 0.824,
            interval: Some((0.79, 0.853)),
            n: 319,
            data: "A council's comments, coded by two people".to_owned(),
        }],
    }
}

async fn write(shelf: &Shelf, themes: Option<usize>, out_dir: &Path) -> Outcome {
    write_all(shelf, &rulebook(themes), options(out_dir)).await.unwrap()
}

fn shelf(count: i64, themes: Option<usize>) -> Shelf {
    Shelf { comments: comments(count, &rulebook(themes)), failed: failed(7), ..Shelf::default() }
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// A table by its header, and proof that it follows the rules of every CSV file.
fn table(folder: &Path, name: &str) -> Vec<HashMap<String, String>> {
    let text = text(folder, name);
    let body = text.strip_prefix('\u{feff}').expect("a byte-order mark");
    assert!(body.ends_with("\r\n"));
    let mut reader = csv::Reader::from_reader(body.as_bytes());
    let rows: Vec<HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    for (column, cell) in rows.iter().flatten() {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{name} {column}: {cell:?} is a formula");
        let hidden = |c: char| !matches!(c, '\n' | '\t' | '\r') && crate::assess::report::hidden(c);
        assert!(!cell.contains(hidden), "{name} {column} hides a character");
    }
    rows
}

fn plain(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| super::cells::inert(rest) != *rest).unwrap_or(cell)
}

const SHARED: [&str; 8] = [
    "responses.csv",
    "responses.jsonl",
    "tags.csv",
    "theme_summary.csv",
    "exclusions.csv",
    "data_dictionary.csv",
    "report.html",
    "README.txt",
];

#[tokio::test]
async fn every_table_reconciles_with_the_summary() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = write(&shelf(900, Some(8)), Some(8), dir.path()).await;
    let summary = &outcome.summary;
    assert!(summary.reconciles());
    let rows = table(dir.path(), "responses.csv");
    assert_eq!(rows.len() as u64, summary.received() - 4 - 2, "all but what is in the queue");
    let mut status: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &rows {
        *status.entry(&row["status"]).or_default() += 1;
    }
    let expected = [
        ("escalated", summary.funnel.escalated),
        ("excluded", summary.excluded_total()),
        ("failed", 7),
        ("held", summary.funnel.held),
        ("included", summary.included),
    ];
    assert_eq!(status, expected.into());
    assert!(expected.iter().all(|(_, count)| *count > 0), "the sample has every kind");
    let ids: HashSet<&str> = rows.iter().map(|row| row["response_id"].as_str()).collect();
    assert_eq!(ids.len(), rows.len());
    let tags = table(dir.path(), "tags.csv");
    for theme in &summary.themes {
        let column = format!("theme_{}", theme.id);
        assert_eq!(rows.iter().filter(|row| row[&column] == "1").count() as u64, theme.ways.all);
        assert_eq!(tags.iter().filter(|tag| tag["theme_key"] == theme.id.as_str()).count() as u64, theme.ways.all);
    }
    let lines: Vec<serde_json::Value> =
        text(dir.path(), "responses.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(line["response_id"], row["response_id"]);
        assert_eq!(line["status"], row["status"]);
    }
    let not_counted = table(dir.path(), "exclusions.csv").len() as u64;
    assert_eq!(not_counted, summary.excluded_total() + summary.funnel.held + 7);
    let described: HashSet<String> = table(dir.path(), "data_dictionary.csv")
        .into_iter()
        .filter(|row| row["table"] == "responses")
        .map(|row| row["column"].clone())
        .collect();
    assert_eq!(described, rows[0].keys().cloned().collect());
}

#[tokio::test]
async fn the_same_content_gives_the_same_bytes_except_for_the_run() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shelf = shelf(600, Some(8));
    let paths = write(&shelf, Some(8), one.path()).await.paths;
    let mut later = options(other.path());
    later.run.id = "run-2".to_owned();
    write_all(&shelf, &rulebook(Some(8)), later).await.unwrap();
    assert!(paths.len() > 12);
    for path in paths {
        let name = path.strip_prefix(one.path()).unwrap();
        let same = std::fs::read(&path).unwrap() == std::fs::read(other.path().join(name)).unwrap();
        assert_eq!(same, name != Path::new(RUN_FILE), "{}", name.display());
    }
}

#[tokio::test]
async fn an_escalated_comment_leaves_an_id_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "He locks me in the boiler room when my mentor has gone home.";
    let mut harmed = comment(2, secret)
        .tagged("stigma", 0.9, Attitude::Negative, secret)
        .judged(Verdict::Escalate, ReasonKey::SAFEGUARDING_DISCLOSURE);
    harmed.comment.groups.insert("ward".to_owned(), "Boilerward".to_owned());
    harmed.comment.key.source = crate::domain::comment::SourceName::new("boilerform").unwrap();
    let shelf = Shelf {
        comments: vec![comment(1, "A fine scheme for all of us."), harmed],
        failed: Vec::new(),
        ..Shelf::default()
    };
    write(&shelf, Some(8), dir.path()).await;
    let rows = table(dir.path(), "responses.csv");
    let row = rows.last().unwrap();
    let filled: HashSet<&str> =
        row.iter().filter(|(_, cell)| !cell.is_empty()).map(|(column, _)| column.as_str()).collect();
    assert_eq!(filled, ["response_id", "consultation_id", "status"].into());
    for name in SHARED.iter().chain(&["run.json", "restricted/key.csv", "restricted/excluded_texts.csv"]) {
        let text = text(dir.path(), name).to_lowercase();
        assert!(!text.contains("boiler") && !text.contains("person-2"), "{name} tells of it");
    }
    let disclosures = table(dir.path(), "restricted/disclosures.csv");
    assert_eq!(disclosures[0]["text"], secret);
    assert_eq!(disclosures[0]["escalated_id"], row["response_id"]);
    assert!(disclosures[0]["why"].starts_with("safeguarding.disclosure 0.93"));
}

#[tokio::test]
async fn restricted_files_are_for_their_owner_and_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = write(&shelf(50, Some(8)), Some(8), dir.path()).await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join(RESTRICTED)), 0o700);
        let restricted: Vec<_> =
            outcome.paths.iter().filter(|path| path.parent().unwrap().ends_with(RESTRICTED)).collect();
        assert_eq!(restricted.len(), 4);
        assert!(restricted.iter().all(|path| mode(path) == 0o600));
    }
    let plain = tempfile::tempdir().unwrap();
    let mut shared = options(plain.path());
    shared.restricted = false;
    write_all(&shelf(50, Some(8)), &rulebook(Some(8)), shared).await.unwrap();
    assert!(!plain.path().join(RESTRICTED).exists());
}

#[tokio::test]
async fn personal_data_and_rejected_texts_stay_restricted() {
    let dir = tempfile::tempdir().unwrap();
    let named = comment(1, "=Ask née Jayden at jay@b.uk: they gave him a purple pass.")
        .with_pii(PiiKind::Name, "Jayden", false)
        .with_pii(PiiKind::Email, "jay@b.uk", true)
        .tagged("stigma", 0.9, Attitude::Negative, "Jayden at jay@b.uk: they gave him a purple pass")
        .tagged("organic", 0.55, Attitude::Mixed, "he");
    let mut late = comment(2, "Late word from Jayden.").with_pii(PiiKind::Name, "Jayden", true);
    late.comment.posted_at = Some(at("2026-05-01T00:00:00Z"));
    let mut gone = comment(5, "Jayden withdrew this unkindword");
    gone.withdrawn = true;
    let shelf = Shelf {
        comments: vec![
            named,
            late,
            comment(3, "unkindword for Jayden").judged(Verdict::Reject, ReasonKey::ABUSE_INSULT),
            comment(4, "unkindword perhaps, Jayden").judged(Verdict::Hold, ReasonKey::LOW_CONFIDENCE),
            gone,
        ],
        failed: failed(2),
        ..Shelf::default()
    };
    write(&shelf, Some(8), dir.path()).await;
    for name in SHARED {
        let text = text(dir.path(), name);
        for secret in ["Jayden", "jay@b.uk", "unkindword", "person-", "secret raw"] {
            assert!(!text.contains(secret), "{name} holds {secret}");
        }
    }
    let rows = table(dir.path(), "responses.csv");
    assert_eq!(plain(&rows[0]["text_redacted"]), "=Ask née [name] at [email]: they gave him a purple pass.");
    for tag in table(dir.path(), "tags.csv") {
        let place = |column: &str| tag[column].parse().unwrap();
        let span = Span { start: place("evidence_start"), end: place("evidence_end") };
        assert_eq!(span.slice(plain(&rows[0]["text_redacted"])), plain(&tag["evidence_text"]));
    }
    assert_eq!((rows[1]["status_reason"].as_str(), rows[1]["status_by"].as_str()), ("late", "built-in"));
    let texts = table(dir.path(), "restricted/excluded_texts.csv");
    assert_eq!(texts.iter().map(|row| row["status"].as_str()).collect::<Vec<_>>(), ["excluded", "held"]);
    assert!(!text(dir.path(), "restricted/excluded_texts.csv").contains("withdrew"));
    assert_eq!(table(dir.path(), "restricted/failed_rows.csv")[0]["raw"], "'=raw 1,\u{fffd}secret raw");
}

#[tokio::test]
async fn hostile_text_is_only_ever_text() {
    let dir = tempfile::tempdir().unwrap();
    let bad = "</p><script>alert('x')</script><img src=x onerror=alert(1)> & more of the same";
    let mut hostile = comment(1, bad).tagged("stigma", 0.95, Attitude::Negative, bad);
    hostile.comment.groups.insert("=cmd|'/c calc'!A1".to_owned(), "@SUM(1)<b>\u{202e}".to_owned());
    hostile.comment.key.source = crate::domain::comment::SourceName::new("+source").unwrap();
    let mut shelf = Shelf { comments: vec![hostile], failed: Vec::new(), ..Shelf::default() };
    for sequence in 2..30 {
        let mut next = shelf.comments[0].clone();
        next.sequence = sequence;
        next.comment.key.id = crate::domain::comment::CommentId::new(format!("c{sequence}")).unwrap();
        next.comment.author.id = Some(format!("<i>{sequence}"));
        shelf.comments.push(next);
    }
    let mut book = rulebook(Some(8));
    "<script>title</script>".clone_into(&mut book.consultation.title);
    if let Some(codebook) = &mut book.codebook {
        "<script>label</script>".clone_into(&mut codebook.themes[0].label);
    }
    write_all(&shelf, &book, options(dir.path())).await.unwrap();
    let page = text(dir.path(), "report.html");
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>\u{202e}"));
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    for name in ["responses.csv", "tags.csv", "crosstab.csv", "campaigns.csv", "restricted/key.csv"] {
        assert!(!table(dir.path(), name).is_empty());
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_outside() {
    for (count, themes) in [(0, Some(8)), (0, None), (300, Some(8)), (300, None), (300, Some(20))] {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = shelf(count, themes);
        if count == 0 {
            shelf.failed.clear();
        }
        write(&shelf, themes, dir.path()).await;
        let page = text(dir.path(), "report.html");
        for outside in ["http://", "https://", "<script", "@import", "NaN", "inf%"] {
            assert!(!page.contains(outside), "{count} {themes:?}: {outside}");
        }
        assert_eq!(page.matches("<h1").count(), 1);
        assert_eq!(page.contains("id=\"themes\""), themes.is_some());
        let mut ids = HashSet::new();
        for part in page.split(" id=\"").skip(1) {
            let id = part.split('"').next().unwrap();
            assert!(ids.insert(id), "{id} stands twice");
        }
        for part in page.split("href=\"#").skip(1) {
            assert!(ids.contains(part.split('"').next().unwrap()));
        }
    }
}

#[tokio::test]
async fn an_earlier_export_is_replaced_and_other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("minutes.txt"), "mine").unwrap();
    write(&shelf(400, Some(8)), Some(8), dir.path()).await;
    assert!(dir.path().join("campaigns.csv").exists());
    write(&shelf(3, Some(8)), Some(8), dir.path()).await;
    assert!(!dir.path().join("campaigns.csv").exists(), "an old table must not outlive its reason");
    assert_eq!(text(dir.path(), "minutes.txt"), "mine");
    assert!(!dir.path().join(".moothall-partial").exists());
}

#[tokio::test]
async fn comments_that_change_between_the_passes_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut shelf = shelf(20, Some(8));
    shelf.restless = 4.into();
    assert!(write(&shelf, Some(8), dir.path()).await.summary.reconciles());
    shelf.restless = 99.into();
    let refused = write_all(&shelf, &rulebook(Some(8)), options(dir.path())).await;
    assert!(matches!(refused, Err(ExportError::Changed)));
    assert!(dir.path().join(RUN_FILE).exists(), "the earlier export stays whole");
    assert!(!dir.path().join(".moothall-partial").exists());
}

#[test]
fn the_terminal_says_disclosures_first_and_fits() {
    let book = rulebook(Some(20));
    let mut builder = SummaryBuilder::new(&book, days::zone("Europe/London"));
    for stored in &comments(900, &book) {
        builder.push(stored);
    }
    let text = terminal_summary(&builder.finish(waiting(Depth::default())).0);
    assert!(text.starts_with('!') && text.lines().nth(1).unwrap().contains("DISCLOSURES OF HARM"));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let empty = SummaryBuilder::new(&book, days::zone("Europe/London")).finish(waiting(Depth::default())).0;
    assert!(terminal_summary(&empty).contains("Nothing needs a person."));
}

/// Writes folders to look at: `MOOTHALL_SAMPLE=/tmp/sample cargo test sample_pages`.
#[tokio::test]
async fn sample_pages() {
    let Some(out) = std::env::var_os("MOOTHALL_SAMPLE") else { return };
    let out = Path::new(&out);
    for (name, count, themes) in
        [("mentoring", 1900, Some(8)), ("empty", 0, Some(8)), ("none", 300, None), ("many", 900, Some(20))]
    {
        let mut shelf = shelf(count, themes);
        if count == 0 {
            shelf.failed.clear();
        }
        let folder = out.join(name);
        let outcome = write(&shelf, themes, &folder).await;
        std::fs::write(folder.join("terminal.txt"), terminal_summary(&outcome.summary)).unwrap();
    }
}
