//! Rulebooks as a person lives with them: change, refuse, adopt, retag, roll back, look on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use moothall::domain::comment::ConsultationId;
use moothall::domain::decision::Verdict;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::identity::text_hash;
use moothall::pipeline::ports::{Funnel, Store};
use moothall::sqlite::Database;
use moothall::store::sqlite::SqliteStore;
use serde_json::Value;
use tempfile::TempDir;

const AS_AT: &str = "2026-11-23T09:00:00Z";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const DISCLOSURE: &str = "my stepdad hits me when mum is at work and i dont want to go home";

/// A consultation folder of its own, a file of comments and an output folder.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mentoring"), &place.config());
        let rows = [
            "My mentor never gave up on me and I still see her.",
            "You lot at the council are useless idiots, frankly.",
            "Too few places in our town, so we wait for months.",
            "A buddy scheme at school would help the new pupils.",
            "It grew by itself at the club and nobody planned it.",
            DISCLOSURE,
        ];
        let lines: Vec<String> =
            (1..).zip(rows).map(|(id, text)| format!("{{\"id\":\"{id}\",\"text\":\"{text}\"}}")).collect();
        fs::write(place.file(), lines.join("\n")).unwrap();
        place
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config/mentoring")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("six.jsonl")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Exit code and everything that was printed.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_moothall"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .arg("--out")
            .arg(self.out())
            .arg("--consultations")
            .arg(self.folder.path().join("config"))
            .env("MOOTHALL_PSEUDONYM_KEY", KEY)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("stepdad") && !text.contains("never gave up"), "a comment's text is printed: {text}");
        (output.status.code().unwrap(), text)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }

    fn process(&self, more: &[&str]) -> (i32, String) {
        let file = self.file();
        let mut arguments = vec!["process", file.to_str().unwrap(), "--as-at", AS_AT];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Sets the point of a policy's rule, as a person would in the file.
    fn set_point(folder: &Path, rule: &str, from: &str) {
        let path = folder.join("policy.toml");
        let text = fs::read_to_string(&path).unwrap();
        let at = text.find(&format!("id = \"{rule}\"")).unwrap();
        let point = at + text[at..].find("at = ").unwrap();
        let end = point + text[point..].find('\n').unwrap();
        fs::write(&path, format!("{}from = {from}{}", &text[..point], &text[end..])).unwrap();
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        tree(&self.config())
    }

    fn rulebooks(&self) -> Vec<(String, bool, u64)> {
        let listed: Value = serde_json::from_str(&self.done(&["rulebook", "list", "--json"])).unwrap();
        listed["rulebooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let version = one["version"].as_str().unwrap().to_owned();
                (version, one["active"].as_bool().unwrap(), one["comments"].as_u64().unwrap())
            })
            .collect()
    }

    fn active(&self) -> String {
        self.rulebooks().into_iter().find(|(_, active, _)| *active).unwrap().0
    }

    /// Every shared file of the report as it is written now, without what a run says of itself.
    fn exports(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.done(&["report", "--as-at", AS_AT]);
        let mut files = tree(&self.out());
        files.retain(|path, _| !path.starts_with("restricted") && path != Path::new("run.json"));
        files
    }

    /// What the store holds, through the library.
    fn store<T>(&self, ask: impl AsyncFnOnce(&SqliteStore) -> T) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let database = Database::open(&self.out().join("restricted/moothall.db")).await.unwrap();
            let found = ask(&SqliteStore::new(database.clone(), Clock::system())).await;
            database.close().await;
            found
        })
    }

    fn funnel(&self) -> Funnel {
        self.store(async |store| store.funnel(&mentoring()).await.unwrap())
    }

    fn unsent(&self, kind: &str) -> u64 {
        self.store(async |store| store.backlog(Some(kind)).await.unwrap().unsent)
    }
}

fn mentoring() -> ConsultationId {
    ConsultationId::new("mentoring").unwrap()
}

fn copy(from: &Path, to: &Path) {
    for (path, content) in tree(from) {
        let to = to.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, content).unwrap();
    }
}

/// Every file under a folder, by its path in it.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_changed_rulebook_is_refused_until_it_is_adopted_and_the_way_back_is_one_command() {
    let place = Place::new();
    assert_eq!(place.process(&[]).0, 0, "a fresh store needs no extra step");
    let (files, first, exports) = (place.files(), place.active(), place.exports());

    // The shipped point for insults would reject few; this one holds all but the gentlest.
    Place::set_point(&place.config(), "insult", "0.0");
    let (code, said) = place.process(&[]);
    assert_eq!(code, 2, "{said}");
    for expected in [&*first, "another policy", "--adopt-rulebook", "moothall rulebook rollback"] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
    assert_eq!(place.active(), first, "a refusal changes nothing");

    // A dry run needs no adoption, shows what would change and why, and changes nothing.
    let list = place.folder.path().join("changes.csv");
    let said = place.done(&["codebook", "retag", "--changes", list.to_str().unwrap()]);
    assert!(said.contains("rule `insult` asks for hold") && said.contains("reaches 0.000"), "{said}");
    assert!(said.contains("Nothing was changed"), "{said}");
    let mut rows = csv::Reader::from_path(&list).unwrap();
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    assert!(
        rows.iter().any(|row| row["id"] == "1" && row["verdict_before"] == "accept" && row["verdict_after"] == "hold")
    );
    assert!(rows.iter().all(|row| row["pipeline_before"] == first && !row["why"].is_empty()));
    assert!(!fs::read_to_string(&list).unwrap().contains("mentor"), "the list holds no text");
    assert_eq!(place.active(), first);

    // Applying asks for the adoption first.
    let (code, said) = place.run(&["codebook", "retag", "--apply"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--adopt-rulebook"), "{said}");
    let results = place.unsent("comment.assessed.v1");
    let said = place.done(&["codebook", "retag", "--apply", "--adopt-rulebook"]);
    assert!(said.contains("6 judgements are current now"), "{said}");
    let funnel = place.funnel();
    assert_eq!((funnel.accepted, funnel.received()), (0, 6), "{funnel:?}");
    assert_eq!(place.unsent("comment.assessed.v1"), results, "no result is sent unasked");
    let said = place.done(&["codebook", "retag", "--apply"]);
    assert!(said.contains("Nothing to do: all 6 comments"), "{said}");
    let told: Vec<_> = place.rulebooks().into_iter().map(|(_, active, comments)| (active, comments)).collect();
    assert_eq!(told, [(false, 0), (true, 6)]);

    // Back: the files byte for byte, the same version, and the same answers without judging.
    let said = place.done(&["rulebook", "rollback"]);
    assert!(said.contains(&first), "{said}");
    assert_eq!((place.files(), place.active()), (files, first));
    let mixed = place.exports();
    let page = String::from_utf8_lossy(&mixed[Path::new("report.html")]);
    assert!(page.contains("6 comments carry the judgement of other versions"), "the report tells of two standards");
    place.done(&["codebook", "retag", "--apply"]);
    assert_eq!(place.exports(), exports);
    // And forward again by its version: nothing that judged is lost.
    let other = place.rulebooks().into_iter().find(|(_, active, _)| !active).unwrap().0;
    place.done(&["rulebook", "rollback", &other[..6]]);
    assert_eq!(place.active(), other);
    assert!(fs::read_to_string(place.config().join("policy.toml")).unwrap().contains("from = 0.0"));
}

#[test]
fn a_rollback_says_which_models_are_missing_and_keeps_what_was_never_adopted() {
    let place = Place::new();
    assert_eq!(place.process(&[]).0, 0);
    let (files, first) = (place.files(), place.active());
    Place::set_point(&place.config(), "insult", "0.25");
    let edited = place.files();
    // Edited, never adopted: the way back keeps a copy of it.
    place.done(&["rulebook", "rollback", &first]);
    assert_eq!(place.files(), files);
    let kept = place.rulebooks();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let never = kept.iter().find(|(_, active, _)| !active).unwrap().0.clone();
    let elsewhere = place.folder.path().join("elsewhere/mentoring");
    place.done(&["rulebook", "rollback", &never, "--to", elsewhere.to_str().unwrap()]);
    assert_eq!(tree(&elsewhere), edited);

    let models = place.folder.path().join("models");
    fs::create_dir(&models).unwrap();
    let (code, said) = place.run(&["rulebook", "rollback", &first, "--models", models.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("needs the models") && said.contains("encoder"), "{said}");
    // A contact that was set since stays.
    let consultation = place.config().join("consultation.toml");
    let text = fs::read_to_string(&consultation)
        .unwrap()
        .replace("safeguarding_contact = \"\"", "safeguarding_contact = \"Lee\"");
    fs::write(&consultation, &text).unwrap();
    place.done(&["rulebook", "rollback", &first]);
    assert_eq!(fs::read_to_string(&consultation).unwrap(), text);
    let (code, said) = place.run(&["rulebook", "rollback", "ffffffff"]);
    assert_eq!(code, 2, "{said}");
}

#[test]
fn people_outrank_a_retagging_and_a_new_escalation_reaches_the_lead() {
    let place = Place::new();
    assert_eq!(place.process(&[]).0, 0);
    assert_eq!((place.funnel().escalated, place.unsent("alert.safeguarding.v1")), (1, 1));
    // The lead has read it and released it; an officer has rejected another.
    let said = place.done(&["safeguarding", "release", "6", "--by", "Duty lead"]);
    assert!(said.contains("released: 6 is `accept`"), "{said}");
    let key = place.store(async |store| {
        let page = store.page(&mentoring(), i64::MIN, 10).await.unwrap();
        let comment = page.into_iter().find(|stored| stored.comment.key.id.as_str() == "3").unwrap().comment;
        assert!(store.decide(&comment.key, &text_hash(&comment.text), Verdict::Reject, "Kim").await.unwrap());
        comment.key
    });
    assert_eq!(place.funnel().escalated, 0);

    // Every comment reaches this point: all of them are possible disclosures now.
    Place::set_point(&place.config(), "disclosure", "0.0");
    let said = place.done(&["codebook", "retag", "--apply", "--adopt-rulebook", "--publish"]);
    assert!(said.contains("2 decisions of people differ"), "{said}");
    assert!(said.contains("Possible disclosures that only after sees: 5"), "{said}");
    let after = place.funnel();
    assert_eq!((after.accepted, after.rejected, after.escalated, after.received()), (1, 1, 4, 6));
    assert_eq!(place.unsent("alert.safeguarding.v1"), 6, "one for each text, the one that Kim rejected too");
    let found = place.store(async |store| store.disagreements(&mentoring()).await.unwrap());
    assert!(found.iter().any(|one| one.key == key && one.decided.by == "Kim" && one.machine == Verdict::Escalate));
    let listed = place.done(&["safeguarding", "list"]);
    assert!(listed.contains("6 possible disclosures of harm, 5 not acknowledged"), "{listed}");
    let html = place.exports();
    assert!(!String::from_utf8_lossy(&html[Path::new("responses.csv")]).contains("Too few places in our town"));

    // The way back releases nobody: that is for a person.
    place.done(&["rulebook", "rollback"]);
    place.done(&["codebook", "retag", "--apply"]);
    assert_eq!(place.funnel(), after);
}

#[test]
fn a_shadow_changes_nothing_and_can_be_taken() {
    let place = Place::new();
    assert_eq!(place.process(&[]).0, 0);
    let exports = place.exports();
    let (alerts, results) = (place.unsent("alert.safeguarding.v1"), place.unsent("comment.assessed.v1"));
    let next = place.folder.path().join("next");
    copy(&place.config(), &next);
    Place::set_point(&next, "insult", "0.0");
    Place::set_point(&next, "disclosure", "0.0");
    let shadow = next.to_str().unwrap();
    let said = place.done(&["shadow", "report", "--shadow", shadow]);
    assert!(said.contains("judged nothing in the shadow yet"), "{said}");
    let said = place.done(&["shadow", "run", "--shadow", shadow]);
    assert!(said.contains("6 comments judged in the shadow"), "{said}");
    assert!(place.done(&["shadow", "run", "--shadow", shadow]).contains("0 comments judged"));
    let list = place.folder.path().join("shadow.json");
    let said = place.done(&["shadow", "report", "--shadow", shadow, "--changes", list.to_str().unwrap()]);
    assert!(said.contains("Possible disclosures that only shadow sees: 5"), "{said}");
    assert!(said.contains("rule `disclosure` asks for escalate"), "{said}");
    let listed: Value = serde_json::from_str(&fs::read_to_string(&list).unwrap()).unwrap();
    // The sixth is escalated by both.
    assert_eq!((listed["comments"].as_array().unwrap().len(), &listed["totals"]["compared"]), (5, &6.into()));

    assert_eq!(place.exports(), exports);
    assert_eq!((place.unsent("alert.safeguarding.v1"), place.unsent("comment.assessed.v1")), (alerts, results));
    assert_eq!(place.process(&[]).0, 0);
    assert_eq!(place.rulebooks().len(), 1);

    let said = place.done(&["rulebook", "adopt", "--from", shadow]);
    assert!(said.contains("is the active one now"), "{said}");
    assert_eq!(fs::read(place.config().join("policy.toml")).unwrap(), fs::read(next.join("policy.toml")).unwrap());
    assert_eq!(place.process(&[]).0, 0, "what was adopted is carried");
}
