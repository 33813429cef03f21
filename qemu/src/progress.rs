//! Lines that tell what a long step does, and how long each step took.

use anyhow::Result;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The clock of one invocation. Lines go to standard error; results to standard output.
pub struct Progress {
    start: Instant,
    steps: Mutex<Vec<(String, Duration)>>,
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { start: Instant::now(), steps: Mutex::default() }
    }

    /// Prints one line with the time since the start.
    pub fn say(&self, text: impl Display) {
        eprintln!("[{:6.1}s] {text}", self.start.elapsed().as_secs_f64());
    }

    /// Runs `work` between a line that announces it and one that says how it ended.
    pub fn step<T>(&self, label: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.say(format_args!("{label} ..."));
        let started = Instant::now();
        let result = work();
        let took = started.elapsed();
        let end = if result.is_ok() { "done" } else { "FAILED" };
        self.say(format_args!("{label}: {end} ({:.1} s)", took.as_secs_f64()));
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push((label.to_owned(), took));
        result
    }

    /// The steps so far, with what each took.
    pub fn steps(&self) -> Vec<(String, Duration)> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
