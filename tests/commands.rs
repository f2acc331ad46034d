//! `publish`, `queue` and `doctor` as a person runs them, where no broker is needed or none is there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use moothall::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use moothall::domain::comment::{ConsultationId, SourceName};
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::{Queue, Settlement};
use moothall::sqlite::Database;
use moothall::wire::CommentV1;
use serde_json::{Value, json};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Stands in every address of these tests, and must stand in nothing that is printed.
const PASSWORD: &str = "s3cret-of-the-broker";
/// Far above what any of these needs, far below what waiting for a broker would take.
const SOON: Duration = Duration::from_secs(25);

fn moothall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .env("MOOTHALL_PSEUDONYM_KEY", KEY)
        .stdin(Stdio::null());
    for name in ["MOOTHALL_RABBITMQ_URL", "MOOTHALL_RABBITMQ_URL_FILE", "MOOTHALL_CONSULTATION", "MOOTHALL_OUT"] {
        command.env_remove(name);
    }
    command
}

/// Exit code and everything that was printed; the password must not be in it.
fn ended(command: &mut Command) -> (i32, String) {
    let started = Instant::now();
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!text.contains(PASSWORD), "the password is printed: {text}");
    assert!(started.elapsed() < SOON, "it took {:?}: {text}", started.elapsed());
    (status.code().unwrap(), text)
}

/// What a command prints on standard output, as JSON.
fn json_of(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn with_out<'a>(command: &'a mut Command, out: &Path) -> &'a mut Command {
    command.arg("--out").arg(out)
}

/// An output folder with three comments, judged.
fn three_comments(folder: &Path) -> PathBuf {
    let (file, out) = (folder.join("three.csv"), folder.join("out"));
    let rows = "id,text\n1,My mentor never gave up on me.\n2,Too few places in our town.\n3,A buddy scheme at school would help.\n";
    fs::write(&file, rows).unwrap();
    let (code, said) = ended(with_out(&mut moothall(&["process", file.to_str().unwrap()]), &out));
    assert_eq!(code, 0, "{said}");
    out
}

/// Runs SQL on the store, as only an accident would.
fn spoil(out: &Path, sql: &'static str) {
    let path = out.join("restricted/moothall.db");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(sql).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

/// Puts the comment with this id aside as a worker would that has given up on it.
fn park_the_second(out: &Path) {
    spoil(
        out,
        "UPDATE queue SET state = 'parked', attempts = 20, deliveries = 20, \
         last_error = 'delivery budget of 20 attempts spent' WHERE id = '2'",
    );
}

/// An address on this machine where nobody listens.
fn nobody_there() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("amqp://worker:{PASSWORD}@127.0.0.1:{port}/%2f")
}

#[test]
fn the_embedded_queue_tells_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    let (code, said) = ended(with_out(&mut moothall(&["queue", "status"]), &out));
    assert_eq!(code, 0, "{said}");
    for expected in ["Waiting            0", "In flight          0", "Parked             0", "Outbox             3"] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
    park_the_second(&out);
    let state = json_of(with_out(&mut moothall(&["queue", "status", "--json"]), &out));
    assert_eq!(
        (&state["kind"], &state["waiting"], &state["parked"], &state["outbox"]["unsent"]),
        (&"embedded".into(), &0.into(), &1.into(), &3.into()),
    );
    assert_eq!(state["hints"][0]["about"], "parked");
}

#[test]
fn what_is_parked_is_listed_without_its_text_and_replayed_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    park_the_second(&out);
    let (code, said) = ended(with_out(&mut moothall(&["queue", "parked"]), &out));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 parked") && said.contains("2  (source three, consultation mentoring)"), "{said}");
    assert!(said.contains("20 attempts") && said.contains("delivery budget"), "{said}");
    assert!(!said.contains("places"), "a comment's text is shown: {said}");
    let listed = json_of(with_out(&mut moothall(&["queue", "parked", "--json"]), &out));
    assert_eq!((&listed["id"], &listed["attempts"]), (&"2".into(), &20.into()));
    assert!(listed["first_seen"].is_string());

    let (code, said) = ended(with_out(&mut moothall(&["queue", "replay"]), &out));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 replayed") && said.contains("will be parked again"), "{said}");
    let (_, said) = ended(with_out(&mut moothall(&["queue", "replay"]), &out));
    assert!(said.contains("nothing was parked"), "{said}");
    let state = json_of(with_out(&mut moothall(&["queue", "status", "--json"]), &out));
    assert_eq!((&state["waiting"], &state["parked"]), (&1.into(), &0.into()));
}

#[test]
fn a_consultation_on_the_command_line_keeps_parked_and_replay_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    park_the_second(&out);
    let other = ["queue", "parked", "--json", "--consultation", "none"];
    let (_, said) = ended(with_out(&mut moothall(&other), &out));
    assert_eq!(said, "");
    let (_, said) = ended(with_out(&mut moothall(&["--consultation", "none", "queue", "replay"]), &out));
    assert!(said.contains("nothing of `none` was parked") && said.contains("1 parked now"), "{said}");
    // The environment says by what to judge, and not which part of the queue is meant.
    let mut command = moothall(&["queue", "replay"]);
    let (_, said) = ended(with_out(command.env("MOOTHALL_CONSULTATION", "none"), &out));
    assert!(said.contains("1 replayed"), "{said}");
}

#[test]
fn a_queue_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("nowhere");
    for action in ["status", "parked", "replay"] {
        let (code, said) = ended(with_out(&mut moothall(&["queue", action]), &out));
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("no store at"), "{said}");
    }
    assert!(!out.exists());
}

#[test]
fn doctor_finds_a_sound_store_sound() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    let (code, said) = ended(with_out(&mut moothall(&["doctor"]), &out));
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("FAIL") && said.contains("Nothing fails"), "{said}");
    let report = json_of(with_out(&mut moothall(&["doctor", "--json"]), &out));
    assert_eq!(report["ok"], true);
    let state = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"));
        found["state"].as_str().unwrap().to_owned()
    };
    for name in ["settings", "models", "rulebook", "output", "disk", "store", "pipeline", "outbox", "queue"] {
        assert_eq!(state(name), "ok", "{name} in {report}");
    }
    assert_eq!(state("safeguarding"), "warn", "nobody is named in the shipped consultation");
}

#[test]
fn doctor_makes_no_store_and_says_who_does() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fresh");
    let (code, said) = ended(with_out(&mut moothall(&["doctor"]), &out));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warn  store") && said.contains("moothall process"), "{said}");
    assert!(!out.exists());
}

#[test]
fn doctor_fails_where_a_start_would_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    // Another policy, and so another pipeline version.
    let consultations = folder.path().join("consultations");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mentoring");
    fs::create_dir_all(consultations.join("mentoring")).unwrap();
    for name in ["consultation.toml", "policy.toml", "codebook.toml"] {
        let text = fs::read_to_string(shipped.join(name)).unwrap();
        fs::write(consultations.join("mentoring").join(name), format!("# of our own\n{text}")).unwrap();
    }
    fs::create_dir_all(consultations.join("mentoring/heads")).unwrap();
    for version in fs::read_dir(shipped.join("heads")).unwrap().map(|entry| entry.unwrap().path()) {
        let copy = consultations.join("mentoring/heads").join(version.file_name().unwrap());
        if version.is_file() {
            fs::copy(&version, &copy).unwrap();
            continue;
        }
        fs::create_dir_all(&copy).unwrap();
        for file in fs::read_dir(&version).unwrap().map(|entry| entry.unwrap().path()) {
            fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
        }
    }
    let mut command = moothall(&["doctor"]);
    let (code, said) = ended(with_out(command.arg("--consultations").arg(&consultations), &out));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("FAIL  pipeline") && said.contains("--adopt-rulebook") && said.contains("1 failed"),
        "{said}"
    );

    let mut command = moothall(&["doctor", "--models"]);
    let (code, said) = ended(with_out(command.arg(folder.path()), &out));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAIL  models") && said.contains("MOOTHALL_MODELS"), "{said}");
    assert!(said.contains("ok    store"), "the rest is looked at all the same: {said}");

    fs::write(out.join("restricted/moothall.db"), "this is no database, only some text").unwrap();
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(out.join(format!("restricted/moothall.db{ending}")));
    }
    let (code, said) = ended(with_out(&mut moothall(&["doctor"]), &out));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAIL  store") && said.contains("restore a backup"), "{said}");
}

#[test]
fn doctor_warns_of_what_waits_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    spoil(&out, "UPDATE outbox SET created_at_ms = created_at_ms - 3600000");
    park_the_second(&out);
    let (code, said) = ended(with_out(&mut moothall(&["doctor", "--amqp", &nobody_there()]), &out));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("warn  outbox") && said.contains("the oldest for 1h"), "{said}");
    assert!(said.contains("warn  queue") && said.contains("moothall queue replay"), "{said}");
    assert!(said.contains("FAIL  reach broker") && said.contains("firewall"), "{said}");
}

#[test]
fn a_store_that_another_process_holds_does_not_hold_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(out.join("restricted/moothall.db"));
    // The connection goes back to its pool at the end, which asks for a runtime.
    let _context = runtime.enter();
    let _held = runtime.block_on(async {
        let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
        pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    });
    let mut command = moothall(&["doctor"]);
    let (code, said) = ended(with_out(command.env("MOOTHALL_RABBITMQ_TIMEOUT_MS", "1000"), &out));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAIL  store") && said.contains("another process holds it"), "{said}");
}

#[test]
fn a_broker_that_is_not_there_ends_commands_with_cause_and_advice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.csv");
    fs::write(&file, "id,text\n1,My mentor never gave up on me.\n").unwrap();
    let url = nobody_there();
    let commands: [&[&str]; 5] = [
        &["publish", file.to_str().unwrap(), "--wait=1"],
        &["queue", "status"],
        &["queue", "parked"],
        &["queue", "replay"],
        &["doctor"],
    ];
    for arguments in commands {
        let (code, said) = ended(
            moothall(arguments)
                .env("MOOTHALL_RABBITMQ_URL", &url)
                .current_dir(folder.path())
                .env("MOOTHALL_MODELS", Path::new(env!("CARGO_MANIFEST_DIR")).join("models")),
        );
        assert_eq!(code, 1, "{arguments:?}: {said}");
        assert!(said.contains("cannot be reached") && said.contains("refused"), "{arguments:?}: {said}");
        assert!(said.contains("check that the broker runs"), "{arguments:?}: {said}");
    }
    assert!(!folder.path().join("out").exists(), "nothing is made by looking");
}

#[test]
fn a_broker_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://worker:{PASSWORD}@{}/%2f", silent.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut command = moothall(&["doctor", "--amqp", &url]);
    let (code, said) = ended(with_out(command.env("MOOTHALL_RABBITMQ_TIMEOUT_MS", "500"), &folder.path().join("out")));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAIL  reach broker") && said.contains("nothing was heard"), "{said}");
}

#[test]
fn a_wrong_address_is_wrong_usage_and_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.csv");
    fs::write(&file, "id,text\n1,My mentor never gave up on me.\n").unwrap();
    let url = format!("http://worker:{PASSWORD}@127.0.0.1");
    let commands: [&[&str]; 3] = [
        &["publish", file.to_str().unwrap(), "--amqp", &url],
        &["queue", "status", "--amqp", &url],
        &["doctor", "--amqp", &url],
    ];
    for arguments in commands {
        let (code, said) = ended(&mut moothall(arguments));
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains("--amqp: is no address of a broker"), "{said}");
    }
}

#[test]
fn publish_without_a_broker_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.csv");
    fs::write(&file, "id,text\n1,My mentor never gave up on me.\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, said) = ended(&mut moothall(&["publish", file]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("MOOTHALL_RABBITMQ_URL") && said.contains("moothall process"), "{said}");
    // An address that is left out takes what stands next.
    let (code, said) = ended(&mut moothall(&["publish", file, "--amqp", file]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("name the files first"), "{said}");
}

#[test]
#[cfg(not(feature = "rust-bert"))]
fn an_engine_that_this_binary_lacks_is_wrong_usage_and_says_how_to_get_it() {
    let (code, said) = ended(&mut moothall(&["assess", "--engine", "rust-bert", "--device", "cuda:0"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("scripts/libtorch") && said.contains("--features rust-bert"), "{said}");
    let (code, said) =
        ended(moothall(&["check-config", "--engine", "built-in"]).env("MOOTHALL_ENGINE_KIND", "rust-bert"));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("engine          built-in"), "{said}");
}

/// Parks a comment in the queue of an output folder, as a worker does that cannot judge it.
fn park_one(out: &Path, id: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::open(&out.join("restricted/moothall.db")).await.unwrap();
        let queue =
            EmbeddedQueue::open(database.clone(), Clock::system(), "test", EmbeddedLimits::default()).await.unwrap();
        let comment: CommentV1 = serde_json::from_value(json!({"id": id, "text": "words that killed"})).unwrap();
        let (consultation, source) = (ConsultationId::new("mentoring").unwrap(), SourceName::new("test").unwrap());
        queue.publish(&[comment.into_comment(&consultation, &source).unwrap()]).await.unwrap();
        let held = queue.receive(1).await.unwrap();
        let ends: Vec<_> = held
            .iter()
            .map(|one| (one.tag, Settlement::Park("judged alone it ended 3 processes".to_owned())))
            .collect();
        queue.settle(&ends).await.unwrap();
        database.close().await;
    });
}

#[test]
fn what_is_parked_is_removed_only_when_it_is_meant_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    park_one(&out, "p1");
    let purge = |more: &[&str]| ended(with_out(&mut moothall(&[&["queue", "purge-parked"], more].concat()), &out));
    let parked = || json_of(with_out(&mut moothall(&["queue", "status", "--json"]), &out))["parked"].clone();
    // Nobody is there to ask.
    let (code, said) = purge(&[]);
    assert!(code == 2 && said.contains("--yes"), "{said}");
    // A file that is there already is somebody's.
    let taken = folder.path().join("taken.jsonl");
    fs::write(&taken, "mine").unwrap();
    let (code, said) = purge(&["--yes", "--to", taken.to_str().unwrap()]);
    assert!(code == 1 && said.contains("taken.jsonl"), "{said}");
    let (code, _) = purge(&["--yes", "--to", folder.path().join("no/such/folder.jsonl").to_str().unwrap()]);
    assert_eq!((code, parked(), fs::read_to_string(&taken).unwrap().as_str()), (1, Value::from(1), "mine"));

    let (code, said) = purge(&["--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 removed"), "{said}");
    assert!(!said.contains("words that killed"), "{said}");
    assert_eq!(parked(), Value::from(0));
    let files: Vec<_> = fs::read_dir(out.join("restricted")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = files.iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("purged-")).unwrap();
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(kept).unwrap().permissions()) & 0o777, 0o600);
    let line: Value = serde_json::from_str(fs::read_to_string(kept).unwrap().trim_end()).unwrap();
    assert_eq!((line["id"].as_str(), line["lane"].as_str()), (Some("p1"), Some("work")));
    assert!(line["body"].as_str().unwrap().contains("words that killed"));
    assert!(line["reason"].as_str().unwrap().contains("3 processes"));
    // It is still accounted for.
    let (code, said) = ended(with_out(&mut moothall(&["report"]), &out));
    assert_eq!(code, 0, "{said}");
    let failed = fs::read_to_string(out.join("restricted/failed_rows.csv")).unwrap();
    assert!(failed.contains("purged"), "{failed}");
    let (code, said) = purge(&["--yes"]);
    assert!(code == 0 && said.contains("nothing is parked"), "{said}");
}

#[test]
fn a_webhook_is_checked_pinged_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let out = three_comments(folder.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = folder.path().join("moothall.toml");
    let write = |allow: bool| {
        let text = format!(
            "[[webhook]]\nname = \"site\"\nurl = \"http://127.0.0.1:{port}/{PASSWORD}\"\nallow_http = {allow}\n\
             kinds = [\"comment.assessed.v1\"]\n"
        );
        fs::write(&file, text).unwrap();
    };
    let config = ["--config", file.to_str().unwrap()];
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let run = |arguments: &[&str], secret: Option<&str>| {
        let mut command = moothall(&[&config[..], arguments].concat());
        if let Some(secret) = secret {
            command.env("MOOTHALL_WEBHOOK_SITE_SECRET", secret);
        }
        ended(&mut command)
    };
    write(false);
    let (code, said) = run(&["webhook", "ping"], Some(secret));
    assert!(code == 2 && said.contains("allow_http"), "{said}");
    write(true);
    let (code, said) = run(&["webhook", "ping"], None);
    assert!(code == 2 && said.contains("MOOTHALL_WEBHOOK_SITE_SECRET"), "{said}");
    let (code, said) = run(&["webhook", "ping"], Some("whsec_short"));
    assert!(code == 2 && said.contains("openssl") && !said.contains("whsec_short"), "{said}");
    // Nobody listens there.
    let (code, said) = run(&["webhook", "ping"], Some(secret));
    assert!(code == 1 && said.contains("FAIL  site  127.0.0.1") && said.contains("cannot be reached"), "{said}");
    let out = out.to_str().unwrap();
    let (code, said) = run(&["doctor", "--out", out], Some(secret));
    assert!(code == 1 && said.contains("FAIL  webhook       site: 127.0.0.1"), "{said}");
    assert!(said.contains("moothall webhook ping site"), "{said}");
    // A target that knows no HEAD is there all the same.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = [0; 512];
        let read = stream.read(&mut line).unwrap();
        stream.write_all(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        String::from_utf8_lossy(&line[..read]).into_owned()
    });
    let (code, said) = run(&["doctor", "--out", out], Some(secret));
    assert!(code == 0 && said.contains("ok    webhook       site: 127.0.0.1"), "{said}");
    assert!(asked.join().unwrap().starts_with(&format!("HEAD /{PASSWORD} ")));
    let (code, said) = run(&["webhook", "status", "--out", out], Some(secret));
    assert!(code == 0 && said.contains("nobody is told"), "{said}");
    let (code, said) = run(&["webhook", "remove", "elsewhere", "--yes", "--out", out], Some(secret));
    assert!(code == 2 && said.contains("knows no such target"), "{said}");
}
