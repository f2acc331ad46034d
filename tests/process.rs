//! `moothall process` as a person runs it: the built binary, real models, real files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const AS_AT: &str = "2026-11-23T09:00:00Z";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn moothall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .env("MOOTHALL_PSEUDONYM_KEY", KEY)
        .stdin(Stdio::null());
    command
}

fn process(files: &[&Path], out: &Path, more: &[&str]) -> Command {
    let mut command = moothall(&["process", "--as-at", AS_AT, "--out"]);
    command.arg(out).args(files).args(more);
    command
}

fn finished(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "exit {:?}\n{text}", output.status.code());
    text
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mentoring.csv")
}

/// The first `rows` comments of the example, so that a test takes seconds.
fn part_of_example(folder: &Path, rows: usize) -> PathBuf {
    let mut reader = csv::ReaderBuilder::new().from_path(example()).unwrap();
    let path = folder.join("mentoring.csv");
    let mut writer = csv::Writer::from_path(&path).unwrap();
    writer.write_record(reader.headers().unwrap()).unwrap();
    for record in reader.records().take(rows) {
        writer.write_record(&record.unwrap()).unwrap();
    }
    writer.flush().unwrap();
    path
}

/// Every shared file by name, without what a run says of itself and without the restricted folder.
fn exports(out: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.file_name().unwrap() != "run.json")
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect()
}

fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let header = reader.headers().unwrap().clone();
    reader
        .records()
        .map(|record| header.iter().map(str::to_owned).zip(record.unwrap().iter().map(str::to_owned)).collect())
        .collect()
}

#[test]
fn a_run_that_was_killed_goes_on_and_ends_byte_for_byte_like_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = part_of_example(folder.path(), 120);
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    finished(&process(&[&file], &whole, &[]).output().unwrap());

    let mut kills = 0;
    for _ in 0..3 {
        // Small batches, so that the kill falls between two of them.
        let mut child = process(&[&file], &broken, &["--threads", "1"])
            .env("MOOTHALL_WORKER_BATCH", "8")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let journal = broken.join("restricted/moothall.db-wal");
        while started.elapsed() < Duration::from_mins(1) && child.try_wait().unwrap().is_none() {
            let grown = fs::metadata(&journal).map_or(0, |meta| meta.len());
            if grown > 150_000 + kills * 60_000 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap(); // SIGKILL
            kills += 1;
        }
        child.wait().unwrap();
    }
    assert!(kills > 0, "no run was killed half-way");
    assert!(!broken.join("report.html").exists() || kills < 3, "a killed run leaves no half-written report");
    finished(&process(&[&file], &broken, &[]).output().unwrap());

    let (whole, broken) = (exports(&whole), exports(&broken));
    assert_eq!(whole.keys().collect::<Vec<_>>(), broken.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(*bytes == broken[name], "{name} differs after {kills} kills");
    }
}

#[test]
fn the_same_file_twice_changes_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = part_of_example(folder.path(), 40);
    let out = folder.path().join("out");
    finished(&process(&[&file], &out, &[]).output().unwrap());
    let before = exports(&out);
    let said = finished(&process(&[&file], &out, &[]).output().unwrap());
    assert!(said.contains("Nothing new: all 40 rows were here already"), "{said}");
    assert_eq!(before, exports(&out));
}

#[test]
fn every_row_of_the_example_is_accounted_for_and_what_must_hold_holds() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let said = finished(&process(&[&example()], &out, &[]).output().unwrap());

    let expected = rows(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mentoring_expected.csv"));
    let responses = rows(&out.join("responses.csv"));
    assert_eq!(responses.len(), expected.len(), "one row for every row that came in");
    let received = said.lines().find(|line| line.starts_with("Received")).unwrap();
    assert!(received.ends_with(&format!(" {}", expected.len())), "{received}");
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains(&expected.len().to_string()));

    let kind: BTreeMap<&str, &str> = expected.iter().map(|row| (row["id"].as_str(), row["kind"].as_str())).collect();
    let keys = rows(&out.join("restricted/key.csv"));
    let status: BTreeMap<&str, &str> =
        responses.iter().map(|row| (row["response_id"].as_str(), row["status"].as_str())).collect();
    let disclosures = rows(&out.join("restricted/disclosures.csv"));
    let id_column = "source_id";
    let escalated: Vec<&str> = disclosures.iter().map(|row| row[id_column].as_str()).collect();
    for (id, kind) in &kind {
        if *kind == "disclosure" {
            assert!(escalated.contains(id), "disclosure {id} reached nobody");
        }
    }
    for row in &keys {
        let (id, response) = (row[id_column].as_str(), row["response_id"].as_str());
        if kind.get(id) == Some(&"angry_legitimate") {
            let status = status.get(response).copied().unwrap_or("escalated");
            assert_ne!(status, "excluded", "legitimate anger {id} was excluded");
        }
    }
    // What only the safeguarding lead may see is in no shared file.
    for disclosure in &disclosures {
        let words: Vec<&str> = disclosure["text"].split_whitespace().collect();
        if words.len() < 6 {
            continue;
        }
        let middle = words[words.len() / 2 - 2..words.len() / 2 + 2].join(" ");
        for (name, bytes) in exports(&out) {
            assert!(!String::from_utf8_lossy(&bytes).contains(&middle), "a disclosure's words are in {name}");
        }
    }
}

#[cfg(unix)]
#[test]
fn the_restricted_folder_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = part_of_example(folder.path(), 5);
    let out = folder.path().join("out");
    finished(&process(&[&file], &out, &[]).output().unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&out.join("restricted")), 0o700);
    for entry in fs::read_dir(out.join("restricted")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[test]
fn rows_that_cannot_be_read_are_kept_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rough.csv");
    let mut bytes = b"id,text,posted_at\n".to_vec();
    bytes.extend_from_slice(b"1,\"My mentor stayed with me for two years.\",2026-11-03T10:00:00Z\n");
    bytes.extend_from_slice(b"1,\"Another text under the same id.\",2026-11-03T10:00:00Z\n");
    bytes.extend_from_slice(b"2,\"   \",2026-11-03T10:00:00Z\n");
    bytes.extend_from_slice(b"3,\"bad byte \xff here\",2026-11-03T10:00:00Z\n");
    bytes.extend_from_slice(b"4,\"=HYPERLINK(\"\"http://x.example\"\",\"\"free\"\")\",31/31/2026\n");
    bytes.extend_from_slice(b"5,too,many,fields,here\n");
    bytes.extend_from_slice(b"6,\"nul \0 inside a fair comment about buddies\",not a date\n");
    bytes.extend_from_slice(
        "7,\"<b>Hello</b> \u{202e}gnitirw\u{202c} <script>alert(1)</script> mentors help\",2026-11-04\n".as_bytes(),
    );
    bytes.extend_from_slice(format!("8,\"{}\",2026-11-05\n", "very long ".repeat(500_000)).as_bytes());
    fs::write(&file, bytes).unwrap();
    let out = folder.path().join("out");
    let output = process(&[&file], &out, &["--strict"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let failed = rows(&out.join("restricted/failed_rows.csv"));
    let reasons: Vec<&str> = failed.iter().map(|row| row["reason"].as_str()).collect();
    for reason in ["duplicate_id", "blank", "invalid_utf8", "wrong_field_count", "too_large"] {
        assert!(reasons.contains(&reason), "{reason} is not in {reasons:?}\n{said}");
    }
    assert_eq!(rows(&out.join("responses.csv")).len(), 9);
    let csv = fs::read_to_string(out.join("responses.csv")).unwrap();
    assert!(!csv.contains(",=HYPERLINK") && !csv.contains("\"=HYPERLINK"), "a formula could run");
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(!html.contains("<script>alert"), "comment text is escaped");
}

#[test]
fn what_is_no_file_of_comments_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let cases: [(&str, &[u8], &str); 3] = [
        ("empty.csv", b"", "empty"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01", "picture.csv"),
        ("columns.csv", b"name,age\nA,7\n", "--map"),
    ];
    for (name, bytes, expected) in cases {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let output = process(&[&file], &out, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name} was taken");
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
    let output = process(&[Path::new("nowhere.csv")], &out, &[]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_disclosure_is_listed_and_acknowledged_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.jsonl");
    fs::write(
        &file,
        "{\"id\":\"d1\",\"text\":\"my stepdad hits me when mum is at work and i dont want to go home\"}\n",
    )
    .unwrap();
    let out = folder.path().join("out");
    let said = finished(&process(&[&file], &out, &[]).output().unwrap());
    assert!(said.contains("DISCLOSURE"), "{said}");
    let list = |more: &[&str]| {
        let mut command = moothall(&["safeguarding", "--out"]);
        command.arg(&out).args(more);
        finished(&command.output().unwrap())
    };
    let listed = list(&["list"]);
    assert!(listed.contains("d1") && listed.contains("NOT ACKNOWLEDGED") && !listed.contains("stepdad"), "{listed}");
    assert!(list(&["list", "--text"]).contains("stepdad"));
    assert!(list(&["ack", "d1", "--by", "Duty lead"]).contains("acknowledged"));
    assert!(list(&["list"]).contains("by Duty lead"));
}

#[test]
fn plain_spam_is_rejected_with_and_without_the_first_stage_and_the_export_says_by_which() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flood.csv");
    let mut writer = csv::Writer::from_path(&file).unwrap();
    writer.write_record(["id", "text"]).unwrap();
    let advert = |at: usize| {
        format!(
            "BUY replica watches now!!! 100% guaranteed, earn ${at} a day, click http://{at}.best-{at}.example/win \
             WhatsApp +44 7700 900123"
        )
    };
    for at in 0..6 {
        writer.write_record([format!("spam-{at}"), advert(at)]).unwrap();
    }
    for (at, text) in
        ["My mentor never gave up on me.", "My stepdad hits me and I am scared to go home."].iter().enumerate()
    {
        writer.write_record([format!("own-{at}"), (*text).to_owned()]).unwrap();
    }
    writer.flush().unwrap();
    let judged = |cheap_first: &str| -> BTreeMap<String, (String, String)> {
        let out = folder.path().join(cheap_first);
        finished(&process(&[&file], &out, &["--cheap-first", cheap_first]).output().unwrap());
        let all = rows(&out.join("responses.csv"));
        all.into_iter()
            .map(|row| (row["response_id"].clone(), (row["status"].clone(), row["status_by"].clone())))
            .collect()
    };
    let (on, off) = (judged("on"), judged("off"));
    assert_eq!(on.len(), off.len());
    for (id, (status, _)) in &on {
        assert_eq!(*status, off[id].0, "{id}");
    }
    let settled = |rows: &BTreeMap<String, (String, String)>| {
        rows.values().filter(|(status, by)| status == "excluded" && by.contains("first stage")).count()
    };
    assert_eq!((settled(&on), settled(&off)), (6, 0), "{on:?}");
}
