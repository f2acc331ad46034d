//! `moothall worker` as an operator runs it: built binaries, real models, a broker of
//! its own that is killed, stopped and starved.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker/mod.rs"]
mod broker;
#[path = "support/control.rs"]
mod control;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use broker::{Node, Vhost};
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Connection, ConnectionProperties};
use moothall::domain::comment::ConsultationId;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::{Funnel, Store};
use moothall::sqlite::Database;
use moothall::store::sqlite::SqliteStore;
use serde_json::Value;
use tempfile::TempDir;

/// A few sentences that are put together to distinct and not quite distinct comments.
const PARTS: [&str; 12] = [
    "My mentor listened when nobody else did.",
    "The scheme needs proper training and references.",
    "I would rather it grew out of people who know each other.",
    "Being sent to a mentor made my son feel labelled.",
    "Buddies of the same age understand more than adults.",
    "The council closes clubs and then pays consultants.",
    "Ours met every week for a year and it changed him.",
    "Nobody asked us what we wanted.",
    "Matching matters more than money.",
    "Please keep the football sessions going.",
    "It was a waste of an hour every Tuesday.",
    "She still rings her mentor five years on.",
];

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A store in a folder, and processes that work on it.
struct Site {
    folder: TempDir,
    url: String,
}

impl Site {
    fn new(vhost: &Vhost) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url: vhost.url() }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .env("MOOTHALL_RABBITMQ_URL", &self.url)
            .env("MOOTHALL_RABBITMQ_HEARTBEAT_S", "2")
            .env("MOOTHALL_RABBITMQ_TIMEOUT_MS", "3000")
            .env("MOOTHALL_RABBITMQ_STALL_MS", "2000")
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn worker(&self, name: &str) -> Worker {
        let port = free_port();
        let log = self.folder.path().join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = self
            .command(&["worker", "--amqp", "--listen", &format!("127.0.0.1:{port}"), "--out"])
            .arg(self.out())
            .stderr(file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Worker { child, port, log }
    }

    async fn store(&self) -> SqliteStore {
        let path = self.out().join("restricted/moothall.db");
        SqliteStore::new(Database::open(&path).await.unwrap(), Clock::system())
    }

    fn publish(&self, rows: &[(String, String)]) {
        let file = self.folder.path().join("comments.csv");
        let mut writer = csv::Writer::from_path(&file).unwrap();
        writer.write_record(["id", "text"]).unwrap();
        for (id, text) in rows {
            writer.write_record([id, text]).unwrap();
        }
        writer.flush().unwrap();
        let output = self.output(&["publish", file.to_str().unwrap(), "--amqp"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A running worker; it ends with the test.
struct Worker {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Worker {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Asks it to stop and expects a good end.
    fn stop(mut self) {
        self.signal("-TERM");
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "exit {status}\n{}", self.log());
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(40), "it does not stop\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Status and body of `/readyz`; `None` while nobody listens.
    fn ready(&self) -> Option<(u16, String)> {
        get(self.port, "/readyz")
    }

    async fn is_ready(&self) {
        until("the worker is ready", || self.ready().is_some_and(|(status, _)| status == 200), || self.log()).await;
    }

    /// Waits until readiness says no for a reason with these words.
    async fn says(&self, words: &str) {
        let saw = || self.ready().is_some_and(|(status, body)| status == 503 && body.contains(words));
        until(&format!("/readyz says `{words}`"), saw, || format!("{:?}\n{}", self.ready(), self.log())).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool, seen: impl Fn() -> String) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_mins(2), "waited in vain until {what}\n{}", seen());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn funnel(store: &SqliteStore) -> Funnel {
    store.funnel(&ConsultationId::new("mentoring").unwrap()).await.unwrap()
}

/// Takes everything off the results queue: (messages, distinct events, distinct comments).
async fn results(url: &str) -> (usize, usize, usize) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (mut messages, mut events, mut comments) = (0, BTreeSet::new(), BTreeSet::new());
    while let Some(message) = channel.basic_get("moothall.results".into(), BasicGetOptions::default()).await.unwrap() {
        message.acker.ack(BasicAckOptions::default()).await.unwrap();
        let event: Value = serde_json::from_slice(&message.data).unwrap();
        messages += 1;
        events.insert(event["id"].as_str().unwrap().to_owned());
        comments.insert(event["data"]["id"].as_str().unwrap().to_owned());
    }
    (messages, events.len(), comments.len())
}

fn comments(count: usize, distinct: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| {
            let text = n % distinct;
            let (a, b, c) = (text % 12, (text / 12) % 12, (text / 144) % 12);
            (format!("c{n}"), format!("{} {} {}", PARTS[a], PARTS[(a + 1 + b) % 12], PARTS[(a + 2 + c) % 12]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_comments_survive_two_killed_workers_and_a_killed_broker() {
    const COUNT: usize = 10_000;
    let node = Node::start().await;
    let vhost = node.vhost().await;
    let site = Site::new(&vhost);
    site.publish(&comments(COUNT, 400));
    let (mut one, two) = (site.worker("one"), site.worker("two"));
    one.is_ready().await;
    let store = site.store().await;
    let started = Instant::now();
    let mut faults: Vec<(u64, &str)> = vec![(7_000, "broker"), (4_000, "worker"), (1_000, "worker")];
    let mut done = Vec::new();
    loop {
        let stored = funnel(&store).await.received();
        let backlog = store.backlog(None).await.unwrap().unsent;
        if stored == COUNT as u64 && backlog == 0 && faults.is_empty() {
            break;
        }
        if let Some((_, fault)) = faults.pop_if(|(at, _)| stored >= *at) {
            if fault == "worker" {
                one.kill();
                one = site.worker("one");
            } else {
                node.kill().await;
                node.start_again().await;
            }
            done.push((stored, fault));
        }
        assert!(
            started.elapsed() < Duration::from_mins(7),
            "{stored} stored, {backlog} not sent, faults {done:?}\n{}\n{}",
            one.log(),
            two.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("10,000 comments in {:?} through {done:?}", started.elapsed());
    assert_eq!(done.len(), 3);
    // What was stored and not acknowledged before a fault comes once more and changes nothing.
    broker::until("the work queue is empty", async || vhost.queue_totals("moothall.work").await == (0, 0)).await;
    one.stop();
    two.stop();
    let funnel = funnel(&store).await;
    assert_eq!(funnel.received(), COUNT as u64, "{funnel:?}");
    let (messages, events, distinct) = results(&site.url).await;
    println!("{messages} results on the queue, {events} distinct; {funnel:?}");
    assert_eq!((events, distinct), (COUNT, COUNT));
    assert_eq!(vhost.queue_totals("moothall.parked").await, (0, 0));
    assert_eq!(vhost.queue_totals("moothall.unrouted").await, (0, 0));
}

fn doctor(site: &Site) -> String {
    let output = site.output(&["doctor", "--amqp", "--out", site.out().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_the_broker_is_said_everywhere_and_work_resumes_by_itself() {
    let node = Node::start().await;
    let vhost = node.vhost().await;
    vhost.add_user("worker", "secret").await;
    vhost.permissions("worker", ".*", ".*", ".*").await;
    let site = Site { url: vhost.url_for("worker", "secret", node.amqp_port()), ..Site::new(&vhost) };

    // Absent at start.
    node.kill().await;
    let worker = site.worker("one");
    worker.says("cannot be reached").await;
    assert!(doctor(&site).contains("cannot be reached"));
    node.start_again().await;
    worker.is_ready().await;
    let store = site.store().await;
    // All comments up to `end` are there, and those from `start` on come now.
    let works = async |start: usize, end: usize| {
        site.publish(&comments(end, 1_728)[start..]);
        let started = Instant::now();
        while funnel(&store).await.received() < end as u64 || store.backlog(None).await.unwrap().unsent > 0 {
            assert!(started.elapsed() < Duration::from_mins(2), "{:?}\n{}", worker.ready(), worker.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    works(0, 20).await;

    // A memory alarm while results are to be sent: the worker sleeps until it is on.
    worker.signal("-STOP");
    site.publish(&comments(120, 1_728)[20..]);
    node.memory_alarm(true).await;
    worker.signal("-CONT");
    worker.says("blocks publishing").await;
    let alarmed = doctor(&site);
    assert!(alarmed.contains("blocks publishing"), "{alarmed}");
    node.memory_alarm(false).await;
    worker.is_ready().await;
    works(120, 140).await;

    // A stopped broker.
    node.pause().await;
    worker.says("broker").await;
    assert!(doctor(&site).contains("FAIL"));
    node.resume().await;
    worker.is_ready().await;
    works(140, 160).await;

    // A deleted queue.
    vhost.delete_queue("moothall.work").await;
    until("the log says it", || worker.log().contains("was the queue deleted"), || worker.log()).await;
    worker.is_ready().await;
    works(160, 180).await;

    // A missing permission: read is what subscribing needs.
    vhost.permissions("worker", ".*", ".*", "^$").await;
    vhost.close_connections().await;
    worker.says("permission is missing").await;
    let forbidden = doctor(&site);
    assert!(forbidden.contains("permission") || forbidden.contains("FAIL"), "{forbidden}");
    vhost.permissions("worker", ".*", ".*", ".*").await;
    worker.is_ready().await;
    works(180, 200).await;

    assert!(!worker.log().contains("secret"), "a password is in the log");
    assert!(!worker.log().contains(PARTS[0]), "a comment is in the log");
    worker.stop();
    assert!(Path::new(&site.out()).is_dir());
}
