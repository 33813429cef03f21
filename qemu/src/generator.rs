//! The programs that make an initramfs.

use anyhow::{Result, bail};
use std::fmt;

/// What makes the initramfs, and what kind of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// dracut, with systemd in the initramfs.
    Dracut,
    /// dracut, with shell hooks only.
    DracutShell,
    /// Debian's initramfs-tools.
    InitramfsTools,
}

impl Generator {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dracut, Self::DracutShell, Self::InitramfsTools];

    /// Its name on the command line and in the scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dracut => "dracut",
            Self::DracutShell => "dracut-shell",
            Self::InitramfsTools => "initramfs-tools",
        }
    }

    /// Finds a generator by its name.
    pub fn parse(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|generator| generator.name() == name) {
            Some(generator) => Ok(generator),
            None => bail!("unknown generator '{name}': dracut, dracut-shell and initramfs-tools are known"),
        }
    }

    /// The packages a system needs for it.
    ///
    /// `ostree-boot` brings libostree's own program and dracut module, which ours has to live beside, and the generator
    /// of units for `/var` and `/boot`.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Dracut => &["ostree-boot", "dracut"],
            // Since Debian 14 switch_root is in a package of its own; systemd has another way.
            Self::DracutShell => &["ostree-boot", "dracut", "util-linux-extra"],
            Self::InitramfsTools => &["ostree-boot", "initramfs-tools"],
        }
    }

    /// Whether systemd runs in the initramfs, with its journal.
    pub fn has_systemd(self) -> bool {
        self == Self::Dracut
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
