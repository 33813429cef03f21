//! More than one system call fails.

use crate::calls;
use crate::configuration::{Configuration, TRACE};
use crate::disturbance::{Disturbance, What};
use crate::faults::in_scenes;
use crate::setting::*;
use crate::support::failure::{Context, Result};
use crate::support::promises::{exited, nothing_changed, nothing_changed_outside, same};
use crate::support::sandbox::{Outcome, Ran, SYSROOT};
use crate::support::trace::Call;
use crate::support::trials::ignorable;
use crate::tally;
use crate::view::is_right;
use libtest_mimic::{Completion, Trial};
use std::cell::Cell;

/// It cannot be undone either.
const UNDO: i32 = 12;

pub fn last() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::all() {
        let name = format!("openat2 has to be tried again: {}", setting.name());
        trials.push(ignorable(name, move || try_again(setting)));
        // Where the kernel cannot, the way goes like the others.
        let beneath = setting.way.is_beneath().unwrap_or(true);
        let call = if beneath { "umount2" } else { "move_mount" };
        let name = format!("from some {call} on all fail: {}", setting.name());
        trials.push(ignorable(name, move || fail_for_good(setting, call, beneath)));
    }
    trials
}

fn try_again(setting: Setting) -> Result<Completion> {
    let configuration = Configuration::named("marker")?;
    if let Some(obstacle) = configuration.obstacle()? {
        return Ok(Completion::ignored_with(obstacle));
    }
    let call = Call { name: "openat2".into(), number: 1 };
    let all = vec![Disturbance { call, what: What::TryAgain(500) }];
    let scene = |disturbance: &Disturbance| Ok(vec![configuration.disturbed(setting, disturbance)?]);
    in_scenes(configuration, setting, all, scene, |disturbance, outcome, undisturbed| {
        let ran = outcome.runs.first().context("run the program")?;
        let trace = ran.files.get(TRACE).context("read the trace")?;
        same("did it happen so often", &[true], &[disturbance.happened_in(trace)])?;
        exited(ran, 0)?;
        is_right(undisturbed, ran)
    })?;
    Ok(Completion::Completed)
}

/// The new root is beneath, and the old one cannot be taken off; or the old one was taken off, and
/// neither can be put on. The next run can do it.
fn fail_for_good(setting: Setting, call: &'static str, beneath: bool) -> Result<Completion> {
    let configuration = Configuration::named("marker")?;
    if let Some(obstacle) = configuration.obstacle()? {
        return Ok(Completion::ignored_with(obstacle));
    }
    let mut calls = calls::of(configuration, setting)?;
    calls.retain(|it| it.name == call);
    let failing = |call| Disturbance { call, what: What::ErrorFromThereOn("EIO") };
    let all = calls.into_iter().map(failing).collect();
    let run = configuration.run(setting)?;
    let scene =
        |disturbance: &Disturbance| Ok(vec![configuration.disturbed(setting, disturbance)?, run.clone()]);
    let seen = Cell::new(false);
    in_scenes(configuration, setting, all, scene, |_, outcome, undisturbed| {
        let end = end(outcome, undisturbed, beneath)?;
        seen.set(seen.get() || end == IMPOSSIBLE);
        tally::count("failures for good", configuration.name, end);
        Ok(())
    })?;
    same("was it impossible anywhere", &[true], &[seen.get()])?;
    Ok(Completion::Completed)
}

const IMPOSSIBLE: &str = "exit status 12, the next run succeeded";

fn end(outcome: &Outcome, undisturbed: &Ran, beneath: bool) -> Result<&'static str> {
    let [failed, again] = &outcome.runs[..] else { return Err("not two runs".into()) };
    exited(again, 0)?;
    is_right(undisturbed, again).context("the second run")?;
    match failed.status {
        Some(0) => Ok("succeeded"),
        Some(UNDO) => {
            let says = match beneath {
                true => "detach /sysroot from above the new root",
                false => "putting the physical root back",
            };
            same("does the message say it", &[true], &[failed.stderr.contains(says)])?;
            if !beneath {
                same("mounts at /sysroot", &[], &failed.after.mounts.below(SYSROOT))?;
            }
            nothing_changed_outside(&outcome.before, &failed.after).map(|()| IMPOSSIBLE)
        }
        _ => nothing_changed(&outcome.before, &failed.after).map(|()| "refused and undone"),
    }
}
