//! A private, throw-away RabbitMQ for tests, and a proxy that breaks the way to it.
//!
//! A test binary takes it in with `#[path = "support/broker/mod.rs"] mod broker;`, and `support/control.rs` beside it.
//! One node serves all tests of a binary ([`Node::shared`]), because a boot takes
//! seconds; each test has a [`Vhost`] of its own, which takes milliseconds. A test
//! that kills, freezes or alarms the broker starts one for itself ([`Node::start`]).
//!
//! `node.sh` beside this file holds the processes and ends them with this one,
//! however this one ends. Nothing here is bound to a runtime: each test has its own.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod proxy;

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::control::Control;

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Blocks of ten ports in 20000..32000, below the ports that Linux hands out by itself.
const FIRST_PORT: u16 = 20_000;
const BLOCKS: u16 = 1_200;
const BLOCK: u16 = 10;

/// Two nodes may have chosen one block at the same moment; a third collision is something else.
const BOOTS: usize = 3;

/// Checks until it holds; a test that waited for nothing says for what.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited 30 s for this: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running RabbitMQ node. Clones are the same node; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    control: Mutex<Control>,
    client: reqwest::Client,
    folder: PathBuf,
    port: u16,
    vhosts: AtomicU64,
}

/// Ten free ports in a row. They are free now; somebody else may be quicker.
fn free_ports() -> u16 {
    for _ in 0..BLOCKS {
        let block = RandomState::new().hash_one(std::process::id()) % u64::from(BLOCKS);
        let first = FIRST_PORT + u16::try_from(block).unwrap() * BLOCK;
        let held: Vec<_> =
            (first..first + BLOCK).map_while(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()).collect();
        if held.len() == usize::from(BLOCK) {
            return first;
        }
    }
    panic!("no ten free ports in a row from {FIRST_PORT}");
}

impl Node {
    /// The node that all tests of this binary share. Do not kill, freeze or alarm it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Node> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Boots a node of one's own, which takes seconds.
    pub async fn start() -> Self {
        Self::with_certificates(None).await
    }

    /// As [`Node::start`], speaking AMQPS as well; `node.sh` says what is in the folder.
    pub async fn start_with_tls(certificates: &Path) -> Self {
        Self::with_certificates(Some(certificates.to_owned())).await
    }

    async fn with_certificates(certificates: Option<PathBuf>) -> Self {
        assert!(
            Path::new(SERVER).exists(),
            "RabbitMQ is missing: there is no {SERVER}. `./test it` installs it, or: apt-get install rabbitmq-server"
        );
        tokio::task::spawn_blocking(move || Self::boot(certificates.as_deref())).await.unwrap()
    }

    fn boot(certificates: Option<&Path>) -> Self {
        let mut wrong = Vec::new();
        for _ in 0..BOOTS {
            let port = free_ports();
            let folder = std::env::temp_dir().join(format!("moothall-rabbitmq-{}-{port}", std::process::id()));
            let mut control = {
                let port = port.to_string();
                let mut arguments = vec![folder.as_os_str(), OsStr::new(&port)];
                arguments.extend(certificates.map(Path::as_os_str));
                Control::spawn("broker/node.sh", &arguments)
            };
            match control.answer("ready") {
                Ok(_) => {
                    let inner = Inner {
                        control: Mutex::new(control),
                        client: client(),
                        folder,
                        port,
                        vhosts: AtomicU64::new(0),
                    };
                    return Self { inner: Arc::new(inner) };
                }
                Err(error) => wrong.push(error),
            }
        }
        panic!("RabbitMQ did not start, {BOOTS} times:\n{}", wrong.join("\n---\n"));
    }

    /// Where AMQP is spoken on loopback.
    pub fn amqp_port(&self) -> u16 {
        self.inner.port
    }

    /// Where AMQPS is spoken on loopback, by [`Node::start_with_tls`].
    pub fn amqps_port(&self) -> u16 {
        self.inner.port + 3
    }

    /// Has certificates read anew from their files, for the next connection.
    pub async fn forget_certificates(&self) {
        self.ctl(&["eval", "ssl:clear_pem_cache()."]).await;
    }

    /// What the node keeps on disk; gone when the node is.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Ends the broker as a crash would. What it had on disk stays.
    pub async fn kill(&self) {
        self.command("kill").await;
    }

    /// Boots it again after [`Node::kill`], with what it had on disk, on the same ports.
    pub async fn start_again(&self) {
        self.command("start").await;
    }

    /// Freezes the broker: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.command("stop").await;
    }

    /// Lets a frozen broker go on.
    pub async fn resume(&self) {
        self.command("cont").await;
    }

    /// Runs `rabbitmqctl`, about a second each; what it printed, line by line.
    pub async fn ctl(&self, arguments: &[&str]) -> Vec<String> {
        // Tabs and line feeds separate; an empty word would be lost between two of them.
        assert!(arguments.iter().all(|word| !word.is_empty() && !word.contains(['\t', '\n'])), "{arguments:?}");
        self.command(&format!("ctl\t{}", arguments.join("\t"))).await
    }

    /// Raises or lifts the memory alarm, during which the broker reads nothing from publishers.
    pub async fn memory_alarm(&self, on: bool) {
        let limit: &[&str] = if on { &["0.0001"] } else { &["absolute", "1GB"] };
        self.ctl(&[&["set_vm_memory_high_watermark"], limit].concat()).await;
        until("the memory alarm changes", async || self.alarmed().await == on).await;
    }

    /// Whether the broker says that an alarm is in effect.
    pub async fn alarmed(&self) -> bool {
        let (status, body) = self.request(Method::GET, "health/checks/alarms", None).await;
        match status {
            200 => false,
            503 => true,
            _ => panic!("{status} for the alarms: {body}"),
        }
    }

    /// The process ids of the broker and of its port mapper.
    pub async fn processes(&self) -> Vec<u32> {
        let said = self.command("pids").await;
        said[0].split(' ').map(|pid| pid.parse().unwrap()).collect()
    }

    /// A new virtual host, empty, in which `guest` may do everything.
    pub async fn vhost(&self) -> Vhost {
        let name = format!("test{}", self.inner.vhosts.fetch_add(1, Ordering::Relaxed));
        self.put(&format!("vhosts/{name}"), &json!({})).await;
        Vhost { name, node: self.clone() }
    }

    /// Reads from the management API; the path is what follows `/api/`.
    pub async fn get(&self, path: &str) -> Value {
        self.accepted(Method::GET, path, None).await
    }

    /// Reads from the management API; `None` while nobody answers there.
    pub async fn try_get(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.inner.port + 1);
        let response = self.inner.client.get(url).basic_auth("guest", Some("guest")).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        serde_json::from_str(&response.text().await.ok()?).ok()
    }

    /// Writes to the management API.
    pub async fn put(&self, path: &str, body: &Value) {
        self.accepted(Method::PUT, path, Some(body)).await;
    }

    /// Sends something to the management API; what it answers.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.accepted(Method::POST, path, Some(body)).await
    }

    /// Deletes through the management API.
    pub async fn delete(&self, path: &str) {
        self.accepted(Method::DELETE, path, None).await;
    }

    async fn accepted(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.request(method.clone(), path, body).await;
        assert!((200..300).contains(&status), "{status} for {method} {path}: {answer}");
        answer
    }

    /// The status and the body, null where there is none.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.inner.port + 1);
        let mut request = self.inner.client.request(method, url).basic_auth("guest", Some("guest"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn command(&self, line: &str) -> Vec<String> {
        let (inner, line) = (Arc::clone(&self.inner), line.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let said = inner.control.lock().unwrap_or_else(PoisonError::into_inner).ask(&line);
            said.unwrap_or_else(|error| panic!("{}: {error}", line.replace('\t', " ")))
        });
        asked.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

fn client() -> reqwest::Client {
    // A second call finds the provider in place, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        // A kept connection would belong to the runtime of the test that opened it.
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// A virtual host: the exchanges and queues of one test, apart from all others.
#[derive(Clone, Debug)]
pub struct Vhost {
    /// What it is called, unique within its node.
    pub name: String,
    node: Node,
}

impl Vhost {
    /// Where it is, for `guest`.
    pub fn url(&self) -> String {
        self.url_for("guest", "guest", self.node.amqp_port())
    }

    /// Where it is, through a proxy on this port.
    pub fn url_via(&self, port: u16) -> String {
        self.url_for("guest", "guest", port)
    }

    /// Where it is, for this user and through this port.
    pub fn url_for(&self, user: &str, password: &str, port: u16) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{port}/{}", self.name)
    }

    /// The node that it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// How many messages wait, and how many are out for an acknowledgement.
    ///
    /// The broker counts a few times a second, so wait for what is expected ([`until`])
    /// and conclude nothing from what is not there yet.
    pub async fn queue_totals(&self, queue: &str) -> (u64, u64) {
        // The page of one queue shows statistics that are five seconds old; this list counts.
        let path = format!("queues/{}?disable_stats=true&enable_queue_totals=true", self.name);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let queues = self.node.get(&path).await;
            let found = queues.as_array().unwrap().iter().find(|one| one["name"] == queue);
            let count = |what: &str| found.and_then(|one| one[what].as_u64());
            if let (Some(ready), Some(unacked)) = (count("messages_ready"), count("messages_unacknowledged")) {
                return (ready, unacked);
            }
            // A queue that was declared a moment ago has not been counted yet.
            assert!(Instant::now() < deadline, "queue `{queue}` is not counted: {queues}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every queue as (name, messages that wait, messages out for an acknowledgement), as the broker last
    /// counted; `None` while it does not answer or has not counted one yet.
    pub async fn try_all_queue_totals(&self) -> Option<Vec<(String, u64, u64)>> {
        let path = format!("queues/{}?disable_stats=true&enable_queue_totals=true", self.name);
        let queues = self.node.try_get(&path).await?;
        let one = |queue: &Value| {
            let count = |what: &str| queue[what].as_u64();
            Some((queue["name"].as_str()?.to_owned(), count("messages_ready")?, count("messages_unacknowledged")?))
        };
        queues.as_array()?.iter().map(one).collect()
    }

    /// Deletes a queue with what is in it; its consumers are cancelled.
    pub async fn delete_queue(&self, name: &str) {
        self.node.delete(&format!("queues/{}/{}", self.name, encoded(name))).await;
    }

    /// What this user may configure, write and read here, as patterns.
    pub async fn permissions(&self, user: &str, configure: &str, write: &str, read: &str) {
        let rights = json!({"configure": configure, "write": write, "read": read});
        self.node.put(&format!("permissions/{}/{}", self.name, encoded(user)), &rights).await;
    }

    /// A user of the whole node, without rights anywhere yet; choose a name no other test uses.
    pub async fn add_user(&self, name: &str, password: &str) {
        self.node.put(&format!("users/{}", encoded(name)), &json!({"password": password, "tags": ""})).await;
    }

    /// Has the broker close every connection to this virtual host.
    pub async fn close_connections(&self) {
        // The management API learns of connections too late to close a new one.
        self.node.ctl(&["close_all_connections", "--vhost", &self.name, "closed by a test"]).await;
    }
}

/// A name as one segment of a path.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
