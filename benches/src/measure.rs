//! What the programs take.

use crate::program::{Program, Programs};
use crate::scenario::{Known, LoaderCaches, Sample, Scenario, inside};
use crate::setting::strace;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, same};
use crate::support::sandbox::{Ran, Run};
use crate::support::trace::{self, Call};
use crate::view::is_right;

/// What a program took.
pub struct Measured {
    pub program: Program,
    pub samples: Vec<Sample>,
    pub calls: Vec<Call>,
    /// Instructions in user space, if they were counted.
    pub steps: Option<i64>,
}

/// Least or greatest, but for the tenth that is beyond; and the median.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    pub tenth: i64,
    pub median: i64,
    pub ninetieth: i64,
}

impl Spread {
    pub fn of(mut numbers: Vec<i64>) -> Spread {
        numbers.sort_unstable();
        let at = |percent: usize| {
            let index = (numbers.len() * percent / 100).min(numbers.len().saturating_sub(1));
            numbers.get(index).copied().unwrap_or(0)
        };
        Spread { tenth: at(10), median: at(50), ninetieth: at(90) }
    }
}

impl Measured {
    pub fn wall(&self) -> Spread {
        self.spread(|sample| sample.wall)
    }

    pub fn memory(&self) -> Spread {
        self.spread(|sample| sample.memory)
    }

    /// User and system time of one run. One alone is less than what the kernel counts in; so all together.
    pub fn user_and_system(&self) -> (i64, i64) {
        let mean = |time: fn(&Sample) -> i64| {
            let sum: i64 = self.samples.iter().map(time).sum();
            sum / i64::try_from(self.samples.len().max(1)).unwrap_or(1)
        };
        (mean(|sample| sample.user), mean(|sample| sample.system))
    }

    fn spread(&self, number: fn(&Sample) -> i64) -> Spread {
        Spread::of(self.samples.iter().map(number).collect())
    }
}

/// What came of all programs.
pub struct Outcome {
    pub measured: Vec<Measured>,
    /// What a program said that did not want to.
    pub refused: Vec<(Program, String)>,
}

impl Outcome {
    pub fn of(&self, program: Program) -> Option<&Measured> {
        self.measured.iter().find(|it| it.program == program)
    }

    /// How much longer ours takes than that program.
    pub fn ratio(&self, program: Program) -> f64 {
        let wall = |program| self.of(program).map_or(f64::NAN, |it| as_float(it.wall().median));
        wall(Program::Ours) / wall(program)
    }
}

/// Of numbers that are far from the largest.
#[expect(clippy::cast_precision_loss, reason = "no time is so long, and no number of calls so large")]
pub fn as_float(number: i64) -> f64 {
    number as f64
}

/// How, and what.
pub struct Bench<'a> {
    pub programs: &'a Programs,
    pub caches: &'a LoaderCaches,
    pub runs: usize,
}

impl Bench<'_> {
    /// Runs these programs in turn, and some of them by single steps. The floor must leave what ours leaves.
    pub fn measure(&self, scenario: &Scenario, stepped: &[Program]) -> Result<Outcome> {
        let known = scenario.known(self.programs, self.caches)?;
        self.floor_is_right(scenario, &known)?;
        let (mut measured, mut refused) = (Vec::new(), Vec::new());
        for program in Program::ALL {
            match self.calls(scenario, program, &known) {
                Ok(calls) => measured.push(Measured { program, samples: Vec::new(), calls, steps: None }),
                // An older libostree may lack what is asked for.
                Err(reason) if [Program::Forky, Program::Trixie].contains(&program) => {
                    let reason = reason.trim_end().lines().last().unwrap_or_default();
                    refused.push((program, reason.to_owned()));
                }
                Err(reason) => return Err(format!("{}: {reason}", program.name())),
            }
        }
        inside(&scenario.sandbox(self.programs, self.caches)?, || {
            for _ in 0..self.runs {
                for it in &mut measured {
                    it.samples.push(it.program.launch(&known, false).context(it.program.name())?);
                }
            }
            for it in measured.iter_mut().filter(|it| stepped.contains(&it.program)) {
                it.steps = Some(it.program.launch(&known, true).context(it.program.name())?.steps);
            }
            Ok(())
        })?;
        Ok(Outcome { measured, refused })
    }

    /// The floor leaves the same mounts and files as our program, and says as much.
    fn floor_is_right(&self, scenario: &Scenario, known: &Known) -> Result<()> {
        let run = |program: Program| vec![Run::of(program.command(known))];
        let sandbox = scenario.sandbox(self.programs, self.caches)?;
        let outcomes = job::play(sandbox, vec![run(Program::Ours), run(Program::Floor)])?;
        let ran: Vec<&Ran> = outcomes.iter().filter_map(|outcome| outcome.runs.first()).collect();
        let [ours, floor] = ran[..] else { return Err("not two programs were run".into()) };
        exited(ours, 0)?;
        exited(floor, 0).context("the floor")?;
        is_right(ours, floor).context("the floor does something else than our program")?;
        same("kernel log", &said(ours), &said(floor))
            .context("the floor says something else than our program")
    }

    /// The system calls, `execve` included.
    fn calls(&self, scenario: &Scenario, program: Program, known: &Known) -> Result<Vec<Call>> {
        let strace = strace().context("find strace")??;
        let trace = trace::undisturbed(|| {
            let sandbox = scenario.sandbox_for(program, self.programs, self.caches)?;
            let command = program.command(known);
            trace::of(&strace, sandbox, &command.iter().map(String::as_str).collect::<Vec<_>>())
        })?;
        Ok(trace::calls(&trace))
    }
}

/// Its lines in the kernel log, without numbers of processes and microseconds.
fn said(ran: &Ran) -> Vec<String> {
    let ours = ran.kernel_log.iter().filter(|(_, text)| text.starts_with("ostree-prepare-root["));
    ours.map(|(priority, text)| {
        let words = text
            .split_whitespace()
            .filter(|word| !word.starts_with("ostree-prepare-root[") && !word.starts_with('('));
        format!("{priority} {}", words.collect::<Vec<_>>().join(" "))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_spread_is_of_sorted_numbers() {
        let numbers: Vec<i64> = (0..=100).rev().collect();
        assert_eq!(Spread::of(numbers), Spread { tenth: 10, median: 50, ninetieth: 90 });
        assert_eq!(Spread::of(vec![7]), Spread { tenth: 7, median: 7, ninetieth: 7 });
        assert_eq!(Spread::of(Vec::new()), Spread { tenth: 0, median: 0, ninetieth: 0 });
    }
}
