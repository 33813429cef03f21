//! Drop-in: on the same disk, with the same configuration and kernel arguments, our program and libostree's make the same
//! mounts and the same files in `/run`, for every configuration without composefs.
//!
//! `PREPARE_ROOT_PAIRWISE=1` runs so many combinations that every two values of two dimensions meet.

mod support;

use libtest_mimic::Trial;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use support::failure::Result;
use support::promises::{exited, replaced_only, same};
use support::random::{without_random, without_random_rows};
use support::sandbox::{Edit, Ground, Outcome, Ran, Run, SYSROOT, Sandbox};
use support::sysroots::{Disks, Kind};
use support::ways::WAYS;
use support::{job, reference, trials};

/// A dimension: its name, and the names of its values.
type Dimension = (&'static str, &'static [&'static str]);

const READONLY: Dimension = (
    "readonly",
    &["unset", "true", "false", "legacy", "false+legacy", "unset+etc", "true+etc", "false+etc", "legacy+etc"],
);
const ROOT: Dimension = ("root", &["rw", "ro-filesystem", "ro-bind"]);
const MOUNTS: Dimension = ("mounts", &["shared", "private"]);
const TARGET: Dimension = ("target", &["ostree=", "slot-a", "slot-b"]);
const DEPLOYMENTS: Dimension = ("deployments", &["1", "2"]);
const WAY: Dimension = ("way", &[WAYS[0].name, WAYS[1].name, WAYS[2].name, WAYS[3].name]);

/// All dimensions. The reference knows all but the last.
const DIMENSIONS: [Dimension; 6] = [READONLY, ROOT, MOUNTS, TARGET, DEPLOYMENTS, WAY];

/// For every dimension, the index of a value.
type Combination = [usize; DIMENSIONS.len()];

/// It has another text in each deployment.
const HOSTNAME: &str = "/sysroot/etc/hostname";

fn main() -> ExitCode {
    trials::main(|| {
        let mut combinations = cross_product();
        if std::env::var_os("PREPARE_ROOT_PAIRWISE").is_some_and(|value| value == "1") {
            combinations = pairwise(&combinations);
        }
        let references: BTreeSet<_> = combinations.iter().map(question).collect();
        eprintln!("{} combinations, {} of them for the reference", combinations.len(), references.len());
        combinations.into_iter().map(trial).collect()
    })
}

fn trial(combination: Combination) -> Trial {
    let values =
        DIMENSIONS.iter().zip(combination).map(|((name, values), index)| format!("{name}:{}", values[index]));
    trials::trial(values.collect::<Vec<_>>().join(" "), move || compare(combination))
}

fn compare(combination: Combination) -> Result<()> {
    let sandbox = sandbox(combination)?;
    let shared = sandbox.shared;
    let reference = reference_outcome(combination)?;
    let theirs = &reference.runs[0];
    let outcome = job::run(sandbox)?;
    let ours = &outcome.runs[0];
    exited(theirs, 0).map_err(|error| format!("the reference: {error}"))?;
    exited(ours, 0)?;
    let mounts = |ran: &Ran| without_random_rows(ran.after.mounts.below(SYSROOT));
    same("mounts", &mounts(theirs), &mounts(ours))?;
    let run = |ran: &Ran| ran.after.run.iter().map(|entry| without_random(entry)).collect::<Vec<_>>();
    same("/run", &run(theirs), &run(ours))?;
    let hostname = |ran: &Ran| ran.files.get(HOSTNAME).cloned().unwrap_or_else(|| "none".to_owned());
    same("/etc/hostname", &[hostname(theirs)], &[hostname(ours)])?;
    // Not so the reference, which makes every mount private that it finds.
    replaced_only(shared, &outcome, ours)
}

/// Our program in the sandbox of a combination.
fn sandbox(combination: Combination) -> Result<Sandbox> {
    let [readonly, root, mounts, target, deployments, _] = name(combination);
    let disks = Disks::get()?;
    let kind = Kind { deployments: combination[4] + 1, legacy_readonly: readonly.contains("legacy") };
    let disk = disks.disk(kind, root == "ro-filesystem");
    // The last boot link: with two deployments, the one that is not the first.
    let cmdline = match (target, &disk.boot_links[..]) {
        ("slot-a", _) => "quiet androidboot.slot_suffix=_a".to_owned(),
        ("slot-b", _) => "quiet androidboot.slot_suffix=_b".to_owned(),
        (_, [.., last]) => format!("quiet ostree={last} rw"),
        (_, []) => return Err(format!("no boot link on disk {deployments}")),
    };
    let mut config = String::new();
    if let Some(value @ ("true" | "false")) = readonly.split('+').next() {
        config += &format!("[sysroot]\nreadonly={value}\n");
    }
    if readonly.ends_with("+etc") {
        config += "[etc]\ntransient=true\n";
    }
    let way = &WAYS[combination[5]];
    let ground = Ground::Disk { mounted: disk.mounted.clone(), readonly: root == "ro-bind", hardened: false };
    let mut sandbox = Sandbox::new(disks, ground)?;
    sandbox.shared = mounts == "shared";
    if !config.is_empty() {
        sandbox.edits.push(Edit::File("/etc/ostree/prepare-root.conf".into(), config.into()));
    }
    sandbox.collect.push(HOSTNAME.into());
    sandbox.runs.push(Run::of(way.command(&cmdline)));
    Ok(sandbox)
}

fn name(combination: Combination) -> [&'static str; DIMENSIONS.len()] {
    std::array::from_fn(|dimension| DIMENSIONS[dimension].1[combination[dimension]])
}

/// What is asked of the reference: a combination without the ways of our program.
fn question(combination: &Combination) -> Combination {
    let mut question = *combination;
    question[DIMENSIONS.len() - 1] = 0;
    question
}

/// What the reference does, found out once.
fn reference_outcome(combination: Combination) -> Result<Arc<Outcome>> {
    type Answer = Arc<OnceLock<Result<Arc<Outcome>>>>;
    static ANSWERS: Mutex<BTreeMap<Combination, Answer>> = Mutex::new(BTreeMap::new());
    let question = question(&combination);
    let answer = {
        let mut answers = ANSWERS.lock().map_err(|_| "another comparison panicked")?;
        Arc::clone(answers.entry(question).or_default())
    };
    answer
        .get_or_init(|| {
            let mut sandbox = sandbox(question)?;
            reference::PROGRAM.clone_into(&mut sandbox.runs[0].arguments[0]);
            job::run(sandbox).map(Arc::new)
        })
        .clone()
}

fn cross_product() -> Vec<Combination> {
    let mut combinations = vec![[0; DIMENSIONS.len()]];
    for (dimension, (_, values)) in DIMENSIONS.iter().enumerate() {
        combinations = combinations
            .into_iter()
            .flat_map(|combination| {
                (0..values.len()).map(move |value| {
                    let mut combination = combination;
                    combination[dimension] = value;
                    combination
                })
            })
            .collect();
    }
    combinations
}

/// Takes the combination with most pairs not met yet, until there are none.
fn pairwise(all: &[Combination]) -> Vec<Combination> {
    let pairs = |combination: &Combination| {
        let numbered: Vec<(usize, usize)> = combination.iter().copied().enumerate().collect();
        let mut pairs = BTreeSet::new();
        for (at, first) in numbered.iter().enumerate() {
            pairs.extend(numbered[at + 1..].iter().map(|second| (*first, *second)));
        }
        pairs
    };
    let mut missing: BTreeSet<_> = all.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let gain = |combination: &&Combination| pairs(combination).intersection(&missing).count();
        let Some(best) = all.iter().max_by_key(gain) else { break };
        missing = missing.difference(&pairs(best)).copied().collect();
        chosen.push(*best);
    }
    chosen
}
