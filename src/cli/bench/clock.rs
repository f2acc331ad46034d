//! What a stretch of work took, and what this process and machine are doing.

use std::time::{Duration, Instant};

use anyhow::Context;

/// What one round took.
#[derive(Clone, Copy)]
pub struct Took {
    /// On the clock on the wall.
    pub wall: Duration,
    /// On the processor, all threads, user and system.
    pub processor: Duration,
}

/// A clock that was started.
pub struct Stopwatch {
    wall: Instant,
    processor: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self { wall: Instant::now(), processor: processor_time()? })
    }

    /// What was taken since.
    pub fn took(&self) -> anyhow::Result<Took> {
        Ok(Took { wall: self.wall.elapsed(), processor: processor_time()?.saturating_sub(self.processor) })
    }
}

/// Processor time of this process so far, all threads, user and system.
#[cfg(unix)]
pub fn processor_time() -> anyhow::Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec).context("processor time")?, time.tv_nsec as u32))
}

/// Processor time of this process so far.
#[cfg(not(unix))]
pub fn processor_time() -> anyhow::Result<Duration> {
    anyhow::bail!("processor time is read as POSIX has it, and this system is another")
}

/// A figure of /proc/self/status (proc(5)), in MiB.
pub fn status_mib(name: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: f64 = text.lines().find(|line| line.starts_with(name))?.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The processor by its name, where the system tells.
pub fn processor_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Processes that wanted a core during the last minute, where the system tells.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
