//! libostree's own program, and the `ostree` that makes the sysroots: Debian's, unpacked into a folder.

use super::cache;
use super::failure::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release with the version that parity is measured against.
const SUITE: &str = "forky";

/// `systemd` for the file that tells a tree with systemd from one without.
const PACKAGES: &str = "ostree,ostree-boot,systemd";

/// The program, where the package has it.
pub const PROGRAM: &str = "/usr/lib/ostree/ostree-prepare-root";

/// The folder: `$PREPARE_ROOT_REFERENCE`, or one in the cache.
///
/// The packages come from the mirror `$MIRROR`, or whichever mmdebstrap takes by default.
pub fn folder() -> Result<PathBuf> {
    let folder = match std::env::var_os("PREPARE_ROOT_REFERENCE") {
        Some(folder) => PathBuf::from(folder),
        None => cache::piece(SUITE, &[PACKAGES.as_bytes()], unpack)?,
    };
    let program = folder.join(PROGRAM.trim_start_matches('/'));
    program.metadata().context(format!("find the reference {}", program.display()))?;
    Ok(folder)
}

fn unpack(folder: &Path) -> Result<()> {
    eprintln!("unpacking {PACKAGES} of Debian {SUITE} (once)");
    let mut command = Command::new("mmdebstrap");
    // `extract` runs no maintainer script: nothing is to be booted, only two programs run.
    command.args(["--quiet", "--variant=extract", "--format=directory"]);
    command.arg(format!("--include={PACKAGES}"));
    command.args(["--aptopt=Acquire::Check-Valid-Until \"false\"", SUITE]).arg(folder);
    command.args(std::env::var_os("MIRROR"));
    let output = command.output().context("run mmdebstrap")?;
    if !output.status.success() {
        return Err(format!("mmdebstrap: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}
