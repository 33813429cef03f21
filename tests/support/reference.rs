//! libostree's own program, and the `ostree` that makes the sysroots: Debian's, unpacked into a folder.

use super::debian;
use super::failure::{Context, Result};
use std::path::PathBuf;

/// The Debian release with the version that parity is measured against.
const SUITE: &str = "forky";

/// `systemd` for the file that tells a tree with systemd from one without.
const PACKAGES: &str = "ostree,ostree-boot,systemd";

/// The program, where the package has it.
pub const PROGRAM: &str = "/usr/lib/ostree/ostree-prepare-root";

/// The folder: `$PREPARE_ROOT_REFERENCE`, or one in the cache.
pub fn folder() -> Result<PathBuf> {
    match std::env::var_os("PREPARE_ROOT_REFERENCE") {
        Some(folder) => checked(PathBuf::from(folder)),
        None => of(SUITE),
    }
}

/// The folder with the packages of that Debian release.
pub fn of(suite: &str) -> Result<PathBuf> {
    checked(debian::unpacked(suite, suite, PACKAGES)?)
}

fn checked(folder: PathBuf) -> Result<PathBuf> {
    let program = folder.join(PROGRAM.trim_start_matches('/'));
    program.metadata().context(format!("find the reference {}", program.display()))?;
    Ok(folder)
}
