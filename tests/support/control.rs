//! A part of the system that a script runs, which ends with the test whatever happens to it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The conversation with a script: one line out, lines of output and one answer back.
#[derive(Debug)]
pub struct Control {
    script: &'static str,
    child: Child,
    /// Taken when the part ends: the end of this input is what ends it.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Control {
    /// Starts `tests/support/` + `script`.
    pub fn spawn(script: &'static str, arguments: &[&OsStr]) -> Self {
        let mut child = Command::new("bash")
            .arg(format!("{}/tests/support/{script}", env!("CARGO_MANIFEST_DIR")))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the keyboard is for the test; the part follows when that is gone.
            .process_group(0)
            .spawn()
            .expect("bash runs the script");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { script, child, input, output }
    }

    /// Reads up to the answer; what was said before it, or what went wrong.
    pub fn answer(&mut self, good: &str) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).map_err(|error| error.to_string())? == 0 {
                return Err(format!("{} ended\n{}", self.script, said.join("\n")));
            }
            let line = line.trim_end_matches('\n');
            if let Some(output) = line.strip_prefix("| ") {
                said.push(output.to_owned());
            } else if line == good {
                return Ok(said);
            } else {
                return Err(format!("{line}\n{}", said.join("\n")));
            }
        }
    }

    /// Asks for something; what was said before `ok`.
    pub fn ask(&mut self, line: &str) -> Result<Vec<String>, String> {
        let input = self.input.as_mut().ok_or_else(|| format!("{} has ended", self.script))?;
        writeln!(input, "{line}").map_err(|error| error.to_string())?;
        self.answer("ok")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.input = None;
        // It kills and removes, which is done in milliseconds.
        let _ = self.child.wait();
    }
}
