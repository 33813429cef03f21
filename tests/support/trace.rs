//! What strace writes.

use super::failure::{Context, Result};
use super::job;
use super::promises::exited;
use super::sandbox::{Run, Sandbox};
use std::collections::BTreeMap;
use std::fmt;

/// A system call: which, and the how manieth of its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Which of them, from 1.
    pub number: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} number {}", self.name, self.number)
    }
}

/// The lines are `PID NAME(ARGUMENTS) = RESULT`; those about signals and the end have no name.
pub fn calls(trace: &str) -> Vec<Call> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let names = trace.lines().filter_map(|line| {
        let name =
            line.trim_start_matches(|byte: char| byte.is_ascii_digit()).trim_start().split('(').next()?;
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
        is_name.then_some(name)
    });
    names
        .map(|name| {
            let number = numbers.entry(name).or_default();
            *number += 1;
            Call { name: name.to_owned(), number: *number }
        })
        .collect()
}

/// Where strace writes, in the sandbox.
const TRACE: &str = "/tmp/trace";

/// What strace, started by `strace`, writes of a run of that command, which must succeed.
pub fn of(strace: &[String], mut sandbox: Sandbox, command: &[&str]) -> Result<String> {
    sandbox.collect.push(TRACE.into());
    let strace = strace.iter().map(String::as_str).chain(["-f", "-qq", "-o", TRACE]);
    let run = Run::of(strace.chain(command.iter().copied()).map(str::to_owned).collect());
    let outcomes = job::play(sandbox, vec![vec![run]])?;
    let ran = outcomes.first().and_then(|outcome| outcome.runs.first()).context("trace the program")?;
    exited(ran, 0)?;
    Ok(ran.files.get(TRACE).context("read the trace")?.clone())
}

/// The free loop device is somebody else's now; something was mounted or renamed during `openat2`.
const IN_BETWEEN: [&str; 2] = [" EBUSY ", " EAGAIN "];

/// The program tries again when another trial, or anything else on the machine, came in between. Such
/// a run has calls that others have not.
pub fn undisturbed(trace: impl Fn() -> Result<String>) -> Result<String> {
    const TIMES: usize = 20;
    for _ in 0..TIMES {
        let trace = trace()?;
        if !IN_BETWEEN.iter().any(|error| trace.contains(error)) {
            return Ok(trace);
        }
    }
    Err(format!("something came in between {TIMES} times"))
}

/// How often each was made, the most frequent first, in one line: `openat2 27, close 30`.
pub fn by_name(calls: &[Call]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        *counts.entry(&call.name).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
