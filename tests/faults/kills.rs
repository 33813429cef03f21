//! The program is killed, and run again.

use crate::calls;
use crate::configuration::Configuration;
use crate::disturbance::Disturbance;
use crate::faults::in_scenes;
use crate::sample;
use crate::setting::*;
use crate::support::failure::Result;
use crate::support::promises::exited;
use crate::support::sandbox::{Outcome, Ran};
use crate::support::trace::Call;
use crate::support::trials::ignorable;
use crate::tally;
use crate::view::is_right;
use libtest_mimic::{Completion, Trial};
use std::fmt;

/// Where the program is killed, run after run; then it is run once more.
#[derive(Clone)]
struct Kills(Vec<Disturbance>);

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", then "))
    }
}

pub fn kills() -> Vec<Trial> {
    let trial = |(configuration, setting): (&'static Configuration, Setting)| {
        let name = format!("killed and run again, {}: {}", configuration.name, setting.name());
        ignorable(name, move || kill_one_by_one(configuration, setting))
    };
    Configuration::settings().map(trial).collect()
}

fn kill_one_by_one(configuration: &'static Configuration, setting: Setting) -> Result<Completion> {
    if let Some(obstacle) = configuration.obstacle()? {
        return Ok(Completion::ignored_with(obstacle));
    }
    let mut calls = calls::of(configuration, setting)?;
    calls.retain(|call| configuration.can_be_disturbed_at(&Disturbance::kill(call)));
    let chosen = sample::of(all(&calls), setting, |kills| &kills.0[0].call.name);
    let run = configuration.run(setting)?;
    let scene = |kills: &Kills| {
        let killed = kills.0.iter().map(|kill| configuration.disturbed(setting, kill));
        killed.chain([Ok(run.clone())]).collect()
    };
    in_scenes(configuration, setting, chosen, scene, |_, outcome, undisturbed| {
        let end = end(outcome, undisturbed)?;
        tally::count("kills", configuration.name, end);
        Ok(())
    })?;
    Ok(Completion::Completed)
}

/// Once at every call; and twice, the second time anywhere else.
fn all(calls: &[Call]) -> Vec<Kills> {
    let mut all = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let first = Disturbance::kill(call);
        // A step that shares no divisor with any likely number of calls leads everywhere.
        let second = Disturbance::kill(&calls[(index * 101 + 57) % calls.len()]);
        all.push(Kills(vec![first.clone()]));
        all.push(Kills(vec![first, second]));
    }
    all
}

fn end(outcome: &Outcome, undisturbed: &Ran) -> Result<&'static str> {
    let [killed @ .., last] = &outcome.runs[..] else { return Err("nothing was run".into()) };
    // A second run may be over before it comes to the place where it is to be killed.
    match killed.first() {
        Some(Ran { status: None, .. }) => {}
        other => return Err(format!("it was not killed: {:?}", other.map(|ran| ran.status))),
    }
    exited(last, 0)?;
    is_right(undisturbed, last)?;
    match killed.iter().filter(|ran| ran.status.is_none()).count() {
        1 => Ok("once"),
        _ => Ok("twice"),
    }
}
