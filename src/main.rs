//! `ostree-prepare-root SYSROOT [KERNEL_CMDLINE]`: makes an OSTree deployment the root of the
//! system about to boot.
//!
//! It runs once per boot, in the initramfs, after the disk's root file system (the physical root)
//! was mounted at SYSROOT and before init is started from there. [`prepare`] and [`make_root`] are the
//! whole program: read, resolve, plan, apply, announce. [`boot`] is what is around that when this is process 1.

#![cfg_attr(all(panic = "abort", target_env = "musl"), no_std, no_main)]

#[macro_use]
extern crate alloc;

#[cfg(any(all(panic = "abort", target_env = "musl"), test))]
mod memory;
#[cfg(all(panic = "abort", target_env = "musl"))]
mod runtime;

use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use prepare_root::candidate::Candidate;
use prepare_root::choice::Choice;
use prepare_root::clock::Instant;
use prepare_root::cmdline::Cmdline;
use prepare_root::config::{Config, Origin, Overrides};
use prepare_root::error::{Class, Error, Result};
use prepare_root::options::{self, Invocation, Options};
use prepare_root::role::Role;
use prepare_root::run::Lock;
use prepare_root::sysroot::Sysroot;
use prepare_root::{booted, explain, journal, keyfile, kmsg, mount, pid1, plan, root_device, syscall};

/// The exit status.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ExitCode(u8);

impl ExitCode {
    const SUCCESS: ExitCode = ExitCode(0);
    const FAILURE: ExitCode = ExitCode(1);
}

/// Where the program begins if it has a standard library: for a test, or another C library. The one that is shipped has
/// `runtime`.
#[cfg(not(all(panic = "abort", target_env = "musl")))]
fn main() -> std::process::ExitCode {
    use std::os::unix::ffi::OsStringExt;
    let arguments: Vec<Vec<u8>> = std::env::args_os().map(OsStringExt::into_vec).collect();
    run(&arguments).0.into()
}

/// `arguments`: the first is how the program was called.
fn run(arguments: &[Vec<u8>]) -> ExitCode {
    let start = Instant::now();
    kmsg::start(log::LevelFilter::Info);
    match Role::of(syscall::process(), arguments.first().map(Vec::as_slice), || Cmdline::read().ok()) {
        Role::Command => run_command(arguments, start),
        Role::Initramfs => boot(pid1::initramfs, &Options::of(pid1::SYSROOT), arguments, start),
        Role::PhysicalRoot => {
            let options = Options { origin: Origin::Deployment, ..Options::of(pid1::SECOND) };
            boot(pid1::physical_root, &options, arguments, start)
        }
        Role::Modprobe => {
            let loaded = pid1::modules::load_alias(arguments);
            if loaded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// The work of process 1: the same, after the physical root was brought into place, and before init is started.
fn boot(bring: fn(&Cmdline) -> Result<()>, options: &Options, arguments: &[Vec<u8>], start: Instant) -> ! {
    let attempt = || {
        let cmdline = pid1::begin()?;
        bring(&cmdline)?;
        if pid1::apart(|| finish(prepare_or_explain(options, start)) == ExitCode::SUCCESS)? {
            pid1::start_init(options, &cmdline, arguments)?;
        }
        // It was explained why the deployment is not booted, but perhaps the deployment is on another disk.
        if let Some(devices) = root_device::seen() {
            log::warn!(target: kmsg::LAST_WORDS, "the disks that there are:\n{devices}");
        }
        Ok(ExitCode::FAILURE)
    };
    finish(attempt());
    pid1::dead_end()
}

fn run_command(arguments: &[Vec<u8>], start: Instant) -> ExitCode {
    let invocation = options::parse(arguments.get(1..).unwrap_or_default());
    finish(invocation.and_then(|invocation| answer(invocation, start)))
}

/// The exit status; an error is told before.
fn finish(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        log::error!(target: kmsg::LAST_WORDS, "{error}");
        ExitCode(error.class() as u8)
    })
}

fn answer(invocation: Invocation, start: Instant) -> Result<ExitCode> {
    match invocation {
        Invocation::Help => print(options::HELP),
        Invocation::Version => {
            print(concat!("ostree-prepare-root (prepare-root) ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Invocation::CheckConfig(path) => Config::check(&path)?,
        Invocation::BreakAt(point, cmdline) => {
            if !Config::breaks_at(point, &read_cmdline(cmdline.as_deref())?)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Invocation::Explain(options) => return explain_only(&options),
        Invocation::Prepare(options) => return prepare_or_explain(&options, start),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prepares the root. A refusal comes with an explanation.
fn prepare_or_explain(options: &Options, start: Instant) -> Result<ExitCode> {
    let cmdline = read_cmdline(options.cmdline.as_deref())?;
    match prepare(options, &cmdline, start) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if options.dry_run || error.class() == Class::Permission => Err(error),
        Err(error) => {
            log::error!(target: kmsg::LAST_WORDS, "{error}");
            let explanation = explain::refusal(options.origin, &cmdline, &options.sysroot, error.clone());
            // However little is to be logged.
            log::set_max_level(log::max_level().max(log::LevelFilter::Warn));
            log::warn!(target: kmsg::LAST_WORDS, "{}", explanation.text());
            Ok(ExitCode(error.class() as u8))
        }
    }
}

/// The same explanation at any other time. The exit status is that of the boot.
fn explain_only(options: &Options) -> Result<ExitCode> {
    kmsg::keep_out();
    let cmdline = read_cmdline(options.cmdline.as_deref())?;
    let explanation = explain::explain(&cmdline, &options.sysroot);
    print(&(if options.json { explanation.json() } else { explanation.text() } + "\n"));
    Ok(explanation.refusal().map_or(ExitCode::SUCCESS, |error| ExitCode(error.class() as u8)))
}

fn prepare(options: &Options, cmdline: &Cmdline, start: Instant) -> Result<()> {
    // read
    let config = Config::read(options.origin, cmdline)?;
    set_log_level(cmdline, &config);
    // What stays open to the end is closed by the kernel: a system call less each.
    let _lock = if options.dry_run { None } else { Some(ManuallyDrop::new(begin()?)) };
    if options.unless_booted && booted::exists()? {
        log::info!("a deployment is the root already: nothing to do");
        return Ok(());
    }

    // resolve
    let sysroot = &*ManuallyDrop::new(Sysroot::open(&options.sysroot)?);
    let Some(choice) = Choice::of(&config, sysroot).transpose() else {
        let done = format!("{sysroot} already is the root that {} names: nothing to do", config.target);
        log::info!("{done}");
        print(&if options.json { "{\"prepared\":true}\n".into() } else { done + "\n" });
        return Ok(());
    };
    log::debug!("read and resolved after {} us", microseconds(start));

    let make_root = |choice: &Choice| make_root(options, cmdline, &config, sysroot, choice, start);
    let choice = choice.map(ManuallyDrop::new);
    let failed = choice.as_ref().ok().map(|choice| choice.deployment.facts.name.clone());
    let Err(error) = choice.and_then(|choice| make_root(&choice)) else { return Ok(()) };
    for other in Choice::others(&config, sysroot, failed.as_ref(), &error) {
        log::warn!(
            "{error}\nfalling back to {}, which has the same kernel: [recovery] fallback=same-kernel",
            other.deployment.facts.name
        );
        match make_root(&other) {
            Err(error) if error.class().is_about_the_deployment() => log::warn!("{error}"),
            result => return result,
        }
    }
    Err(error)
}

fn make_root(
    options: &Options,
    cmdline: &Cmdline,
    config: &Config,
    sysroot: &Sysroot,
    choice: &Choice,
    start: Instant,
) -> Result<()> {
    // plan
    let own = Config::of_deployment(options.origin, cmdline, choice.deployment.handle())?;
    let config = own.as_ref().unwrap_or(config);
    let candidate = Candidate::of(config, sysroot, &choice.deployment)?;
    if options.dry_run {
        candidate.look_for_sources(sysroot)?;
    }
    let Candidate { deployment, image, mut plan } = candidate;
    let image = ManuallyDrop::new(image);
    plan.traces.instead = choice.instead.as_ref().map(|instead| instead.record(&plan.name));
    if options.dry_run {
        print(&if options.json { plan::print::json(&plan) + "\n" } else { plan::print::text(&plan) });
        return Ok(());
    }
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    log::debug!("planned after {} us: {}", microseconds(start), plan::print::text(&plan));

    // apply
    let disk = mount::Disk { sysroot, deployment, image: image.as_ref() };
    let plan = mount::apply(plan, disk, options.kernel)?;

    // announce
    journal::announce(&plan, sysroot);
    log::info!("{} is the new root at {sysroot} ({} us)", plan.name, microseconds(start));
    Ok(())
}

fn microseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Makes sure that we may and can begin.
fn begin() -> Result<Lock> {
    if !syscall::is_root() {
        let found = "only root can mount; --dry-run needs no rights";
        return Err(Error::found(Class::Permission, "prepare the root", found));
    }
    let lock = Lock::take()?;
    mount::recover()?;
    Ok(lock)
}

fn read_cmdline(given: Option<&[u8]>) -> Result<Cmdline> {
    given.map_or_else(Cmdline::read, |cmdline| Ok(Cmdline::new(cmdline)))
}

fn set_log_level(cmdline: &Cmdline, config: &Config) {
    if config.overrides == Overrides::None {
        return;
    }
    let on = |value: &[u8]| str::from_utf8(value).ok().and_then(keyfile::boolean) != Some(false);
    let debug = cmdline.ours().find(|(name, _)| *name == b"ostree.prepare-root.debug");
    if debug.is_some_and(|(_, value)| value.is_none_or(on)) {
        log::set_max_level(log::LevelFilter::Debug);
    }
    let name = "ostree.prepare-root.log";
    let Some(value) = cmdline.value(name) else { return };
    match kmsg::level(value) {
        Some(level) => log::set_max_level(level),
        None => log::warn!("{name}={} is none of debug, info, warn, error: ignored", value.escape_ascii()),
    }
}

/// Prints an answer.
fn print(text: &str) {
    syscall::say(syscall::stdout(), text.as_bytes());
}
