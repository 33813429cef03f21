//! Seals the files of a disk with fs-verity, in a guest whose only process does nothing else.
//!
//! The build host's kernel may lack fs-verity; Debian's kernels have it, and need no initramfs for a
//! disk on NVMe. See `bin/prepare-root-seal.rs` for the guest's side.

use crate::accel::Accel;
use crate::console::{self, End};
use crate::entry::Entry;
use crate::qemu;
use crate::script;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What seals; part of the key of a disk.
pub const SOURCE: &str = include_str!("bin/prepare-root-seal.rs");

/// What the guest says at its end.
const DONE: &str = "files are sealed";

/// Emulation seals a Debian in some 20 s.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the guest's program: static, since there is nothing else in the guest.
pub fn build(workspace: &Path, logs: &Path) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let folder = workspace.join("target");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace).args(["build", "--release", "--locked", "--package", "prepare-root-qemu"]);
    command.args(["--bin", "prepare-root-seal", "--target", &target, "--target-dir"]).arg(&folder);
    script::run(&mut command, &logs.join("seal-build.log")).context("build prepare-root-seal")?;
    Ok(folder.join(target).join("release/prepare-root-seal"))
}

/// Seals what the disk's list names.
pub fn run(disk: &Path, boot: &Path, accel: Accel, logs: &Path) -> Result<()> {
    let kernel = Entry::read(boot)?.kernel;
    let mut command = qemu::machine(accel);
    command.arg("-kernel").arg(kernel);
    command.args(["-append", "root=/dev/nvme0n1 rootwait rw init=/spare/seal console=ttyS0 panic=-1 quiet"]);
    command.args(["-device", "nvme,drive=disk,serial=disk", "-drive"]);
    // Should the host die in the middle, the disk is not published.
    command.arg(format!("if=none,id=disk,format=raw,cache=unsafe,file={}", disk.display()));
    let errors = logs.join("seal-errors.txt");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&errors).context("create a log")?)
        .spawn()
        .context("start qemu-system-x86_64")?;
    let Some(output) = child.stdout.take() else { bail!("QEMU has no output") };
    let log = logs.join("seal.log");
    let end = console::watch(output, &log, false, LIMIT);
    if !matches!(end, Ok(End::PowerOff)) {
        child.kill().context("end QEMU")?;
    }
    child.wait().context("wait for QEMU")?;
    let (end, said) = (end?, fs::read(&log)?);
    let done = String::from_utf8_lossy(&said).contains(DONE);
    ensure!(
        done && end == End::PowerOff,
        "sealing: {end:?}: {}{}",
        fs::read_to_string(&errors)?,
        script::tail(&log)?
    );
    Ok(())
}
