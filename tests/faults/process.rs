//! Processes of ours: started here, ended here, by their ids.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::line::{LineSpec, SPEC};

/// A running worker; it ends with its value.
#[derive(Debug)]
pub struct Worker {
    pub name: String,
    child: Child,
    folder: PathBuf,
    /// Whether it says when it is up.
    says: bool,
}

impl Worker {
    /// Starts this binary as a worker.
    pub fn start(spec: &LineSpec) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(SPEC, serde_json::to_string(spec)?).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut worker = Self::spawn(&mut command, &spec.name, &spec.folder)?;
        worker.says = true;
        Ok(worker)
    }

    /// Starts another program, with its log in `folder`.
    pub fn spawn(command: &mut Command, name: &str, folder: &Path) -> anyhow::Result<Self> {
        let child = command.stderr(log(folder, name)?).spawn().context("a process starts")?;
        Ok(Self { name: name.to_owned(), child, folder: folder.to_owned(), says: false })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Whether its line has been put together.
    pub fn is_up(&self) -> bool {
        self.folder.join(format!("{}.up", self.name)).exists()
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `-TERM`, `-STOP`, `-CONT`.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status()?;
        if sent.success() { Ok(()) } else { bail!("no {signal} for {}", self.name) }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub async fn end(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if started.elapsed() > within {
                bail!("{} does not end within {within:?}\n{}", self.name, self.tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks it to stop and expects a good end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        // Before that it does not listen to signals, and would be ended by one.
        let started = Instant::now();
        while self.says && !self.is_up() && self.ended().is_none() && started.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.signal("-TERM")?;
        let status = self.end(Duration::from_secs(45)).await?;
        if !status.success() {
            bail!("{} stopped with {status}\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Resident memory in kB.
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log(folder: &Path, name: &str) -> anyhow::Result<File> {
    let path = folder.join(format!("{name}.log"));
    OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())
}
