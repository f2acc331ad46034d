//! A webhook's target on loopback that answers as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What the target does with a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// This status and this header line.
    With(u16, String),
    /// Nothing, for ever.
    Silence,
    /// An answer that comes byte by byte and never whole.
    Drip,
    /// A good status, and a body that never ends.
    DripBody,
    /// The connection is closed unanswered.
    Hangup,
}

/// A call as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Script = dyn Fn(&Seen, usize) -> Answer + Send + Sync;

/// The target.
pub struct Hook {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Arc<Script>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Hook {
    /// Answers each call by `script`, which is told how many calls came before.
    pub async fn start(script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Arc<Mutex<Arc<Script>>> = Arc::new(Mutex::new(Arc::new(script)));
        let (calls, answers) = (Arc::clone(&seen), Arc::clone(&script));
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (calls, answers) = (Arc::clone(&calls), Arc::clone(&answers));
                open.push(AbortOnDropHandle::new(tokio::spawn(serve(stream, calls, answers))));
                open.retain(|task: &AbortOnDropHandle<()>| !task.is_finished());
            }
        });
        Self { port, seen, script, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Answers by another script from now on.
    pub fn answer(&self, script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, calls: Arc<Mutex<Vec<Seen>>>, script: Arc<Mutex<Arc<Script>>>) {
    let Some(call) = read(&mut stream).await else { return };
    let before = {
        let mut calls = calls.lock().unwrap();
        calls.push(call.clone());
        calls.len() - 1
    };
    let script = Arc::clone(&script.lock().unwrap());
    let (status, more) = match script(&call, before) {
        Answer::Status(status) => (status, String::new()),
        Answer::With(status, header) => (status, format!("{header}\r\n")),
        Answer::Silence => std::future::pending().await,
        Answer::Hangup => return,
        Answer::Drip => return drip(&mut stream, b"HTTP/1.1 200 OK\r\nx-slow: ").await,
        Answer::DripBody => return drip(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await,
    };
    let answer = format!("HTTP/1.1 {status} Said\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn drip(stream: &mut TcpStream, first: &[u8]) {
    let _ = stream.write_all(first).await;
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let path = text.split_whitespace().nth(1)?.to_owned();
    let headers: HashMap<String, String> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { path, headers, body })
}
