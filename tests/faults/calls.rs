//! The system calls of an undisturbed run.

use crate::configuration::{Configuration, TRACE};
use crate::setting::Setting;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::exited;
use crate::support::trace::{self, Call};

/// The last thing that the C library does before the program begins.
const BEFORE_MAIN: &str = "set_tid_address";

/// Those that the program makes after `main` began.
pub fn of(configuration: &Configuration, setting: Setting) -> Result<Vec<Call>> {
    let trace = trace(configuration, setting)?;
    let mut calls = trace::calls(&trace);
    let main = calls.iter().rposition(|call| call.name == BEFORE_MAIN).context("find main")? + 1;
    let mut calls = calls.split_off(main);
    // One that is newer than this strace cannot be disturbed by it.
    calls.retain(|call| !call.name.starts_with("syscall_0x"));
    Ok(calls)
}

fn trace(configuration: &Configuration, setting: Setting) -> Result<String> {
    trace::undisturbed(|| {
        let sandbox = configuration.sandbox(setting)?;
        let outcomes = job::play(sandbox, vec![vec![configuration.traced(setting)?]])?;
        let ran = outcomes.first().and_then(|outcome| outcome.runs.first()).context("trace the program")?;
        exited(ran, 0)?;
        Ok(ran.files.get(TRACE).context("read the trace")?.clone())
    })
}
