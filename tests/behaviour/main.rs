//! What our program does beyond, and differently from, libostree's: who mounts `/var` and `/boot`,
//! what it refuses and how it says so.

mod composefs;
mod explanation;
mod hostile;
mod races;
mod recovery;
mod refusals;
mod runs;
mod scene;
mod setting;
mod signed;
mod spellings;
#[path = "../support/mod.rs"]
mod support;
mod troubleshooting;
mod usage;
mod wiring;

use std::process::ExitCode;
use support::trials;

fn main() -> ExitCode {
    trials::main(|| {
        let mut trials = Vec::new();
        trials.extend(wiring::var_and_boot());
        trials.extend(spellings::spellings());
        trials.extend(refusals::refusals());
        trials.extend(recovery::recovery());
        trials.extend(hostile::hostile());
        trials.extend(usage::usage());
        trials.extend(runs::runs());
        trials.extend(composefs::composefs());
        trials.extend(signed::signed());
        trials.extend(explanation::explanation());
        trials.extend(troubleshooting::troubleshooting());
        trials.extend(races::races());
        trials
    })
}
