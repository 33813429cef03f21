//! One system call fails.

use crate::calls;
use crate::configuration::{Configuration, TRACE};
use crate::disturbance::Disturbance;
use crate::exceptions::{DIFFERENCES, may_die};
use crate::sample;
use crate::setting::*;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, replaced_only};
use crate::support::sandbox::{Outcome, Ran, Run};
use crate::support::trials::ignorable;
use crate::tally;
use crate::view::{View, is_right};
use libtest_mimic::{Completion, Trial};

/// Scenes in a sandbox: more would be more memory, fewer more sandboxes.
const SCENES: usize = 50;

/// Of what is wrong, so many are told.
const EXAMPLES: usize = 20;

pub fn faults() -> Vec<Trial> {
    let trial = |(configuration, setting): (&'static Configuration, Setting)| {
        let name = format!("a system call fails, {}: {}", configuration.name, setting.name());
        ignorable(name, move || fail_one_by_one(configuration, setting))
    };
    Configuration::settings().map(trial).collect()
}

fn fail_one_by_one(configuration: &'static Configuration, setting: Setting) -> Result<Completion> {
    if let Some(obstacle) = configuration.obstacle()? {
        return Ok(Completion::ignored_with(obstacle));
    }
    let calls = calls::of(configuration, setting)?;
    let mut all: Vec<Disturbance> = calls.iter().flat_map(Disturbance::failures).collect();
    all.retain(|disturbance| configuration.can_be_disturbed_at(disturbance));
    let chosen = sample::of(all, setting, |disturbance| &disturbance.call.name);
    let run = configuration.run(setting)?;
    let scene =
        |disturbance: &Disturbance| Ok(vec![configuration.disturbed(setting, disturbance)?, run.clone()]);
    in_scenes(configuration, setting, chosen, scene, |disturbance, outcome, undisturbed| {
        let end = end(setting, disturbance, outcome, undisturbed)?;
        tally::count("failures", configuration.name, end);
        Ok(())
    })?;
    Ok(Completion::Completed)
}

/// Plays a scene for each of these, and judges it; says what is wrong with how many.
pub fn in_scenes<T: std::fmt::Display>(
    configuration: &Configuration,
    setting: Setting,
    subjects: Vec<T>,
    scene: impl Fn(&T) -> Result<Vec<Run>>,
    judge: impl Fn(&T, &Outcome, &Ran) -> Result<()>,
) -> Result<()> {
    let mut wrong = Vec::new();
    for subjects in subjects.chunks(SCENES) {
        let mut scenes = vec![vec![configuration.run(setting)?]];
        for subject in subjects {
            scenes.push(scene(subject)?);
        }
        let outcomes = job::play(configuration.sandbox(setting)?, scenes)?;
        let [undisturbed, outcomes @ ..] = &outcomes[..] else { return Err("nothing was played".into()) };
        let undisturbed = undisturbed.runs.first().context("run the program undisturbed")?;
        exited(undisturbed, 0)?;
        for (subject, outcome) in subjects.iter().zip(outcomes) {
            if let Err(reason) = judge(subject, outcome, undisturbed) {
                wrong.push(format!("{subject}: {reason}"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let examples: Vec<_> = wrong.iter().take(EXAMPLES).map(String::as_str).collect();
    Err(format!("{} of {}:\n{}", wrong.len(), subjects.len(), examples.join("\n")))
}

/// How it ended; an error if that is not right.
fn end(
    setting: Setting,
    disturbance: &Disturbance,
    outcome: &Outcome,
    undisturbed: &Ran,
) -> Result<&'static str> {
    let [failed, again] = &outcome.runs[..] else { return Err("not two runs".into()) };
    let trace = failed.files.get(TRACE).context("read the trace")?;
    if !disturbance.happened_in(trace) {
        return Err(format!("this call was not made; exit status {:?}: {}", failed.status, failed.stderr));
    }
    match failed.status {
        Some(0) => {
            replaced_only(setting.shared, outcome, failed)?;
            exited(again, 0)?;
            succeeded(disturbance, undisturbed, failed, again)
        }
        Some(_) => {
            nothing_changed(&outcome.before, &failed.after)?;
            if !failed.stderr.starts_with("ostree-prepare-root: ") {
                return Err(format!("this is no message: {}", failed.stderr));
            }
            exited(again, 0)?;
            is_right(undisturbed, again).context("the second run")?;
            Ok("refused and undone")
        }
        None if may_die(disturbance) => {
            exited(again, 0)?;
            is_right(undisturbed, again).context("the second run")?;
            Ok("died without memory, the next run succeeded")
        }
        None => Err(format!("it died: {}", failed.stderr)),
    }
}

/// With the same result, or with one that is right nevertheless; the next run adds nothing to it.
fn succeeded(disturbance: &Disturbance, undisturbed: &Ran, ran: &Ran, again: &Ran) -> Result<&'static str> {
    let Err(difference) = is_right(undisturbed, ran) else {
        nothing_changed(&ran.after, &again.after).context("the second run")?;
        return Ok("succeeded");
    };
    for exception in DIFFERENCES.iter().filter(|exception| (exception.covers)(disturbance, ran)) {
        let is_right = |found: &Ran| {
            let [mut expected, mut found] = [undisturbed, found].map(|ran| View::of(&ran.after));
            (exception.forgive)(&mut expected, &mut found);
            expected.same(&found)
        };
        if is_right(ran).is_ok() {
            return is_right(again).context("the second run").map(|()| exception.end);
        }
    }
    Err(difference)
}
