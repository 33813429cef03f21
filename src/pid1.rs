//! The work of process 1 around the five verbs: what an initramfs does before them, and what comes after.
//!
//! Before: [`begin`], then [`initramfs`] or [`physical_root`], brings the physical root to where the five verbs find it.
//! After: [`start_init`] makes the new root the root directory and becomes its init. What fails on the way ends in
//! [`dead_end()`].

mod dead_end;
mod init;
pub mod modules;

use crate::cmdline::Cmdline;
use crate::error::{Class, Error, Result};
use crate::kmsg;
use crate::mount::{early, switch};
use crate::options::Options;
use crate::root_device::{self, argument::RootArgument};
use crate::syscall;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;
pub use dead_end::dead_end;
use rustix::process::WaitOptions;

/// Where an initramfs mounts the physical root.
pub const SYSROOT: &str = "/sysroot";

/// Where the physical root is mounted a second time if it is the root directory: in our tmpfs, since nothing is
/// made on the disk.
pub const SECOND: &str = "/run/sysroot";

/// How long the root device may take to appear, unless `rootwait` says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the kernel command line, for which it mounts `/proc`.
///
/// # Errors
/// [`Class::Mount`], [`Class::Cmdline`]
pub fn begin() -> Result<Cmdline> {
    early::proc()?;
    kmsg::standard_error_is_the_console();
    Cmdline::read()
}

/// Loads the drivers, finds the root device, and mounts it on [`SYSROOT`].
///
/// # Errors
/// [`Class::Cmdline`] for a `root=` that this program cannot serve,
/// [`Class::Sysroot`], [`Class::Mount`]
pub fn initramfs(cmdline: &Cmdline) -> Result<()> {
    early::dev()?;
    early::console();
    early::sys()?;
    early::run()?;
    let argument = RootArgument::parse(cmdline)?;
    for note in &argument.notes {
        log::warn!("{note}");
    }
    modules::load_drivers(cmdline);
    let found = root_device::find(&argument, PATIENCE, &mut |error| log::warn!("{error}"))?;
    log::info!("the root device {} is {}", argument.root, found.path.to_string_lossy());
    let access = early::Access { readonly: argument.readonly, flags: &argument.flags };
    early::root(&found.path, &found.kinds, access, SYSROOT)
}

/// Mounts the root directory, which is the physical root, a second time on [`SECOND`].
///
/// # Errors
/// [`Class::Mount`]
pub fn physical_root(_: &Cmdline) -> Result<()> {
    early::dev()?;
    early::console();
    early::run()?;
    early::root_again(SECOND)
}

/// Runs this in a process of its own; whether it succeeded. Before Linux 6.15 the five verbs enter another mount namespace
/// for a while and by that part from those that share our root directory and umask: the threads of the kernel
/// (`kernel_init` is made with `CLONE_FS`), which run programs and read firmware there. What the process parts from ends
/// with it.
///
/// # Errors
/// [`Class::Run`]: there is no memory for a process.
pub fn apart(work: impl FnOnce() -> bool) -> Result<bool> {
    let fail = |errno| Error::errno(Class::Run, "start a process", errno);
    let Some(child) = syscall::fork().map_err(fail)? else {
        syscall::exit(if work() { 0 } else { 1 });
    };
    let waited = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()));
    Ok(waited.map_err(fail)?.is_some_and(|(_, status)| status.exit_status() == Some(0)))
}

/// Makes the new root the root directory and becomes its init, with the arguments that the kernel had for it.
///
/// # Errors
/// [`Class::Incomplete`]: there is no init.
/// [`Class::Mount`]
pub fn start_init(options: &Options, cmdline: &Cmdline, arguments: &[Vec<u8>]) -> Result<Infallible> {
    let candidates = init::candidates(cmdline);
    // After the switch it would be too late to explain.
    init::check(&options.sysroot, &candidates)?;
    switch::switch(&options.sysroot)?;
    init::become_init(&candidates, arguments)
}
