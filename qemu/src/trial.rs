//! Runs scenarios and keeps the score.

use crate::disk::{Builder, Disk};
use crate::expect::Expect;
use crate::product::Program;
use crate::qemu::{Boot, First, Outcome};
use crate::scenario::{Boots, Scenario};
use crate::script;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::path::Path;

/// Assertions that held and that did not.
#[derive(Debug, Default)]
pub struct Score {
    passed: usize,
    failed: usize,
}

impl Score {
    /// Builds, boots and judges one scenario, one line per assertion.
    pub fn run(&mut self, scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>) -> Result<()> {
        let name = scenario.name;
        let twice = scenario.boots != Boots::Once;
        let outcome = builder.disk(&scenario.recipe, twice, boot.logs).and_then(|disk| {
            if twice {
                return boot_twice(scenario, builder, boot, &disk);
            }
            builder.progress.step(&format!("{name}: booting"), || boot.run(&disk))
        });
        let failed_before = self.failed;
        match &outcome {
            Ok(outcome) => self.judge(scenario, outcome),
            Err(error) => {
                // The line of a test is one line; the rest is for the person reading.
                let text = format!("{error:#}");
                let (reason, rest) = text.split_once('\n').unwrap_or((&text, ""));
                self.count(name, Err(reason.to_owned()));
                eprint!("{rest}");
            }
        }
        if self.failed > failed_before {
            show_console(&boot.logs.join("console.log"), boot.logs)?;
        }
        Ok(())
    }

    fn judge(&mut self, scenario: &Scenario, outcome: &Outcome) {
        let expectations = scenario.expect.iter().copied().flatten();
        for expectation in expectations {
            // The reference is judged by the same list; it only does not log what ours does.
            if matches!(expectation, Expect::OurLog) && scenario.recipe.program == Program::Libostree {
                continue;
            }
            self.count(&format!("{}/{expectation}", scenario.name), expectation.check(outcome));
            // Without a report, every further line would only repeat that there is none.
            if !outcome.report.is_complete() {
                break;
            }
        }
    }

    fn count(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(reason) => {
                self.failed += 1;
                println!("test {name} ... FAILED ({reason})");
            }
        }
    }

    /// Prints the last line; whether nothing failed.
    pub fn finish(&self) -> bool {
        let all_passed = self.failed == 0;
        let word = if all_passed { "ok" } else { "FAILED" };
        println!("\ntest result: {word}. {} passed; {} failed; 0 ignored", self.passed, self.failed);
        all_passed
    }
}

/// Boots a disk of our own, and once more what the first boot left of it.
fn boot_twice(scenario: &Scenario, builder: &Builder<'_>, boot: &Boot<'_>, disk: &Disk) -> Result<Outcome> {
    let name = scenario.name;
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

fn show_console(console: &Path, logs: &Path) -> Result<()> {
    if console.exists() {
        eprint!("the console ends with:\n{}", script::tail(console).context("show the console")?);
    }
    eprintln!("logs: {}", logs.display());
    Ok(())
}
