//! The namespace tests inside guests: what the sandboxes of tests/compare, tests/behaviour and tests/faults
//! see of a kernel is the kernel's own doing there, and not what the program is told to do without.

use crate::Workshop;
use crate::bare::Bare;
use crate::kernel;
use crate::machine::Arch;
use crate::testbed::{self, Builder, INIT};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Debian releases, and what their kernels' versions begin with.
const KERNELS: [(&str, &str); 2] = [("bookworm", "6.1."), ("trixie", "6.12.")];

/// What guest/tests.sh runs, in this order.
const RUNS: [&str; 3] = ["compare", "behaviour", "faults"];

/// Which of the trials run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Of those in which system calls fail, only a sample.
    Core,
    /// All.
    All,
}

impl Selection {
    /// For the kernel command line: what the kernel does not know, it hands to init.
    fn arguments(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::All => "all",
        }
    }

    /// Emulation, on a machine that has other things to do too, takes a third of that.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Core => 600,
            Self::All => 7200,
        })
    }
}

/// What the trials of a run, or of several, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// Runs the tests in every guest and prints their results; whether all passed.
pub fn run(workshop: &Workshop, workspace: &Path, selection: Selection) -> Result<bool> {
    let Workshop { cache, progress, accel, product } = workshop;
    let product = product.as_ref().context("our program was not built")?;
    let logs = cache.logs("namespaces")?;
    let packages = KERNELS.map(|(release, _)| kernel::unpacked(release, Arch::Amd64, cache, progress, &logs));
    let packages = packages.into_iter().collect::<Result<Vec<PathBuf>>>()?;
    let place = cache.workplace()?;
    let disk = Builder { cache, progress, product, workspace, logs: &logs }.disk(&place, &packages)?;
    let mut total = Tally::default();
    for ((release, version), package) in KERNELS.iter().zip(&packages) {
        let guest = Bare {
            arch: Arch::Amd64,
            accel: *accel,
            processors: 2,
            kernel: &testbed::image(package)?,
            disk: &disk,
            keep: false,
            attached: &[],
            init: INIT,
            // What our program writes to the kernel's log must not get between the results.
            arguments: &format!("loglevel=1 {}", selection.arguments()),
            limit: selection.limit(),
            logs: &logs,
            name: release,
        };
        let started = Instant::now();
        let judged = progress
            .step(&format!("the namespace tests on the kernel of {release}"), || guest.run())
            .map_err(|error| format!("{error:#}"))
            .and_then(|said| judge(&said, version).map_err(|reason| format!("{reason}\n{}", failed(&said))));
        let seconds = started.elapsed().as_secs();
        let tally = judged.unwrap_or_else(|reason| {
            // The line of a test is one line; the rest is for the person reading.
            let (reason, rest) = reason.split_once('\n').unwrap_or((&reason, ""));
            println!("test on the kernel of {release} ... FAILED ({reason})");
            eprintln!("{rest}\nlogs: {}", logs.display());
            Tally { failed: 1, ..Tally::default() }
        });
        let Tally { passed, failed, ignored } = tally;
        println!(
            "Linux {version} of {release}: {passed} passed; {failed} failed; {ignored} ignored; {seconds} s"
        );
        total.passed += passed;
        total.failed += failed;
        total.ignored += ignored;
    }
    let Tally { passed, failed, ignored } = total;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored");
    Ok(failed == 0)
}

/// What a guest's trials came to, by what it said: a kernel of that version has to have carried out all
/// runs to their ends, each with at least one trial, and none may have failed.
fn judge(said: &str, version: &str) -> Result<Tally, String> {
    let line = |start: &str| said.lines().find_map(|line| line.trim_end().strip_prefix(start));
    let kernel = line("kernel: ").ok_or("the guest did not say which kernel it runs")?;
    if !kernel.starts_with(version) {
        return Err(format!("the kernel is {kernel}, not {version}"));
    }
    let results: Vec<&str> = said.lines().filter(|line| line.starts_with("test result: ")).collect();
    if results.len() != RUNS.len() {
        return Err(format!("{} results instead of {}", results.len(), RUNS.len()));
    }
    let mut total = Tally::default();
    for (name, result) in RUNS.into_iter().zip(results) {
        let status = line(&format!("{name}: exit status ")).ok_or(format!("{name} did not end"))?;
        let tally = tally(result).ok_or(format!("{name} ended with '{result}'"))?;
        if status != "0" || tally.failed != 0 || tally.passed == 0 {
            return Err(format!("{name}: exit status {status}, {}", result.trim_end()));
        }
        total.passed += tally.passed;
        total.ignored += tally.ignored;
    }
    Ok(total)
}

/// The trials that failed.
fn failed(said: &str) -> String {
    said.lines().map(str::trim_end).filter(|line| line.ends_with("FAILED")).collect::<Vec<_>>().join("\n")
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn tally(result: &str) -> Option<Tally> {
    let counts = result.split_once(". ")?.1;
    let count = |word: &str| {
        let number = counts.split("; ").find_map(|count| count.trim().strip_suffix(word))?;
        number.trim().parse().ok()
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::{Tally, judge};

    const GOOD: &str = "kernel: 6.1.0-56-cloud-amd64\r\n\
        test a ... ok\r\n\
        test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s\r\n\
        compare: exit status 0\r\n\
        test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.00s\r\n\
        behaviour: exit status 0\r\n\
        test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.00s\r\n\
        faults: exit status 0\r\n";

    #[test]
    fn all_passed() {
        assert_eq!(judge(GOOD, "6.1."), Ok(Tally { passed: 12, failed: 0, ignored: 1 }));
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_a_failure() {
        for (from, to) in [
            ("6.1.0", "6.12.0"),
            ("kernel: ", "colonel: "),
            ("4 passed; 0 failed", "3 passed; 1 failed"),
            ("3 passed", "0 passed"),
            ("behaviour: exit status 0", "behaviour: exit status 101"),
            ("behaviour: exit status 0", ""),
            ("compare: exit status 0", ""),
            ("faults: exit status 0", ""),
            ("test result: ok. 4", "test result: ok! 4"),
            ("test result: ok. 4", "Segmentation fault"),
        ] {
            let bad = GOOD.replace(from, to);
            assert_ne!(bad, GOOD);
            assert!(judge(&bad, "6.1.").is_err(), "{bad}");
        }
    }
}
