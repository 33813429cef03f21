//! `make bench`: how long our program takes, and what else, beside libostree's programs and beside the floor.
//!
//!     bench [--runs N] [--only TEXT]
//!
//! With fewer than 200 runs or with `--only`, nothing is written, and instructions are not counted;
//! with `--only`, nothing is judged either.

mod disks;
mod measure;
#[path = "../../qemu/src/page.rs"]
mod page;
mod picture;
mod program;
mod report;
mod scenario;
mod sealed;
#[path = "../../tests/behaviour/setting.rs"]
#[allow(dead_code, reason = "tests/behaviour uses the rest")]
mod setting;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/faults/view.rs"]
mod view;

use measure::{Bench, Outcome};
use picture::Group;
use program::{Program, Programs};
use report::{Marks, Report};
use scenario::{LoaderCaches, Scenario};
use std::fs;
use std::process::ExitCode;
use support::failure::{Context, Result};
use support::product::workspace;
use support::sysroots::{Disk, Disks};
use support::workloads::{self, Workload};
use support::{job, trials};

/// So many runs of each program are a measurement.
const RUNS: usize = 200;

const PAGE: &str = "docs/benchmarks.md";
const SAMPLES: &str = "docs/benchmarks/programs.csv";
const PICTURE: &str = "docs/benchmarks.svg";

/// What the tables show.
const INTRODUCTION: &str = include_str!("introduction.md");

fn main() -> ExitCode {
    if let Some(status) = job::child() {
        return status;
    }
    let status = match Options::from_arguments().and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    };
    Disks::remove();
    status
}

struct Options {
    runs: usize,
    /// Only scenarios with this in their names.
    only: Option<String>,
}

impl Options {
    fn from_arguments() -> Result<Options> {
        let mut options = Options { runs: RUNS, only: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().context(format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--runs" => options.runs = value.parse().context("--runs needs a number")?,
                "--only" => options.only = Some(value),
                _ => return Err(format!("{argument}? usage: bench [--runs N] [--only TEXT]")),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    fn is_complete(&self) -> bool {
        self.runs >= RUNS && self.only.is_none()
    }
}

/// Whether everything is reached.
fn run(options: Options) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can mount".into());
    }
    trials::isolate()?;
    let programs = Programs::find()?;
    let caches = LoaderCaches::make(&programs)?;
    let bench = Bench { programs: &programs, caches: &caches, runs: options.runs };
    let report =
        Report { configurations: configurations(&bench, &options)?, growth: growth(&bench, &options)? };
    let (configurations, growth) = (report.configurations_table(), report.growth_table());
    let marks = Marks::of(&report);
    if options.only.is_some() {
        println!("{configurations}\n{growth}");
        return Ok(true);
    }
    println!("{configurations}\n{growth}\n{}", marks.text);
    if options.is_complete() {
        write(
            &report,
            &format!("{configurations}\n{GROWTH}\n{growth}\nTo reach:\n\n{}", marks.text),
            &programs,
        )?;
    }
    Ok(!marks.missed)
}

const GROWTH: &str = include_str!("growth.md");

fn configurations(
    bench: &Bench,
    options: &Options,
) -> Result<Vec<(&'static str, std::result::Result<Outcome, String>)>> {
    let mut all = Vec::new();
    for workload in workloads::ALL.into_iter().filter(|workload| options.wants(workload.name)) {
        eprintln!("{}: {} runs of each program", workload.name, bench.runs);
        let scenario = Scenario::new(workload, Disks::get()?.disk(workload.kind, false))?;
        // A step takes some 20 microseconds, which makes minutes of libostree's.
        let stepped: &[Program] = match (options.is_complete(), workload.name) {
            (false, _) => &[],
            (true, "bind") => &Program::ALL,
            (true, _) => &[Program::Ours, Program::Floor],
        };
        all.push((workload.name, Ok(bench.measure(&scenario, stepped)?)));
    }
    if options.wants(sealed::WORKLOAD.name) {
        let outcome = sealed::disk().and_then(|(disk, edits)| {
            let scenario = Scenario { edits, ..Scenario::new(sealed::WORKLOAD, &disk)? };
            bench.measure(&scenario, &[])
        });
        all.push((sealed::WORKLOAD.name, outcome));
    }
    Ok(all)
}

fn growth(bench: &Bench, options: &Options) -> Result<Vec<(&'static str, String, Outcome)>> {
    let [bind, _, composefs, ..] = workloads::ALL;
    let mut all = Vec::new();
    let mut measure =
        |what: &'static str, size: &str, workload: Workload, disk: &Disk, cmdline: Option<usize>| {
            eprintln!("{size} {what}: {} runs of each program", bench.runs);
            let mut scenario = Scenario::new(workload, disk)?;
            scenario.cmdline = cmdline.map(|bytes| {
                const WORD: &str = "module.parameter=value ";
                format!("{}ostree={}\n", WORD.repeat(bytes / WORD.len()), scenario.link)
            });
            all.push((what, size.to_owned(), bench.measure(&scenario, &[])?));
            Ok::<_, String>(())
        };
    if options.wants("deployments") {
        for count in [2, 20, 200] {
            let disk = disks::with_deployments(bind.kind, count)?;
            measure("deployments and boot links", &count.to_string(), bind, &disk, None)?;
        }
    }
    if options.wants("files") {
        for (size, count) in [("1 k", 1_000), ("100 k", 100_000), ("1 M", 1_000_000)] {
            measure("files in the image", size, composefs, &disks::with_files(count)?, None)?;
        }
    }
    if options.wants(report::COMMAND_LINE) {
        let disk = Disks::get()?.disk(bind.kind, false);
        for (size, bytes) in [("1 kB", 1_000), ("1 MB", 999_000)] {
            measure(report::COMMAND_LINE, size, bind, disk, Some(bytes))?;
        }
    }
    Ok(all)
}

fn write(report: &Report, tables: &str, programs: &Programs) -> Result<()> {
    let put =
        |path: &str, text: &str| fs::write(workspace().join(path), text).context(format!("write {path}"));
    put(SAMPLES, &report.samples())?;
    let section = format!("{INTRODUCTION}\n{}\n\n{tables}", report::circumstances()?);
    page::write_section(&workspace().join(PAGE), "Benchmarks", &section).context(format!("write {PAGE}"))?;
    let shown = ["bind", "composefs"].into_iter();
    let groups: Vec<_> =
        shown.filter_map(|name| Some(Group { name, outcome: report.configuration(name)? })).collect();
    let bytes = |program| {
        programs.bytes(program).ok().and_then(|bytes| i64::try_from(bytes).ok()).map(measure::as_float)
    };
    picture::draw(&workspace().join(PICTURE), &groups, &bytes)
}
