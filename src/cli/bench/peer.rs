//! The peers in Python: other runtimes on the same weights, one process each.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::clock::Took;

const SCRIPT: &str = include_str!("peer.py");

/// A running peer. It ends when it is dropped.
pub struct Peer {
    /// Runtime and version.
    pub name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Hello {
    name: String,
}

#[derive(Deserialize)]
struct Answer {
    processor_s: f64,
    wall_s: f64,
    walls_ms: Vec<f64>,
    first: Vec<f32>,
    peak_mib: f64,
}

/// What a peer said of one cell.
pub struct Measured {
    pub took: Took,
    /// Wall milliseconds of each batch.
    pub walls_ms: Vec<f64>,
    /// The first numbers of the first sequence.
    pub first: Vec<f32>,
    /// Of the whole process, its runtime included.
    pub peak_mib: f64,
}

impl Peer {
    /// Starts a peer and waits until it is ready.
    ///
    /// # Errors
    /// The last line that it wrote before it gave up: usually a module that is missing.
    pub fn start(python: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = command(python, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", python.display()))?;
        let input = child.stdin.take().context("a pipe")?;
        let mut output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.is_empty() {
            drop(input);
            bail!("{}", last_line(&child.wait_with_output()?.stderr));
        }
        // Nobody reads what it may still complain about; a full pipe would stop it.
        let mut errors = child.stderr.take().context("a pipe")?;
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Ok(Self { name: serde_json::from_str::<Hello>(&line)?.name, child, input, output })
    }

    /// Has it run the sequences in batches of `batch`, sorted by length.
    pub fn run(&mut self, sequences: &[Vec<u32>], batch: usize) -> anyhow::Result<Measured> {
        writeln!(self.input, "{}", serde_json::json!({"sequences": sequences, "batch": batch}))?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let answer: Answer = serde_json::from_str(&line).with_context(|| format!("{} gave up", self.name))?;
        let took = Took {
            wall: Duration::from_secs_f64(answer.wall_s),
            processor: Duration::from_secs_f64(answer.processor_s),
        };
        Ok(Measured { took, walls_ms: answer.walls_ms, first: answer.first, peak_mib: answer.peak_mib })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the encoder in `folder` as ONNX.
pub fn export(python: &Path, folder: &Path, file: &Path) -> anyhow::Result<()> {
    let arguments = ["export", &folder.display().to_string(), &file.display().to_string()];
    let output = command(python, &arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", python.display()))?;
    if !output.status.success() {
        bail!("{}", last_line(&output.stderr));
    }
    Ok(())
}

fn command(python: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).args(arguments);
    command
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it ended without a word").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_that_is_not_there_is_told_of() {
        let error = Peer::start(Path::new("/nowhere/python3"), &["torch", "x"]).err().unwrap();
        assert!(error.to_string().contains("/nowhere/python3 cannot be started"), "{error}");
    }

    #[test]
    fn the_last_words_of_a_peer_are_its_reason() {
        assert_eq!(
            last_line(b"Traceback\n  at\nModuleNotFoundError: No module named 'torch'\n\n"),
            "ModuleNotFoundError: No module named 'torch'"
        );
        assert_eq!(last_line(b""), "it ended without a word");
    }
}
