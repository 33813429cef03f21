//! Packages of Debian, unpacked into a folder of the cache.

use super::cache;
use super::failure::Result;
use super::sandbox::tool;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with these packages (separated by commas) and all they depend on; `name`: of the piece.
///
/// They come from the mirror `$MIRROR`, or whichever mmdebstrap takes by default.
pub fn unpacked(name: &str, suite: &str, packages: &str) -> Result<PathBuf> {
    cache::piece(name, &[packages.as_bytes()], |folder| unpack(suite, packages, folder))
}

fn unpack(suite: &str, packages: &str, folder: &Path) -> Result<()> {
    eprintln!("unpacking {packages} of Debian {suite} (once)");
    let mut command = Command::new("mmdebstrap");
    // `extract` runs no maintainer script: nothing is to be booted, only programs run.
    command.args(["--quiet", "--variant=extract", "--format=directory"]);
    command.arg(format!("--include={packages}"));
    command.args(["--aptopt=Acquire::Check-Valid-Until \"false\"", suite]).arg(folder);
    command.args(std::env::var_os("MIRROR"));
    tool(&mut command)
}
