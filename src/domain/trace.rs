//! Which trace something belongs to, as W3C Trace Context says it (level 1 and 2).
//!
//! A trace is somebody else's: what cannot be read is no trace, and never an error.

use std::fmt;

/// `tracestate` is kept whole or not at all; the standard asks for at least 512 characters.
const LONGEST_STATE: usize = 512;
/// Entries of a `tracestate`.
const MOST_ENTRIES: usize = 32;
/// Sampled, and (level 2) a random trace id; no other flag is known.
const KNOWN_FLAGS: u8 = 0b11;

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the words of the standard")]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<String>,
}

impl Trace {
    /// Reads `traceparent` and `tracestate`; `None` where the first is malformed. A malformed
    /// second is left out.
    pub fn read(parent: &str, state: Option<&str>) -> Option<Self> {
        let parent = parent.trim();
        let mut parts = parent.split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace_id, span_id) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        // Later versions may go on after the flags; this one may not, and `ff` is none.
        let ends = parts.next().is_none();
        if version == 0xff || (version == 0 && !ends) || trace_id == 0 || span_id == 0 {
            return None;
        }
        let state = state.map(str::trim).filter(|state| is_state(state)).map(str::to_owned);
        Some(Self { trace_id, span_id: span_id as u64, flags: flags as u8 & KNOWN_FLAGS, state })
    }

    /// The same trace, at another span.
    #[must_use]
    pub fn at(&self, span_id: u64) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// 16 bytes, never zero.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// 8 bytes, never zero in what was read.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether whoever began it records it.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// `traceparent`, of version 00.
    pub fn parent(&self) -> String {
        self.to_string()
    }

    /// `tracestate`, as it came.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

fn is_state(state: &str) -> bool {
    let entries = || state.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty());
    let key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let value = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'=';
    !state.is_empty()
        && state.len() <= LONGEST_STATE
        && entries().count() <= MOST_ENTRIES
        && entries().count() > 0
        && entries().all(|entry| {
            entry.split_once('=').is_some_and(|(name, said)| {
                !name.is_empty() && name.bytes().all(key) && !said.is_empty() && said.bytes().all(value)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_as_it_came() {
        let trace = Trace::read(PARENT, Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")).unwrap();
        assert_eq!((trace.parent().as_str(), trace.state()), (PARENT, Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")));
        assert!(trace.is_sampled() && trace.span_id() == 0x00f0_67aa_0ba9_02b7);
        assert_eq!(trace.at(7).parent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        for parent in [
            "",
            "00",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(Trace::read(parent, None), None, "{parent}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = Trace::read("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what_comes", None).unwrap();
        assert_eq!(later.parent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03");
    }

    #[test]
    fn a_malformed_state_is_left_out_and_the_trace_stays() {
        for state in ["", "novalue", "a=b=c", "A=b", "a=\u{e9}", "a=\nb", &format!("a={}", "x".repeat(600))] {
            assert_eq!(Trace::read(PARENT, Some(state)).unwrap().state(), None, "{state:?}");
        }
    }
}
