//! Signals, tasks, and the order in which a process ends.
//!
//! The first signal stops intake and lets work finish. The second, or a
//! deadline that must be shorter than the container's, leaves the rest
//! unsettled for redelivery. A task that ends before anybody asked for it is a
//! crash: the others are stopped in good order and the caller is told.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use crate::pipeline::pulse::Pulse;
pub use crate::pipeline::shutdown::Shutdown;

/// How long tasks may take after they were told to let go, before they are dropped.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A task ended by itself, or failed.
#[derive(Debug, thiserror::Error)]
#[error("task `{name}` {how}")]
pub struct TaskEnded {
    /// Which task.
    pub name: &'static str,
    /// What became of it.
    pub how: String,
}

/// Owns the tasks of a service.
#[derive(Debug)]
pub struct Lifecycle {
    shutdown: Shutdown,
    pulse: Pulse,
    deadline: Duration,
    tasks: JoinSet<Ended>,
}

/// A task's name, and what became of it; the outer error is its panic.
type Ended = (&'static str, Result<anyhow::Result<()>, JoinError>);

impl Lifecycle {
    /// A lifecycle without tasks. `deadline` is how long work in hand may take
    /// after the first request to stop.
    pub fn new(pulse: Pulse, deadline: Duration) -> Self {
        Self {
            shutdown: Shutdown::new(),
            pulse,
            deadline,
            tasks: JoinSet::new(),
        }
    }

    /// The tokens that tasks listen to.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Starts a task that is meant to run until it is asked to stop.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        // A task inside a task, so that a panic still has its name.
        self.tasks.spawn(async move {
            let inner = AbortOnDropHandle::new(tokio::spawn(task));
            (name, inner.await)
        });
    }

    /// Waits until every task has ended. Each item of `requests` is a wish to
    /// stop, as a signal is.
    ///
    /// # Errors
    /// The first task that failed, panicked, or ended before it was asked to.
    pub async fn run(mut self, mut requests: mpsc::Receiver<()>) -> Result<(), TaskEnded> {
        let shutdown = self.shutdown.clone();
        // Made once: a timer must not start anew with every task that ends.
        let mut deadline = pin!(after(&shutdown.stop_intake, self.deadline));
        let mut last_words = pin!(after(&shutdown.abandon, LAST_WORDS));
        let mut crash = None;
        let mut deadline_passed = false;
        while !self.tasks.is_empty() {
            tokio::select! {
                Some(()) = requests.recv() => self.stop_or_abandon(),
                Some(ended) = self.tasks.join_next() => {
                    let early = !shutdown.stop_intake.is_cancelled();
                    if let Some(why) = verdict(ended, early) {
                        tracing::error!(task = why.name, how = %why.how, "a task is gone");
                        crash.get_or_insert(why);
                        self.stop();
                    }
                }
                () = &mut deadline, if !deadline_passed => {
                    deadline_passed = true;
                    tracing::warn!("the deadline has passed, the rest comes again");
                    shutdown.abandon.cancel();
                }
                () = &mut last_words => {
                    tracing::error!(tasks = self.tasks.len(), "tasks did not let go and are dropped");
                    self.tasks.shutdown().await;
                }
            }
        }
        crash.map_or(Ok(()), Err)
    }

    fn stop_or_abandon(&self) {
        if self.shutdown.stop_intake.is_cancelled() {
            tracing::warn!("asked twice to stop, the rest comes again");
            self.shutdown.abandon.cancel();
        } else {
            tracing::info!("asked to stop, finishing what is in hand");
            self.stop();
        }
    }

    fn stop(&self) {
        self.pulse.trouble("lifecycle", "stopping");
        self.shutdown.stop_intake.cancel();
    }
}

fn verdict(ended: Result<Ended, JoinError>, early: bool) -> Option<TaskEnded> {
    let (name, ended) = ended.ok()?;
    let how = match ended {
        Ok(Ok(())) if !early => return None,
        Ok(Ok(())) => "ended by itself".to_owned(),
        Ok(Err(error)) => format!("failed: {error:#}"),
        Err(error) if error.is_panic() => "panicked".to_owned(),
        Err(_cancelled) => return None,
    };
    Some(TaskEnded { name, how })
}

async fn after(token: &CancellationToken, pause: Duration) {
    token.cancelled().await;
    tokio::time::sleep(pause).await;
}

/// SIGTERM and SIGINT as requests to stop.
///
/// # Errors
/// The process may not listen to signals.
pub fn signals() -> io::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(2);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = terminate.recv() => {}
                    Some(()) = interrupt.recv() => {}
                }
                if sender.send(()).await.is_err() {
                    return;
                }
            }
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
