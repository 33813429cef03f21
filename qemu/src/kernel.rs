//! The kernels that are booted.

use crate::cache::{Cache, Key};
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
        let name = format!("kernel-{OLD_SUITE}-{}", Key::new("kernel").with("package", PACKAGE).finish());
        let package = cache.piece(&name);
        if package.exists() {
            return Ok(Some(package));
        }
        let place = cache.workplace()?;
        let made = place.join("kernel");
        progress.step(&format!("unpacking {PACKAGE} of {OLD_SUITE} (mmdebstrap)"), || {
            let mut command = Command::new("mmdebstrap");
            command.env("TMPDIR", place.join(""));
            // `extract` runs no maintainer script: only the files are wanted.
            command.args(["--variant=extract", "--format=directory"]).arg(format!("--include={PACKAGE}"));
            command.arg(OLD_SUITE).arg(&made).args(std::env::var_os("MIRROR"));
            script::run(&mut command, &logs.join("kernel.log"))
        })?;
        cache.publish(&made, &name).map(Some)
    }
}
