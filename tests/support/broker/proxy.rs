//! A TCP proxy in front of the broker, for faults on the way that need no rights.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker: publishes, acknowledgements.
    ToBroker,
    /// From the broker to the client: deliveries, confirms.
    FromBroker,
}

/// Forwards a port of its own to another one, both on loopback. It ends when dropped, connections included.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct State {
    target: u16,
    refuses: AtomicBool,
    connections: AtomicUsize,
    /// How many were open once.
    ended: AtomicUsize,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
    held: watch::Sender<Held>,
}

/// What is held back.
#[derive(Clone, Debug, Default)]
struct Held {
    /// By `Direction as usize`.
    directions: [bool; 2],
    /// Only connections whose greeting holds these words; all without.
    only: Option<String>,
}

/// The first bytes of a client: in AMQP they hold the connection's name.
type Greeting = Arc<Mutex<Vec<u8>>>;
const GREETING: usize = 4_096;

impl Held {
    fn holds(&self, direction: Direction, greeting: &Greeting) -> bool {
        self.directions[direction as usize]
            && self.only.as_ref().is_none_or(|words| {
                let greeting = greeting.lock().unwrap_or_else(PoisonError::into_inner);
                greeting.windows(words.len()).any(|found| found == words.as_bytes())
            })
    }
}

impl Proxy {
    /// Listens on a free port and forwards to this one.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            target,
            refuses: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
            held: watch::Sender::new(Held::default()),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Self { port, state, accepting }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets all connections, as a crashed host or a broken cable ends them. New ones are welcome.
    pub async fn cut(&self) {
        // As many as there are now must end; their successors may be there before the last has gone.
        let ended = self.state.ended.load(Ordering::SeqCst) + self.connections();
        self.state.cuts.send_modify(|cuts| *cuts += 1);
        // No `until` here: its closure would make this future of use on one thread only.
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.state.ended.load(Ordering::SeqCst) < ended {
            assert!(Instant::now() < deadline, "connections through the proxy are not cut");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Holds the bytes of one direction from now on, in open and in new connections.
    pub fn stall(&self, direction: Direction) {
        self.state.held.send_modify(|held| held.directions[direction as usize] = true);
    }

    /// The same, in connections alone whose name holds these words.
    pub fn stall_only(&self, direction: Direction, words: &str) {
        self.state.held.send_modify(|held| {
            held.directions[direction as usize] = true;
            held.only = Some(words.to_owned());
        });
    }

    /// Lets go of what was held; nothing was lost.
    pub fn flow(&self) {
        self.state.held.send_replace(Held::default());
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// How many are open.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.refuses.load(Ordering::SeqCst) {
            let _ = client.set_zero_linger();
            continue;
        }
        // Counted and subscribed before anything else can run, so that no cut misses it.
        state.connections.fetch_add(1, Ordering::SeqCst);
        let cuts = state.cuts.subscribe();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            forward(client, &state, cuts).await;
            // In this order: a cut that looks between the two waits for one less, never for one that is gone.
            state.connections.fetch_sub(1, Ordering::SeqCst);
            state.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// Carries one connection until an end of it closes or it is cut.
async fn forward(mut client: TcpStream, state: &State, mut cuts: watch::Receiver<u64>) {
    let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, state.target));
    let mut broker = tokio::select! {
        connected = connecting => match connected {
            Ok(broker) => broker,
            Err(_) => return,
        },
        _ = cuts.changed() => return,
    };
    let _ = client.set_nodelay(true);
    let _ = broker.set_nodelay(true);
    let greeting = Greeting::default();
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_broker, to_broker) = broker.split();
        tokio::select! {
            () = carry(from_client, to_broker, state.held.subscribe(), Direction::ToBroker, &greeting) => false,
            () = carry(from_broker, to_client, state.held.subscribe(), Direction::FromBroker, &greeting) => false,
            _ = cuts.changed() => true,
        }
    };
    if cut {
        // With no time to linger a close is a reset.
        let _ = client.set_zero_linger();
        let _ = broker.set_zero_linger();
    }
}

/// Copies one direction until its end, which is held back like any byte.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut held: watch::Receiver<Held>,
    direction: Direction,
    greeting: &Greeting,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        if direction == Direction::ToBroker {
            let mut greeting = greeting.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = GREETING.saturating_sub(greeting.len()).min(read);
            greeting.extend_from_slice(&bytes[..wanted]);
        }
        if held.wait_for(|held| !held.holds(direction, greeting)).await.is_err() || read == 0 {
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
