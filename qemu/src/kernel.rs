//! The kernels that are booted.

use crate::cache::{Cache, Key, Workplace};
use crate::machine::Arch;
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
pub fn package(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "linux-image-cloud-amd64",
        Arch::Arm64 => "linux-image-cloud-arm64",
    }
}

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
    pub fn package(
        self,
        arch: Arch,
        cache: &Cache,
        progress: &Progress,
        logs: &Path,
    ) -> Result<Option<PathBuf>> {
        if self == Self::Suite {
            return Ok(None);
        }
        unpacked(OLD_SUITE, arch, cache, progress, logs).map(Some)
    }
}

/// The directory with the unpacked package of a release of Debian.
pub fn unpacked(
    release: &str,
    arch: Arch,
    cache: &Cache,
    progress: &Progress,
    logs: &Path,
) -> Result<PathBuf> {
    let package = package(arch);
    let name = format!("kernel-{release}-{}", Key::new("kernel").with("package", package).finish());
    let _turn = cache.turn(&name)?;
    let unpacked = cache.piece(&name);
    if unpacked.exists() {
        return Ok(unpacked);
    }
    let place = cache.workplace()?;
    let made = place.join("kernel");
    progress.step(&format!("unpacking {package} of {release} (mmdebstrap)"), || {
        let mut command = extraction(release, package, &place, &made);
        command.arg(format!("--architectures={}", arch.name()));
        script::run(&mut command, &logs.join("kernel.log"))
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
