//! The programs that make an initramfs.

use crate::machine::Bus;
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
    /// prepare-root-mkinitrd: our program is all there is.
    Solo,
    /// No initramfs. The kernel mounts the disk, and starts our program from it.
    None,
}

impl Generator {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Dracut, Self::DracutShell, Self::InitramfsTools, Self::Solo, Self::None];

    /// Those of others, which our program has to fit into.
    pub const OTHERS: [Self; 3] = [Self::Dracut, Self::DracutShell, Self::InitramfsTools];

    /// Its name on the command line and in the scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dracut => "dracut",
            Self::DracutShell => "dracut-shell",
            Self::InitramfsTools => "initramfs-tools",
            Self::Solo => "solo",
            Self::None => "no-initramfs",
        }
    }

    /// Finds a generator by its name.
    pub fn parse(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|generator| generator.name() == name) {
            Some(generator) => Ok(generator),
            None => {
                let known = Self::ALL.map(Self::name).join(", ");
                bail!("unknown generator '{name}': {known} are known")
            }
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
            // Debian's kernel wants a generator, whoever makes the initramfs in the end.
            Self::InitramfsTools | Self::Solo | Self::None => &["ostree-boot", "initramfs-tools"],
        }
    }

    /// What the disk hangs on where nobody chose: what the kernel can read all alone, if it has to.
    pub fn bus(self) -> Bus {
        match self {
            Self::None => Bus::Nvme,
            _ => Bus::VirtioBlk,
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
