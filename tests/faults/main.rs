//! What becomes of a run when any one of its system calls fails, or when it is killed there: the new
//! root, or everything as before; and the next run makes the new root.
//!
//! `PREPARE_ROOT_FAULTS=all` tries every system call; else it is a sample.

mod calls;
mod configuration;
mod disturbance;
mod exceptions;
mod faults;
mod kills;
mod last;
mod sample;
mod tally;
mod view;

#[path = "../behaviour/setting.rs"]
#[allow(dead_code, reason = "tests/behaviour uses the rest")]
mod setting;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use support::trials;

fn main() -> ExitCode {
    let status = trials::main(|| {
        let mut trials = faults::faults();
        trials.extend(kills::kills());
        trials.extend(last::last());
        trials
    });
    tally::print();
    status
}
