//! The kernels that are booted.

use crate::cache::{Cache, Key, Workplace};
use crate::progress::Progress;
use crate::script;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The one of the suite.
    Suite,
    /// 6.1, of Debian 12: the oldest that is supported.
    Bookworm,
}

/// The package: a small kernel, for virtual machines.
pub const PACKAGE: &str = "linux-image-cloud-amd64";

/// The oldest kernel's release of Debian.
const OLD_SUITE: &str = "bookworm";

impl Kernel {
    /// Its name in a key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suite => "the suite's",
            Self::Bookworm => OLD_SUITE,
        }
    }

    /// The directory with the unpacked package, unless it is the suite's own kernel.
    pub fn package(self, cache: &Cache, progress: &Progress, logs: &Path) -> Result<Option<PathBuf>> {
        if self == Self::Suite {
            return Ok(None);
        }
        unpacked(OLD_SUITE, cache, progress, logs).map(Some)
    }
}

/// The directory with the unpacked package of a release of Debian.
pub fn unpacked(release: &str, cache: &Cache, progress: &Progress, logs: &Path) -> Result<PathBuf> {
    let name = format!("kernel-{release}-{}", Key::new("kernel").with("package", PACKAGE).finish());
    let _turn = cache.turn(&name)?;
    let package = cache.piece(&name);
    if package.exists() {
        return Ok(package);
    }
    let place = cache.workplace()?;
    let made = place.join("kernel");
    progress.step(&format!("unpacking {PACKAGE} of {release} (mmdebstrap)"), || {
        script::run(&mut extraction(release, PACKAGE, &place, &made), &logs.join("kernel.log"))
    })?;
    cache.publish(&made, &name)
}

/// Unpacks packages and what they depend on. `extract` runs no maintainer script: only the files are
/// wanted.
pub fn extraction(release: &str, packages: &str, place: &Workplace, made: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command.env("TMPDIR", place.join(""));
    command.args(["--variant=extract", "--format=directory"]).arg(format!("--include={packages}"));
    command.arg(release).arg(made).args(std::env::var_os("MIRROR"));
    command
}
