//! Programs of this crate that run in guests.

use crate::machine::Arch;
use crate::script;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds one, static: in its guest there is nothing else, or another libc.
pub fn build(name: &str, arch: Arch, workspace: &Path, logs: &Path) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", arch.processor());
    let folder = workspace.join("target");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace).args(["build", "--release", "--locked", "--package", "prepare-root-qemu"]);
    command.args(["--bin", name, "--target", &target, "--target-dir"]).arg(&folder);
    script::run(&mut command, &logs.join(format!("{name}.log"))).with_context(|| format!("build {name}"))?;
    Ok(folder.join(target).join("release").join(name))
}
