//! Plain Debian trees, from which systems are made.

use crate::cache::{Cache, Key};
use crate::foreign;
use crate::generator::Generator;
use crate::kernel;
use crate::machine::Arch;
use crate::progress::Progress;
use crate::script;
use crate::suite::Suite;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a tree has.
pub struct Base {
    suite: Suite,
    arch: Arch,
    packages: Vec<&'static str>,
}

/// The packages that every system has, besides the kernel and what makes its initramfs.
const PACKAGES: [&str; 7] = ["systemd-sysv", "udev", "dbus", "kmod", "e2fsprogs", "zstd", "ostree"];

impl Base {
    /// The tree of a system with this generator and these packages more.
    pub fn new(suite: Suite, arch: Arch, generator: Generator, more: &[&'static str]) -> Self {
        let packages = [&PACKAGES, generator.packages(), &[kernel::package(arch)], more].concat();
        Self { suite, arch, packages }
    }

    /// Its name in the cache.
    pub fn name(&self) -> String {
        let key = Key::new("base")
            .with("arch", self.arch.name())
            .with("packages", self.packages.join(" "))
            .with("options", self.suite.bootstrap_options().join(" "));
        format!("base-{}-{}.tar", self.suite, key.finish())
    }

    /// What to call it in a line for people.
    pub fn label(&self) -> String {
        match self.arch {
            Arch::Amd64 => self.suite.to_string(),
            Arch::Arm64 => format!("{} {}", self.suite, self.arch.name()),
        }
    }

    /// Finds or builds its archive.
    fn archive(&self, cache: &Cache, progress: &Progress, logs: &Path) -> Result<PathBuf> {
        let name = self.name();
        let _turn = cache.turn(&name)?;
        let archive = cache.piece(&name);
        if archive.exists() {
            return Ok(archive);
        }
        let place = cache.workplace()?;
        let made = place.join("base.tar");
        progress.step(&format!("{}: installing Debian packages (mmdebstrap)", self.label()), || {
            let mut command = Command::new("mmdebstrap");
            // The tree is made beside the archive, not in a /tmp that may be small.
            command.env("TMPDIR", place.join(""));
            command.args(self.suite.bootstrap_options());
            command.arg(format!("--architectures={}", self.arch.name()));
            if foreign::is_foreign(self.arch) {
                // Its own look for an emulator needs one more package.
                command.arg("--skip=check/qemu");
                // The kernel's scripts would make an initramfs that nobody boots, twice: minutes.
                command.env("INITRD", "No");
            }
            command.arg(format!("--include={}", self.packages.join(",")));
            command.arg(self.suite.name()).arg(&made);
            if let Some(mirror) = std::env::var_os("MIRROR") {
                command.arg(mirror);
            }
            script::run(&mut foreign::runs(self.arch, command), &logs.join("mmdebstrap.log"))
        })?;
        cache.publish(&made, &name)
    }

    /// Unpacks it at `tree`, which must not be there yet.
    pub fn unpack(&self, tree: &Path, cache: &Cache, progress: &Progress, logs: &Path) -> Result<()> {
        let archive = self.archive(cache, progress, logs)?;
        progress.step(&format!("{}: unpacking the base system", self.label()), || {
            fs::create_dir(tree)?;
            let mut command = Command::new("tar");
            command.arg("-C").arg(tree).args(["--xattrs", "--xattrs-include=*", "-xf"]).arg(&archive);
            script::run(&mut command, &logs.join("unpack.log"))
        })
    }
}
