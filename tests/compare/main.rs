//! Drop-in: on the same disk, with the same configuration and kernel arguments, our program and
//! libostree's make the same mounts and the same files in `/run`, except where [`differences`] says
//! that they do not.
//!
//! `PREPARE_ROOT_PAIRWISE=1` runs so many combinations that every two values of two dimensions meet.

mod differences;
mod manual;
mod matrix;
mod seen;
#[path = "../support/mod.rs"]
mod support;

use differences::{DIFFERENCES, Difference, Instead, as_on_newer_kernels, covering};
use libtest_mimic::Trial;
use matrix::{Combination, Part, Physical, Target};
use seen::{FILES, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use support::failure::{Context, Result};
use support::promises::{nothing_changed, replaced_only};
use support::sandbox::{Edit, Ground, Outcome, Ran, Run, Sandbox};
use support::sysroots::{Disk, Disks};
use support::{job, reference, trials};

fn main() -> ExitCode {
    trials::main(|| {
        let mut parts = matrix::parts();
        let examples: Vec<_> = DIFFERENCES.iter().map(|it| (it, example(it, &parts))).collect();
        if std::env::var_os("PREPARE_ROOT_PAIRWISE").is_some_and(|value| value == "1") {
            parts.iter_mut().for_each(Part::pairwise);
            let examples = examples.iter().filter_map(|(_, example)| *example);
            parts.push(Part { name: "an example of each difference", combinations: examples.collect() });
        }
        let mut trials: Vec<Trial> = examples.into_iter().map(listed).collect();
        trials.extend(all(parts).into_iter().map(|it| trials::trial(it.to_string(), move || compare(it))));
        trials
    })
}

/// All parts together, and how many combinations these are.
fn all(parts: Vec<Part>) -> BTreeSet<Combination> {
    let mut all = BTreeSet::new();
    for Part { name, combinations } in parts {
        eprintln!("{name}: {} combinations", combinations.len());
        all.extend(combinations);
    }
    let questions: BTreeSet<_> = all.iter().map(|combination| combination.question()).collect();
    eprintln!("all: {} combinations, {} of them for the reference", all.len(), questions.len());
    all
}

/// A combination in which that difference shows.
fn example(difference: &Difference, parts: &[Part]) -> Option<Combination> {
    parts.iter().flat_map(|part| &part.combinations).find(|it| (difference.covers)(it)).copied()
}

/// A difference must show somewhere, and the manual page must tell why it does.
fn listed((difference, example): (&'static Difference, Option<Combination>)) -> Trial {
    Trial::test(format!("listed: {}", difference.name), move || {
        example.context("find it in the matrix")?;
        Ok(manual::explains(difference.reason)?)
    })
}

fn compare(combination: Combination) -> Result<()> {
    let covering = covering(&combination)?;
    let expected = expected(combination, &covering)?;
    for difference in &covering {
        let others: Vec<_> = covering.iter().filter(|it| it.name != difference.name).copied().collect();
        if self::expected(combination, &others).is_ok_and(|it| it.difference(&expected).is_none()) {
            return Err(format!("this is no difference any more: {}", difference.name));
        }
    }
    let outcome = run(combination, |_| {})?;
    let ours = &outcome.runs[0];
    let found = Seen::of(ours, disk(combination)?)?;
    if let Some(difference) = expected.difference(&found) {
        let names: Vec<_> = covering.iter().map(|it| it.name).collect();
        let Ran { stdout, stderr, .. } = ours;
        let said = format!("libostree's said:\n{}our program said:\n{stdout}{stderr}", expected.complaint);
        return Err(format!("expected (-) with {names:?} and found (+):\n{difference}{said}"));
    }
    // Not so the reference, which makes every mount private that it finds, and leaves things behind.
    if found.succeeded {
        return replaced_only(combination.shared, &outcome, ours);
    }
    ours.status.context("get an exit status, not a signal")?;
    nothing_changed(&outcome.before, &ours.after)
}

/// What our program should make: what the reference makes, but for those differences.
fn expected(combination: Combination, differences: &[&Difference]) -> Result<Seen> {
    let mut question = combination.question();
    for difference in differences {
        if let Instead::AsIf(asked) = difference.instead {
            question = asked(question);
        }
    }
    let mut expected = ask(question)?;
    for difference in differences {
        if let Instead::Changed(change) = difference.instead {
            expected = change(question, expected, ask)?;
        }
    }
    Ok(expected)
}

/// What the reference makes, found out once.
fn ask(question: Combination) -> Result<Seen> {
    type Answer = Arc<OnceLock<Result<Seen>>>;
    static ANSWERS: Mutex<BTreeMap<Combination, Answer>> = Mutex::new(BTreeMap::new());
    let answer = {
        let mut answers = ANSWERS.lock().map_err(|_| "another comparison panicked")?;
        Arc::clone(answers.entry(question).or_default())
    };
    answer.get_or_init(|| ask_patiently(question).map(as_on_newer_kernels)).clone()
}

/// Where images need loop devices, the reference takes the first that is free, and gives up if another
/// program (here, of another trial) is faster.
fn ask_patiently(question: Combination) -> Result<Seen> {
    const LOST: &str = "Failed to mount composefs: composefs: failed to mount: Device or resource busy";
    const TIMES: usize = 20;
    for _ in 0..TIMES {
        let outcome = run(question, |arguments| reference::PROGRAM.clone_into(&mut arguments[0]))?;
        let seen = Seen::of(&outcome.runs[0], disk(question)?)?;
        if !seen.complaint.contains(LOST) {
            return Ok(seen);
        }
    }
    Err(format!("the reference found {TIMES} times that its loop device was somebody else's"))
}

/// Runs our program in a combination, or the one that `instead` puts in its place.
fn run(combination: Combination, instead: impl FnOnce(&mut Vec<String>)) -> Result<Outcome> {
    // Two overlays must not write to one layer. The disks are everybody's.
    static LAYER: Mutex<()> = Mutex::new(());
    let mut sandbox = sandbox(combination)?;
    instead(&mut sandbox.runs[0].arguments);
    let writes = combination.hotfix && combination.physical == Physical::Writable;
    let _alone = writes.then(|| LAYER.lock());
    job::run(sandbox)
}

/// Our program in the sandbox of a combination.
fn sandbox(combination: Combination) -> Result<Sandbox> {
    let disk = disk(combination)?;
    // The last boot link: with two deployments, the one that is not the first.
    let mut cmdline = match (combination.target, &disk.boot_links[..]) {
        (Target::SlotA, _) => "quiet androidboot.slot_suffix=_a".to_owned(),
        (Target::SlotB, _) => "quiet androidboot.slot_suffix=_b".to_owned(),
        (Target::Argument, [.., last]) => format!("quiet ostree={last} rw"),
        (Target::Argument, []) => return Err("no boot link".into()),
    };
    if let Some(value) = combination.argument {
        cmdline += &format!(" ostree.prepare-root.composefs={value}");
    }
    let readonly = combination.physical == Physical::ReadOnlyMount;
    let ground = Ground::Disk { mounted: disk.mounted.clone(), readonly, hardened: false };
    let mut sandbox = Sandbox::new(Disks::get()?, ground)?;
    sandbox.shared = combination.shared;
    sandbox.loop_devices = true;
    let configuration = combination.configuration();
    if !configuration.is_empty() {
        sandbox.edits.push(Edit::File("/etc/ostree/prepare-root.conf".into(), configuration.into()));
    }
    sandbox.collect.extend(FILES.map(str::to_owned));
    sandbox.runs.push(Run::of(combination.way().command(&cmdline)));
    Ok(sandbox)
}

fn disk(combination: Combination) -> Result<&'static Disk> {
    Ok(Disks::get()?.disk(combination.kind(), combination.physical == Physical::ReadOnlyFilesystem))
}
