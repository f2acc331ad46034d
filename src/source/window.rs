//! A sliding view of a stream: bytes stay until the record they belong to is done.

use std::io::{self, ErrorKind};

use super::input::Bytes;

const CHUNK_BYTES: usize = 64 * 1024;

/// The bytes from the start of the current record on.
pub(super) struct Window {
    bytes: Bytes,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    error: Option<io::Error>,
    line: u64,
    offset: u64,
    after_return: bool,
}

impl Window {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, buffer: Vec::new(), start: 0, ended: false, error: None, line: 1, offset: 0, after_return: false }
    }

    /// The line at which the window starts, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// How many bytes lie before the window.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The byte at a distance from the start; `None` beyond the end of the stream.
    #[inline]
    pub(super) fn byte(&mut self, at: usize) -> Option<u8> {
        if let Some(byte) = self.buffer.get(self.start + at) {
            return Some(*byte);
        }
        self.fill(at);
        self.buffer.get(self.start + at).copied()
    }

    /// What is buffered, which may be less than what comes.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The first `count` bytes, or all that are buffered if those are fewer.
    pub(super) fn first(&self, count: usize) -> &[u8] {
        let buffered = self.buffered();
        &buffered[..count.min(buffered.len())]
    }

    /// Moves the start forward over `count` buffered bytes.
    pub(super) fn consume(&mut self, count: usize) {
        let end = (self.start + count).min(self.buffer.len());
        for byte in &self.buffer[self.start..end] {
            // A line ends with \n, \r\n or \r; the \n of \r\n is counted with its \r.
            if *byte == b'\r' || (*byte == b'\n' && !self.after_return) {
                self.line += 1;
            }
            self.after_return = *byte == b'\r';
        }
        self.offset += (end - self.start) as u64;
        self.start = end;
    }

    /// The error that ended the stream early, if one did.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    fn fill(&mut self, at: usize) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        while !self.ended && self.buffer.len() <= at {
            let held = self.buffer.len();
            self.buffer.resize(held + CHUNK_BYTES, 0);
            let outcome = self.bytes.read(&mut self.buffer[held..]);
            self.buffer.truncate(held + *outcome.as_ref().unwrap_or(&0));
            match outcome {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.error = Some(error);
                }
            }
        }
    }
}
