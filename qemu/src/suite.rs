//! The Debian releases that are booted.

use anyhow::{Result, bail};
use std::fmt;

/// A Debian release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 13: ostree 2025.2 without composefs, systemd 257, dracut 106, kernel 6.12.
    Trixie,
    /// Debian 14: ostree 2026.4 with composefs, systemd 262, dracut 112, kernel 7.2.
    Forky,
}

impl Suite {
    /// The release's name, as in an apt source.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    /// Finds a release by its name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "trixie" => Ok(Self::Trixie),
            "forky" => Ok(Self::Forky),
            _ => bail!("unknown suite '{name}': trixie and forky are known"),
        }
    }

    /// What mmdebstrap is told apart from suite, packages and output.
    pub fn bootstrap_options(self) -> &'static [&'static str] {
        match self {
            Self::Trixie => &["--mode=root", "--variant=minbase"],
            // A testing release's mirror may be a snapshot whose index has run out.
            Self::Forky => {
                &["--mode=root", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""]
            }
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
