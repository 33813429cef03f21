//! Listing and running trials, in a process that may mount without anybody noticing.

use super::failure::{Context, Result};
use super::job;
use super::sysroots::Disks;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use std::process::ExitCode;

/// A trial that needs root; without, it is reported as ignored, with this reason.
pub fn trial(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    ignorable(name, move || run().map(|()| Completion::Completed))
}

/// As [`trial`], but it may find that it cannot be carried out on this machine.
pub fn ignorable(
    name: impl Into<String>,
    run: impl FnOnce() -> Result<Completion> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Completion::ignored_with("only root can mount"));
        }
        run().map_err(Failed::from)
    })
}

/// The `main` of a test binary.
pub fn main(trials: impl FnOnce() -> Vec<Trial>) -> ExitCode {
    if let Some(status) = job::child() {
        return status;
    }
    let arguments = Arguments::from_args();
    if nix::unistd::geteuid().is_root()
        && let Err(error) = isolate()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials());
    Disks::remove();
    conclusion.exit_code()
}

/// Disks that are mounted for the tests are this process's own business.
pub fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
        .context("make all mounts private")
}
