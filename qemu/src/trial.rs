//! Runs scenarios and judges them.

use crate::disk::{Builder, Disk};
use crate::expect::Expect;
use crate::product::Program;
use crate::qemu::{Boot, First, Outcome};
use crate::recipe::Recipe;
use crate::scenario::{Boots, Scenario};
use crate::script;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// What came of one scenario.
pub struct Verdict {
    /// One line for each assertion: its name, and why it does not hold.
    lines: Vec<(String, Result<(), String>)>,
    /// What somebody who looks into it wants to read next.
    details: String,
}

impl Verdict {
    /// Builds, boots and judges one scenario.
    pub fn of(scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>) -> Self {
        let mut verdict = Self { lines: Vec::new(), details: String::new() };
        match outcome(scenario, builder, boot) {
            Ok(outcome) => verdict.judge(scenario, &outcome),
            Err(error) => {
                // The line of a test is one line; the rest is for the person reading.
                let text = format!("{error:#}");
                let (reason, rest) = text.split_once('\n').unwrap_or((&text, ""));
                verdict.lines.push((scenario.name.clone(), Err(reason.to_owned())));
                rest.clone_into(&mut verdict.details);
            }
        }
        if !verdict.passed() {
            let console = boot.logs.join("console.log");
            if let Ok(tail) = script::tail(&console) {
                verdict.details += &format!("the console ends with:\n{tail}");
            }
            verdict.details += &format!("logs: {}\n", boot.logs.display());
        }
        verdict
    }

    fn judge(&mut self, scenario: &Scenario, outcome: &Outcome) {
        for expectation in scenario.expect.iter().copied().flatten() {
            // The reference is judged by the same list; it only does not log what ours does.
            if matches!(expectation, Expect::OurLog) && scenario.recipe.program == Program::Libostree {
                continue;
            }
            let result = expectation.check(outcome);
            let failed = result.is_err();
            self.lines.push((format!("{}/{expectation}", scenario.name), result));
            // Without a report, every further line would only repeat that there is none.
            if failed && !outcome.report.is_complete() {
                break;
            }
        }
    }

    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.lines.iter().all(|(_, result)| result.is_ok())
    }

    /// Prints it.
    fn print(&self) {
        for (name, result) in &self.lines {
            match result {
                Ok(()) => println!("test {name} ... ok"),
                Err(reason) => println!("test {name} ... FAILED ({reason})"),
            }
        }
        eprint!("{}", self.details);
    }
}

/// Runs scenarios, `jobs` at a time, and prints what came of each as soon as it is known. Those that share a
/// disk run one after the other. The verdicts are in the order of the scenarios.
pub fn run_all(
    scenarios: &[Scenario],
    jobs: NonZero<usize>,
    run: impl Fn(&Scenario) -> Result<Verdict> + Sync,
) -> Result<Vec<Verdict>> {
    let queue = Mutex::new(by_disk(scenarios).into_iter());
    let verdicts = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            // A statement of its own: the lock ends with it.
            let next = lock(&queue).next();
            let Some(group) = next else { return Ok(()) };
            for index in group {
                let verdict = run(&scenarios[index])?;
                let mut verdicts = lock(&verdicts);
                verdict.print();
                verdicts.push((index, verdict));
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.get()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    verdicts.sort_by_key(|(index, _)| *index);
    Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
}

/// The scenarios' numbers, in groups of one disk.
fn by_disk(scenarios: &[Scenario]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&Recipe, Vec<usize>)> = Vec::new();
    for (index, Scenario { recipe, .. }) in scenarios.iter().enumerate() {
        match groups.iter_mut().find(|(other, _)| other.same_disk(recipe)) {
            Some((_, group)) => group.push(index),
            None => groups.push((recipe, vec![index])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the last line; whether nothing failed.
pub fn finish(verdicts: &[Verdict]) -> bool {
    let lines = || verdicts.iter().flat_map(|verdict| &verdict.lines);
    let passed = lines().filter(|(_, result)| result.is_ok()).count();
    let failed = lines().count() - passed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored");
    failed == 0
}

/// Builds the disk and boots it, as often as the scenario wants.
fn outcome(scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>) -> Result<Outcome> {
    let twice = scenario.boots != Boots::Once;
    let disk = builder.disk(&scenario.recipe, twice, boot.logs)?;
    if twice {
        return boot_twice(scenario, builder, boot, &disk);
    }
    builder.progress.step(&format!("{}: booting", scenario.name), || boot.run(&disk))
}

/// Boots a disk of our own, and once more what the first boot left of it.
fn boot_twice(scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>, disk: &Disk) -> Result<Outcome> {
    let name = &scenario.name;
    let logs = boot.logs.join("first");
    fs::create_dir(&logs).context("create a log directory")?;
    let disk_before = disk.listing(&logs)?;
    let boot = Boot { keep: true, ..*boot };
    let first =
        builder.progress.step(&format!("{name}: booting"), || Boot { logs: &logs, ..boot }.run(disk))?;
    first.complete().map_err(|reason| anyhow!("the first of two boots: {reason}"))?;
    let argument = match scenario.boots {
        Boots::AsSuggested => Some(first.suggestion().context("the first boot suggested nothing")?),
        Boots::Once | Boots::Twice => None,
    };
    let again = format!("{name}: booting once more {}", argument.unwrap_or_default());
    let second = builder.progress.step(again.trim_end(), || Boot { argument, ..boot }.run(disk))?;
    let disk_after = disk.listing(boot.logs)?;
    let first = First { outcome: first, disk_before, disk_after };
    Ok(Outcome { first: Some(Box::new(first)), ..second })
}

#[cfg(test)]
mod tests {
    use super::by_disk;
    use crate::matrix;

    #[test]
    fn what_shares_a_disk_runs_one_after_the_other() {
        let cells = matrix::cells();
        let groups = by_disk(&cells);
        let of = |name: &str| {
            let has = |group: &&Vec<usize>| group.iter().any(|index| cells[*index].name == name);
            groups.iter().position(|group| has(&group))
        };
        assert!(of("trixie-dracut-bind").is_some());
        assert_eq!(of("trixie-dracut-bind"), of("trixie-dracut-readonly"));
        assert_ne!(of("trixie-dracut-bind"), of("trixie-dracut-shell-bind"));
        assert_ne!(of("trixie-dracut-bind"), of("forky-dracut-bind"));
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), cells.len());
    }
}
