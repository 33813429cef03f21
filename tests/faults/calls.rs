//! The system calls of an undisturbed run.

use crate::configuration::{Configuration, TRACE};
use crate::setting::Setting;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::exited;
use std::collections::BTreeMap;
use std::fmt;

/// A system call: which, and the how manieth of its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub name: String,
    pub number: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} number {}", self.name, self.number)
    }
}

/// The last thing that happens before the program begins: SIGPIPE is ignored.
const BEFORE_MAIN: &str = "rt_sigaction";

/// The free loop device is somebody else's now; something was mounted or renamed during `openat2`.
const IN_BETWEEN: [&str; 2] = [" EBUSY ", " EAGAIN "];

/// Those that the program makes after `main` began.
pub fn of(configuration: &Configuration, setting: Setting) -> Result<Vec<Call>> {
    let trace = trace(configuration, setting)?;
    let mut calls = in_trace(&trace);
    let main = calls.iter().rposition(|call| call.name == BEFORE_MAIN).context("find main")? + 1;
    Ok(calls.split_off(main))
}

/// The program tries again when another trial, or anything else on the machine, came in between. Such
/// a run has calls that others have not.
fn trace(configuration: &Configuration, setting: Setting) -> Result<String> {
    const TIMES: usize = 20;
    for _ in 0..TIMES {
        let sandbox = configuration.sandbox(setting)?;
        let outcomes = job::play(sandbox, vec![vec![configuration.traced(setting)?]])?;
        let ran = outcomes.first().and_then(|outcome| outcome.runs.first()).context("trace the program")?;
        exited(ran, 0)?;
        let trace = ran.files.get(TRACE).context("read the trace")?;
        if !IN_BETWEEN.iter().any(|error| trace.contains(error)) {
            return Ok(trace.clone());
        }
    }
    Err(format!("something came in between {TIMES} times"))
}

/// The lines are `PID NAME(ARGUMENTS) = RESULT`; those about signals and the end have no name.
fn in_trace(trace: &str) -> Vec<Call> {
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
