//! How the line is: what troubles it now, and when it last got anything done.
//!
//! Parts report here as they go; readiness is read from here and never asks the
//! parts themselves, so a probe costs nothing and cannot hang.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by everything that works and everything that answers for it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    troubles: Mutex<BTreeMap<&'static str, String>>,
    notes: Mutex<BTreeMap<String, String>>,
    last_progress_ms: AtomicI64,
}

impl Pulse {
    /// Says that `part` (`engine`, `queue`, `store`, ...) cannot do its work, and why.
    /// Returns whether that is news, so that a log says it once.
    pub fn trouble(&self, part: &'static str, why: impl Into<String>) -> bool {
        let why = why.into();
        self.lock().insert(part, why.clone()).is_none_or(|before| before != why)
    }

    /// Says that `part` works (again).
    pub fn well(&self, part: &'static str) {
        self.lock().remove(part);
    }

    /// What troubles the line now, by part. Empty when all is well.
    pub fn troubles(&self) -> BTreeMap<&'static str, String> {
        self.lock().clone()
    }

    /// Notes something that a person should know and that keeps no comment waiting, so that
    /// readiness stays. Returns whether it is news.
    pub fn note(&self, part: &str, why: impl Into<String>) -> bool {
        let why = why.into();
        self.noted().insert(part.to_owned(), why.clone()).is_none_or(|before| before != why)
    }

    /// Takes a note back.
    pub fn unnote(&self, part: &str) {
        self.noted().remove(part);
    }

    /// What is noted now, by part.
    pub fn notes(&self) -> BTreeMap<String, String> {
        self.noted().clone()
    }

    fn noted(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something got done.
    pub fn progressed(&self, now_ms: i64) {
        self.0.last_progress_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// When something last got done (Unix milliseconds); 0 before anything did.
    pub fn last_progress_ms(&self) -> i64 {
        self.0.last_progress_ms.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic between two map operations leaves the map whole.
        self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
