//! A guest with a whole system, for what the build host's kernel may be unable to do to a disk: open what
//! lies in device-mapper, seal files where no kernel has the file system built in.

use crate::accel::Accel;
use crate::bare::Bare;
use crate::machine::Arch;
use crate::script;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What runs in the guest; part of the key of a disk.
pub const SCRIPT: &str = include_str!("../guest/workbench.sh");

/// Where that is. The tree's `/tmp` is emptied before it is committed.
const INIT: &str = "/tmp/workbench.sh";

/// Emulation encrypts a gigabyte in less than two minutes.
const LIMIT: Duration = Duration::from_secs(900);

/// The guest.
pub struct Workbench {
    /// Its root.
    image: PathBuf,
    /// Its processor.
    arch: Arch,
    /// Who runs its instructions.
    accel: Accel,
}

impl Workbench {
    /// One with the system that is in `tree`, and is not a deployment yet.
    pub fn new(tree: &Path, image: PathBuf, arch: Arch, accel: Accel, logs: &Path) -> Result<Self> {
        fs::write(tree.join(INIT.trim_start_matches('/')), SCRIPT).context("write the workbench's script")?;
        fs::File::create(&image)?.set_len(2 << 30).context("create the workbench's disk")?;
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-d"]).args([tree, &image]);
        script::run(&mut command, &logs.join("workbench-mkfs.log"))?;
        Ok(Self { image, arch, accel })
    }

    /// Does a task of the script to disks, which must make it say `done`.
    pub fn run(&self, task: &str, done: &str, disks: &[&Path], kernel: &Path, logs: &Path) -> Result<()> {
        let arguments = format!("-- {INIT} {task}");
        let guest = Bare {
            accel: self.accel,
            arch: self.arch,
            processors: 1,
            kernel,
            disk: &self.image,
            keep: false,
            attached: disks,
            init: "/usr/bin/sh",
            arguments: &arguments,
            limit: self.arch.limit(LIMIT),
            logs,
            name: "workbench",
        };
        ensure!(guest.run()?.contains(done), "workbench: {}", script::tail(&logs.join("workbench.log"))?);
        Ok(())
    }
}
