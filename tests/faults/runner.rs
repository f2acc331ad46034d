//! Which faults run, two at a time, each for a limited time.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::broker::Node;
use crate::catalogue::{Fault, all};
use crate::long_run;
use crate::postgres::Server;
use crate::site::Setup;
use crate::table::{Outcome, Row, Shape, Table};

/// No row may take longer.
const LONGEST: Duration = Duration::from_mins(4);

/// What was asked for.
pub struct Choice {
    pub full: bool,
    pub only: Vec<String>,
    pub shape: Option<String>,
    pub seed: u64,
    pub keep: bool,
}

impl Choice {
    fn wants(&self, fault: &Fault, shape: Shape) -> bool {
        let named = self.only.iter().any(|part| fault.name.contains(part.as_str()));
        let chosen = if self.only.is_empty() { self.full || fault.short.contains(&shape) } else { named };
        chosen && self.of_shape(shape)
    }

    fn of_shape(&self, shape: Shape) -> bool {
        self.shape.as_ref().is_none_or(|part| shape.name().to_lowercase().contains(&part.to_lowercase()))
    }
}

/// Names every fault.
pub fn list(choice: &Choice) {
    for fault in all() {
        for shape in fault.on {
            let form = if fault.short.contains(shape) { "short" } else { "--full" };
            let mark = if choice.wants(&fault, *shape) { "*" } else { " " };
            println!("{mark} {:32}  {:20}  {form:6}  {}", fault.name, shape.name(), fault.what);
        }
    }
}

/// Brokers, started when a row first wants one.
#[derive(Default)]
struct Brokers {
    /// Shared by rows that leave the node itself alone.
    calm: OnceCell<Node>,
    /// For rows that kill, freeze and starve it, one after the other.
    rough: OnceCell<Node>,
    calm_server: OnceCell<Server>,
    rough_server: OnceCell<Server>,
    turn: Mutex<()>,
}

/// Runs what was chosen.
pub async fn run(choice: &Choice) -> Table {
    let started = Instant::now();
    let (brokers, places) = (Arc::new(Brokers::default()), Arc::new(Semaphore::new(2)));
    let base = std::env::temp_dir().join(format!("moothall-faults-{}", std::process::id()));
    let (mut running, mut left_out) = (Vec::new(), 0);
    for fault in all() {
        for shape in fault.on {
            if !choice.wants(&fault, *shape) {
                left_out += 1;
                continue;
            }
            let folder = base.join(format!("{}-{}", fault.name, running.len()));
            let (brokers, places) = (Arc::clone(&brokers), Arc::clone(&places));
            let (seed, keep) = (choice.seed, choice.keep);
            running.push(tokio::spawn(one(fault.clone(), *shape, seed, folder, keep, brokers, places)));
        }
    }
    let mut rows = Vec::new();
    for row in running {
        rows.push(row.await.unwrap());
    }
    // Gone unless a row was to be kept.
    let _ = std::fs::remove_dir(&base);
    Table { seed: choice.seed, took: started.elapsed(), rows, left_out }
}

async fn one(
    fault: Fault,
    shape: Shape,
    seed: u64,
    folder: PathBuf,
    keep: bool,
    brokers: Arc<Brokers>,
    places: Arc<Semaphore>,
) -> Row {
    // A rough row waits for its broker first, so that it keeps no place while it waits.
    let turn = if fault.rough && shape.has_broker() { Some(brokers.turn.lock().await) } else { None };
    let place = if turn.is_none() { places.acquire().await.ok() } else { None };
    std::fs::create_dir_all(&folder).unwrap();
    let node = match (shape.has_broker(), fault.rough) {
        (false, _) => None,
        (true, false) => Some(brokers.calm.get_or_init(Node::start).await.clone()),
        (true, true) => Some(brokers.rough.get_or_init(Node::start).await.clone()),
    };
    let server = match (shape.has_server(), fault.rough) {
        (false, _) => None,
        (true, false) => Some(brokers.calm_server.get_or_init(Server::start).await.clone()),
        (true, true) => Some(brokers.rough_server.get_or_init(Server::start).await.clone()),
    };
    let setup = Setup { shape, seed, folder: folder.clone(), node, server };
    // On a thread of its own: a row's future may stay where it was made.
    let handle = tokio::runtime::Handle::current();
    let running =
        tokio::task::spawn_blocking(move || handle.block_on(row(fault.name, shape, LONGEST, (fault.run)(setup))));
    let row = running.await.unwrap();
    drop((turn, place));
    told(&row, &folder, keep);
    row
}

/// The long run on each shape, one after the other.
pub async fn long_run(choice: &Choice, comments: usize) -> Table {
    let started = Instant::now();
    let base = std::env::temp_dir().join(format!("moothall-long-run-{}", std::process::id()));
    let mut rows = Vec::new();
    for shape in Shape::ALL {
        if !choice.of_shape(shape) {
            continue;
        }
        let folder = base.join(format!("{}", rows.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let node = if shape.has_broker() { Some(Node::start().await) } else { None };
        let server = if shape.has_server() { Some(Server::start().await) } else { None };
        let setup = Setup { shape, seed: choice.seed, folder: folder.clone(), node, server };
        let row = row("long-run", shape, Duration::from_hours(1), Box::pin(long_run::run(setup, comments))).await;
        told(&row, &folder, choice.keep);
        rows.push(row);
    }
    let _ = std::fs::remove_dir(&base);
    Table { seed: choice.seed, took: started.elapsed(), rows, left_out: 0 }
}

/// Runs one row to its end, whatever that is.
async fn row(
    fault: &'static str,
    shape: Shape,
    longest: Duration,
    running: impl Future<Output = anyhow::Result<Outcome>>,
) -> Row {
    let started = Instant::now();
    let running = AssertUnwindSafe(tokio::time::timeout(longest, running)).catch_unwind();
    let outcome = match running.await {
        Ok(Ok(Ok(outcome))) => Ok(outcome),
        Ok(Ok(Err(error))) => Err(format!("{error:#}")),
        Ok(Err(_)) => Err(format!("not done within {longest:?}")),
        Err(panic) => Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panicked".to_owned())),
    };
    Row { fault, shape, took: started.elapsed(), outcome }
}

/// Says on the way how a row ended, and clears its folder.
fn told(row: &Row, folder: &Path, keep: bool) {
    let end = if row.failure().is_some() { "FAILED" } else { "ok" };
    eprintln!("{end:6}  {:32}  {:20}  {:5.1} s", row.fault, row.shape.name(), row.took.as_secs_f64());
    if let Some(why) = row.failure() {
        eprintln!("        {}", why.lines().next().unwrap_or_default());
    }
    if keep && row.failure().is_some() {
        eprintln!("        kept: {}", folder.display());
    } else {
        let _ = std::fs::remove_dir_all(folder);
    }
}
