//! Runs scenarios and judges them.

use crate::disk::{Builder, Disk};
use crate::expect::Expect;
use crate::product::Program;
use crate::qemu::{Boot, First, Outcome};
use crate::recipe::Recipe;
use crate::scenario::{Boots, Scenario};
use crate::script;
use crate::workers;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::iter;
use std::num::NonZero;

/// What came of one scenario.
#[derive(Default)]
pub struct Verdict {
    /// One line for each assertion: its name, and why it does not hold.
    lines: Vec<(String, Result<(), String>)>,
    /// What somebody who looks into it wants to read next.
    details: String,
}

impl Verdict {
    /// Builds, boots and judges one scenario.
    pub fn of(scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>) -> Self {
        let mut verdict = Self::default();
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

    /// One line, that says why there are no others.
    pub fn failed(name: String, reason: &str) -> Self {
        let (reason, rest) = reason.split_once('\n').unwrap_or((reason, ""));
        Self { lines: vec![(name, Err(reason.to_owned()))], details: rest.to_owned() }
    }

    /// What holds of a boot.
    pub fn of_boot(name: &str, expect: impl Iterator<Item = &'static Expect>, outcome: &Outcome) -> Self {
        let mut verdict = Self::default();
        if let Err(reason) = outcome.complete() {
            verdict.add(format!("{name}/boot"), Err(reason));
            if let Ok(tail) = script::tail(&outcome.console_log) {
                verdict.explain(&format!("the console ends with:\n{tail}"));
            }
            return verdict;
        }
        for expectation in expect {
            verdict.add(format!("{name}/{expectation}"), expectation.check(outcome));
        }
        verdict
    }

    /// Adds a line.
    pub fn add(&mut self, name: String, result: Result<(), String>) {
        self.lines.push((name, result));
    }

    /// Adds what another has.
    pub fn append(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.details += &other.details;
    }

    /// Adds to what somebody wants to read who looks into it.
    pub fn explain(&mut self, text: &str) {
        self.details += text;
    }

    fn judge(&mut self, scenario: &Scenario, outcome: &Outcome) {
        if let (Boots::Rebooted(_), Some(first)) = (scenario.boots, &outcome.first) {
            for (index, earlier) in iter::once(&first.outcome).chain(&first.between).enumerate() {
                self.judge_boot(scenario, &format!("{}/boot-{}", scenario.name, index + 1), earlier);
            }
        }
        self.judge_boot(scenario, &scenario.name, outcome);
    }

    fn judge_boot(&mut self, scenario: &Scenario, name: &str, outcome: &Outcome) {
        for expectation in scenario.expect.iter().copied().flatten() {
            // Only the last boot knows of the others.
            if expectation.compares() && outcome.first.is_none() && scenario.boots != Boots::Once {
                continue;
            }
            // The reference is judged by the same list; it only does not log what ours does.
            if matches!(expectation, Expect::OurLog) && scenario.recipe.program == Program::Libostree {
                continue;
            }
            let result = expectation.check(outcome);
            let failed = result.is_err();
            self.lines.push((format!("{name}/{expectation}"), result));
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

    /// Prints it, whole: those of others come before or after.
    pub fn print(&self) {
        let mut text = String::new();
        for (name, result) in &self.lines {
            text += &match result {
                Ok(()) => format!("test {name} ... ok\n"),
                Err(reason) => format!("test {name} ... FAILED ({reason})\n"),
            };
        }
        print!("{text}");
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
    let run_group = |(): &mut (), group: Vec<usize>| -> Result<Vec<(usize, Verdict)>> {
        let run_one = |index| {
            let verdict = run(&scenarios[index])?;
            verdict.print();
            Ok((index, verdict))
        };
        group.into_iter().map(run_one).collect()
    };
    let groups = workers::map(jobs, by_disk(scenarios), || Ok(()), run_group)?;
    let mut verdicts: Vec<_> = groups.into_iter().flatten().collect();
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
    let again = scenario.boots.count() > 1;
    let disk = builder.disk(&scenario.recipe, again, boot.logs)?;
    if again {
        return boot_again(scenario, builder, boot, &disk);
    }
    builder.progress.step(&format!("{}: booting", scenario.name), || boot.run(&disk))
}

/// Boots a disk of our own, and again what each boot left of it.
fn boot_again(scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>, disk: &Disk) -> Result<Outcome> {
    let name = &scenario.name;
    let boot = Boot { keep: true, ..*boot };
    let disk_before = disk.listing(boot.logs)?;
    let mut earlier: Vec<Outcome> = Vec::new();
    while earlier.len() + 1 < scenario.boots.count() {
        let number = earlier.len() + 1;
        let logs = boot.logs.join(format!("boot-{number}"));
        fs::create_dir(&logs).context("create a log directory")?;
        let step = format!("{name}: boot {number}");
        let outcome = builder.progress.step(&step, || Boot { logs: &logs, ..boot }.run(disk))?;
        outcome.complete().map_err(|reason| anyhow!("boot {number}: {reason}"))?;
        earlier.push(outcome);
    }
    let first = earlier.first().context("there is a boot before the last")?;
    let argument = match scenario.boots {
        Boots::AsSuggested => Some(first.suggestion().context("the first boot suggested nothing")?),
        Boots::Once | Boots::Twice | Boots::Updated | Boots::Rebooted(_) => None,
    };
    if scenario.boots == Boots::Updated {
        disk.read_boot(boot.logs)?;
    }
    let step = format!("{name}: boot {} {}", earlier.len() + 1, argument.unwrap_or_default());
    let last = builder.progress.step(step.trim_end(), || Boot { argument, ..boot }.run(disk))?;
    let disk_after = disk.listing(boot.logs)?;
    let first = First { outcome: earlier.remove(0), between: earlier, disk_before, disk_after };
    Ok(Outcome { first: Some(Box::new(first)), ..last })
}

#[cfg(test)]
mod tests {
    use super::{Verdict, by_disk};
    use crate::console::End;
    use crate::expect::Expect;
    use crate::matrix;
    use crate::qemu::{First, Outcome};
    use crate::recipe::Recipe;
    use crate::report::Report;
    use crate::scenario::{Boots, Scenario};
    use crate::suite::Suite;
    use std::path::PathBuf;

    /// What came of a boot with this report.
    fn outcome(report: &str) -> Outcome {
        let (report, console_log) = (Report::parse(report), PathBuf::new());
        Outcome { end: End::PowerOff, report, console: String::new(), console_log, first: None }
    }

    /// The names of what does not hold of three boots.
    fn failed(boots: Boots, reports: [&str; 3]) -> Vec<String> {
        let expect: &[Expect] = &[Expect::Kernel("6."), Expect::Remembered("/etc")];
        let scenario = Scenario { boots, ..Scenario::new("x", "", Recipe::new(Suite::Trixie), vec![expect]) };
        let [first, second, last] = reports.map(|report| outcome(&format!("{report}end\n")));
        let (disk_before, disk_after) = (String::new(), String::new());
        let first = First { outcome: first, between: vec![second], disk_before, disk_after };
        let last = Outcome { first: Some(Box::new(first)), ..last };
        let mut verdict = Verdict::default();
        verdict.judge(&scenario, &last);
        verdict.lines.into_iter().filter_map(|(name, result)| result.is_err().then_some(name)).collect()
    }

    #[test]
    fn every_boot_between_reboots_is_judged() {
        let (first, good, bad) = ("kernel\t6.1\nstamp-made\t/etc\n", "kernel\t6.1\n", "kernel\t5.1\n");
        let last = "kernel\t6.1\nstamp-found\t/etc\n";
        assert!(failed(Boots::Rebooted(2), [first, good, last]).is_empty());
        assert_eq!(failed(Boots::Rebooted(2), [first, bad, last]), ["x/boot-2/kernel(6.)"]);
        assert_eq!(failed(Boots::Rebooted(2), [first, good, good]), ["x/remembered(/etc)"]);
        assert!(failed(Boots::Twice, [first, bad, last]).is_empty());
    }

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
