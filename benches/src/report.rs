//! The tables, what is to be reached, and the raw samples.

use crate::measure::{Measured, Outcome, as_float};
use crate::page::table;
use crate::program::Program;
use crate::support::failure::{Context, Result};
use crate::support::product::workspace;
use std::fmt::Write;
use std::process::Command;

/// What [`Report::growth`] calls it.
pub const COMMAND_LINE: &str = "kernel command line";

/// Everything that was measured.
pub struct Report {
    /// Each configuration.
    pub configurations: Vec<(&'static str, std::result::Result<Outcome, String>)>,
    /// What grows: what it is, how much of it there is, the least first.
    pub growth: Vec<(&'static str, String, Outcome)>,
}

impl Report {
    /// Of a configuration, if it could be measured.
    pub fn configuration(&self, name: &str) -> Option<&Outcome> {
        let (_, outcome) = self.configurations.iter().find(|(its_name, _)| *its_name == name)?;
        outcome.as_ref().ok()
    }

    /// One row for each configuration and program.
    pub fn configurations_table(&self) -> String {
        let head = [
            "configuration",
            "program",
            "time",
            "10th-90th",
            "ours/it",
            "user",
            "system",
            "memory",
            "calls",
            "instructions",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        let mut notes = String::new();
        for (name, outcome) in &self.configurations {
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(reason) => {
                    let _ = writeln!(notes, "- {name}: not possible here: {reason}");
                    continue;
                }
            };
            for it in &outcome.measured {
                let (wall, (user, system)) = (it.wall(), it.user_and_system());
                rows.push([
                    (*name).to_owned(),
                    it.program.name().to_owned(),
                    microseconds(wall.median),
                    format!("{}-{}", wall.tenth / 1000, wall.ninetieth / 1000),
                    format!("{:.2}", outcome.ratio(it.program)),
                    format!("{user} µs"),
                    format!("{system} µs"),
                    format!("{} KiB", it.memory().median),
                    it.calls.len().to_string(),
                    it.steps.map_or("-".to_owned(), |steps| steps.to_string()),
                ]);
            }
            for (program, reason) in &outcome.refused {
                let _ = writeln!(notes, "- {name}, {}: {reason}", program.name());
            }
        }
        let notes = if notes.is_empty() { notes } else { format!("\n{notes}") };
        table(&rows) + &notes
    }

    /// One row for each size, with ours, the floor and libostree's beside each other.
    pub fn growth_table(&self) -> String {
        let head = [
            "",
            "",
            "ours",
            "10th-90th",
            "calls",
            "floor",
            "10th-90th",
            "libostree 2026.4",
            "10th-90th",
            "calls",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        for (what, size, outcome) in &self.growth {
            let time =
                |program| outcome.of(program).map_or("-".to_owned(), |it| microseconds(it.wall().median));
            let spread = |program| {
                let wall = outcome.of(program).map(Measured::wall);
                wall.map_or("-".to_owned(), |wall| format!("{}-{}", wall.tenth / 1000, wall.ninetieth / 1000))
            };
            let calls = |program| outcome.of(program).map_or("-".to_owned(), |it| it.calls.len().to_string());
            rows.push([
                (*what).to_owned(),
                size.clone(),
                time(Program::Ours),
                spread(Program::Ours),
                calls(Program::Ours),
                time(Program::Floor),
                spread(Program::Floor),
                time(Program::Forky),
                spread(Program::Forky),
                calls(Program::Forky),
            ]);
        }
        table(&rows)
    }

    /// All samples, a row for each run: the time, and user and system time together, in microseconds.
    pub fn samples(&self) -> String {
        let columns = Program::ALL.map(|it| format!("{0}_us,{0}_cpu_us", it.column()));
        let mut text = format!("scenario,run,{}\n", columns.join(","));
        let configurations = self.configurations.iter();
        let configurations =
            configurations.filter_map(|(name, outcome)| Some(((*name).to_owned(), outcome.as_ref().ok()?)));
        let growth = self.growth.iter().map(|(what, size, outcome)| (format!("{size} {what}"), outcome));
        for (name, outcome) in configurations.chain(growth) {
            let runs = outcome.measured.iter().map(|it| it.samples.len()).max().unwrap_or(0);
            for run in 0..runs {
                let sample = |program| outcome.of(program).and_then(|it| it.samples.get(run));
                let fields = Program::ALL.map(|program| match sample(program) {
                    Some(sample) => format!("{},{}", sample.wall / 1000, sample.user + sample.system),
                    None => ",".to_owned(),
                });
                let _ = writeln!(text, "{name},{},{}", run + 1, fields.join(","));
            }
        }
        text
    }
}

fn microseconds(nanoseconds: i64) -> String {
    format!("{} µs", nanoseconds / 1000)
}

/// When, of what, and on what.
pub fn circumstances() -> Result<String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).current_dir(workspace()).args(arguments).output();
        let output = output.context(format!("run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    let date = said("date", &["--utc", "+%Y-%m-%d"])?;
    let commit = said("git", &["-c", "safe.directory=*", "describe", "--always", "--dirty", "--exclude=*"])?;
    let kernel = said("uname", &["-r"])?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("unknown processor", |(_, name)| name);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!("{date}, commit {commit}, Linux {kernel}, {count} x {cpu}"))
}

/// What is to be reached.
#[derive(Default)]
pub struct Marks {
    pub missed: bool,
    pub text: String,
}

impl Marks {
    pub fn of(report: &Report) -> Marks {
        let mut marks = Marks::default();
        let get = |name| report.configuration(name);
        let calls = |name| {
            get(name)
                .and_then(|outcome| outcome.of(Program::Ours))
                .map_or(f64::NAN, |it| count(it.calls.len()))
        };
        marks.at_most("system calls, bind", calls("bind"), 60.0, 0);
        marks.at_most("system calls, composefs", calls("composefs"), 85.0, 0);
        let ratio = |name, program| get(name).map_or(f64::NAN, |outcome| outcome.ratio(program));
        marks.at_most("time, bind, of libostree 2026.4's", ratio("bind", Program::Forky), 1.0 / 6.0, 3);
        for (name, outcome) in &report.configurations {
            if let Ok(outcome) = outcome {
                marks.at_most(
                    &format!("time, {name}, of the floor's"),
                    outcome.ratio(Program::Floor),
                    1.4,
                    2,
                );
            }
        }
        let ours =
            report.configurations.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()?.of(Program::Ours));
        let memory = ours.map(|it| it.memory().median).max().map_or(f64::NAN, as_float);
        marks.at_most("peak memory in KiB, the most of all configurations", memory, 1024.0, 0);
        marks.growth(report);
        marks
    }

    /// What grows must not make ours slower than it makes the floor, whose work is the kernel's: but for a tenth,
    /// which a run on a machine that does other things too can differ by.
    fn growth(&mut self, report: &Report) {
        let mut first: Option<(&str, &Outcome)> = None;
        for (what, size, outcome) in &report.growth {
            let least = match first {
                Some((its_what, least)) if its_what == *what => least,
                _ => {
                    first = Some((what, outcome));
                    continue;
                }
            };
            let wall = |outcome: &Outcome, program| {
                outcome.of(program).map_or(f64::NAN, |it| as_float(it.wall().median))
            };
            let grown = |program| wall(outcome, program) - wall(least, program);
            if *what == COMMAND_LINE {
                // Nobody finds an argument in it without reading all.
                let ratio = grown(Program::Ours) / grown(Program::Forky);
                self.at_most(&format!("growth of libostree 2026.4's, {size} {what}"), ratio, 1.0, 2);
                continue;
            }
            let beyond = (grown(Program::Ours) - grown(Program::Floor)) / wall(least, Program::Ours);
            self.at_most(&format!("growth beyond the kernel's own, {size} {what}"), beyond, 0.1, 2);
        }
    }

    fn at_most(&mut self, what: &str, found: f64, most: f64, digits: usize) {
        // What is no number is not below anything.
        let reached = found <= most;
        self.missed |= !reached;
        let word = if reached { "reached" } else { "MISSED" };
        let _ = writeln!(self.text, "- {what}: {found:.digits$} of at most {most:.digits$}: {word}");
    }
}

fn count(number: usize) -> f64 {
    i64::try_from(number).map_or(f64::NAN, as_float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Measured;
    use crate::scenario::Sample;

    /// Ours and the floor, so slow in nanoseconds.
    fn outcome(ours: i64, floor: i64) -> Outcome {
        let measured = [(Program::Ours, ours), (Program::Floor, floor), (Program::Forky, 6 * floor)];
        let measured = measured.map(|(program, wall)| Measured {
            program,
            samples: vec![Sample { wall, ..Sample::default() }],
            calls: Vec::new(),
            steps: None,
        });
        Outcome { measured: measured.into(), refused: Vec::new() }
    }

    fn missed(report: &Report) -> Vec<String> {
        let text = Marks::of(report).text;
        text.lines().filter(|line| line.ends_with("MISSED")).map(str::to_owned).collect()
    }

    #[test]
    fn what_is_slower_than_allowed_is_missed() {
        let configurations =
            |ours| vec![("bind", Ok(outcome(ours, 1000))), ("composefs", Ok(outcome(1000, 1000)))];
        let report = |ours| Report { configurations: configurations(ours), growth: Vec::new() };
        assert_eq!(missed(&report(1000)), Vec::<String>::new());
        assert_eq!(missed(&report(1401)).len(), 2, "{:?}", missed(&report(1401)));
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let report = Report { configurations: vec![("bind", Err("no".into()))], growth: Vec::new() };
        assert_eq!(missed(&report).len(), 4, "{:?}", missed(&report));
    }

    #[test]
    fn growth_is_compared_with_the_floor() {
        let report = |ours| Report {
            configurations: vec![("bind", Ok(outcome(1000, 1000))), ("composefs", Ok(outcome(1000, 1000)))],
            growth: vec![
                ("files", "1".into(), outcome(1000, 1000)),
                ("files", "9".into(), outcome(ours, 2000)),
            ],
        };
        assert_eq!(missed(&report(2100)), Vec::<String>::new());
        assert_eq!(missed(&report(2101)).len(), 1);
    }
}
