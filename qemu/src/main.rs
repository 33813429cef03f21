//! Builds real Debian OSTree systems and boots them in QEMU, scenario by scenario.
//!
//! A [`scenario`] is data: a [`recipe`] for a disk, and what is [expected](expect) of the boot.
//! [`disk`] makes the disk of a recipe ([`suite`] -> [`layout`] -> OSTree), [`qemu`] boots it,
//! the guest sends a [`report`], and [`trial`] judges it.

mod accel;
mod archive;
mod bare;
mod base;
mod benchmark;
mod binary;
mod cache;
mod command;
mod compare;
mod console;
mod disk;
mod entry;
mod expect;
mod foreign;
mod generator;
mod guest_program;
mod image_sizes;
mod kernel;
mod layout;
mod lifecycle;
mod machine;
mod matrix;
mod moments;
mod mounts;
mod namespaces;
mod page;
mod product;
mod progress;
mod qemu;
mod recipe;
mod releases;
mod report;
mod scenario;
mod script;
mod seal;
mod solo;
mod storage;
mod suite;
mod summary;
mod table;
mod testbed;
mod timeline;
mod trial;
mod uefi;
mod workbench;
mod workers;
mod write_log;

use accel::Accel;
use anyhow::{Context, Result, bail, ensure};
use cache::Cache;
use command::{Command, Invocation};
use disk::Builder;
use generator::Generator;
use machine::Machine;
use product::{Product, Program};
use progress::Progress;
use qemu::Boot;
use recipe::Recipe;
use scenario::Scenario;
use std::num::NonZero;
use std::path::Path;
use std::process::{self, ExitCode};
use std::time::Duration;
use suite::Suite;
use table::{Page, Table};
use trial::Verdict;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prepare-root-qemu: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let Invocation { command, program, limit, jobs } = command::read(lexopt::Parser::from_env())?;
    match command {
        Command::Help => println!("{}", command::HELP),
        Command::List => {
            for Scenario { name, about, core, .. } in scenario::all() {
                println!("{:<4} {name:<38} {about}", if core { "core" } else { "" });
            }
        }
        Command::Boot { suite, generator, console, kargs } => {
            let mut recipe = Recipe { program, generator, ..Recipe::new(suite) };
            recipe.kargs.extend(kargs);
            return boot(&recipe, console, limit);
        }
        Command::Initramfs => return initramfs(),
        Command::BootTimes => return benchmark::run(&Workshop::open(Program::Ours)?, workspace()?, limit),
        Command::Compare(parts) => {
            return compare::run(&Workshop::open(Program::Ours)?, workspace()?, limit, &parts);
        }
        Command::Namespaces(selection) => {
            return namespaces::run(&Workshop::open(Program::Ours)?, workspace()?, selection);
        }
        Command::Test { names } => {
            let mut scenarios = select(&names)?;
            scenarios.iter_mut().for_each(|scenario| scenario.recipe.program = program);
            let verdicts = test(&scenarios, program, limit, jobs)?;
            return Ok(trial::finish(&verdicts));
        }
        Command::Lifecycle { only } => {
            ensure!(program == Program::Ours, "the stories are about our program");
            let jobs = jobs.map_or_else(machine::guests_at_a_time, Ok)?;
            return lifecycle::run(workspace()?, &only, limit, jobs);
        }
        Command::Matrix { only } => {
            ensure!(program == Program::Ours, "the matrix is about our program");
            let scenarios = matrix::select(&only)?;
            let page = Page::new(workspace()?)?;
            let verdicts = test(&scenarios, program, limit, jobs)?;
            let table = Table::new(scenarios.iter().zip(&verdicts));
            println!("\n{}", table.text());
            if only.is_empty() {
                page.write(&table)?;
            }
            return Ok(trial::finish(&verdicts));
        }
    }
    Ok(true)
}

fn boot(recipe: &Recipe, live: bool, limit: Duration) -> Result<bool> {
    let workshop = Workshop::open(recipe.program)?;
    let Workshop { cache, progress, accel, .. } = &workshop;
    let logs = cache.logs(&format!("boot-{}", recipe.suite))?;
    let disk = workshop.builder()?.disk(recipe, false, &logs)?;
    let machine = Machine { bus: recipe.generator.bus() };
    let boot = Boot { live, machine, ..Boot::new(*accel, limit, &logs) };
    let outcome = progress.step(&format!("{}: booting", recipe.suite), || boot.run(&disk))?;
    if let Err(fate) = outcome.complete() {
        eprint!("{}", script::tail(&outcome.console_log)?);
        bail!("{fate}; logs: {}", logs.display());
    }
    let wrong: Vec<String> = scenario::always(recipe)
        .filter_map(|expected| expected.check(&outcome).err().map(|reason| format!("{expected}: {reason}")))
        .collect();
    summary::print(&outcome, &wrong, progress)?;
    Ok(wrong.is_empty())
}

fn test(
    scenarios: &[Scenario],
    program: Program,
    limit: Duration,
    jobs: Option<NonZero<usize>>,
) -> Result<Vec<Verdict>> {
    let workshop = Workshop::open(program)?;
    let jobs = jobs.map_or_else(machine::guests_at_a_time, Ok)?;
    trial::run_all(scenarios, jobs, |scenario| {
        let logs = workshop.cache.logs(&scenario.name)?;
        let Scenario { edit, machine, archive, dialogue, .. } = *scenario;
        let boot = Boot { edit, machine, archive, dialogue, ..Boot::new(workshop.accel, limit, &logs) };
        Ok(Verdict::of(scenario, &workshop.builder()?, &boot))
    })
}

/// What every boot of one invocation shares.
struct Workshop {
    cache: Cache,
    progress: Progress,
    accel: Accel,
    product: Option<Product>,
}

impl Workshop {
    fn open(program: Program) -> Result<Self> {
        disk::ensure_root()?;
        let (cache, progress) = (Cache::open(workspace()?)?, Progress::new());
        let accel = Accel::probe(&cache.workplace()?)?;
        progress.say(accel.describe());
        let product = match program {
            Program::Ours => Some(Product::make(workspace()?, &cache, &progress)?),
            Program::Libostree => None,
        };
        Ok(Self { cache, progress, accel, product })
    }

    fn builder(&self) -> Result<Builder<'_>> {
        let Self { cache, progress, accel, product } = self;
        Ok(Builder { cache, product: product.as_ref(), progress, accel: *accel, workspace: workspace()? })
    }
}

/// Runs dracut/test.sh, initramfs-tools/test.sh and mkinitrd/test.sh, which print their own results, on the trees
/// that disks are made from.
fn initramfs() -> Result<bool> {
    let workshop = Workshop::open(Program::Ours)?;
    let mut passed = true;
    for suite in [Suite::Trixie, Suite::Forky] {
        for generator in [Generator::Dracut, Generator::InitramfsTools] {
            let logs = workshop.cache.logs(&format!("{generator}-{suite}"))?;
            let (_place, tree) = workshop.builder()?.tree(&Recipe::new(suite).generator(generator), &logs)?;
            let mut test = |script: &str, options: &[&str]| {
                let script = workspace()?.join(script);
                let mut command = process::Command::new(&script);
                command.args(options).arg(&tree).args(workshop.product.as_ref().map(Product::program));
                passed &= command.status().with_context(|| format!("run {}", script.display()))?.success();
                anyhow::Ok(())
            };
            test(&format!("{generator}/test.sh"), &[])?;
            if generator == Generator::InitramfsTools {
                // For the tree's kernel.
                test("mkinitrd/test.sh", &["--tree"])?;
            }
        }
    }
    Ok(passed)
}

/// The workspace this crate is part of.
fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate is in no workspace")
}

/// The scenarios of these groups, or with these texts in their names, in their usual order.
fn select(names: &[String]) -> Result<Vec<Scenario>> {
    let all = scenario::all();
    let is_group = |name: &str| ["core", "cells", "others", "all"].contains(&name);
    let is_one = |name: &str| all.iter().any(|scenario| scenario.name == name);
    let unknown = |name: &str| !is_group(name) && !all.iter().any(|scenario| scenario.name.contains(name));
    if let Some(name) = names.iter().find(|name| unknown(name)) {
        bail!("no scenario has '{name}' in its name: see `prepare-root-qemu list`");
    }
    let wanted = |scenario: &Scenario| {
        names.is_empty() && scenario.core
            || names.iter().any(|name| match name.as_str() {
                "all" => true,
                "core" => scenario.core,
                "cells" => !scenario.cells.is_empty(),
                "others" => scenario.cells.is_empty(),
                name if is_one(name) => scenario.name == name,
                text => scenario.name.contains(text),
            })
    };
    let wanted: Vec<_> = all.iter().map(wanted).collect();
    Ok(all.into_iter().zip(wanted).filter_map(|(scenario, wanted)| wanted.then_some(scenario)).collect())
}
