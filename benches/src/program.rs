//! What is compared.

use crate::support::failure::{Context, Result};
use crate::support::{product, reference};
use goblin::elf::Elf;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Ours,
    Forky,
    Trixie,
    Floor,
    Nothing,
}

impl Program {
    /// All of them, in the order of the tables.
    pub const ALL: [Program; 5] =
        [Program::Ours, Program::Forky, Program::Trixie, Program::Floor, Program::Nothing];

    pub fn name(self) -> &'static str {
        match self {
            Program::Ours => "prepare-root",
            Program::Forky => "libostree 2026.4",
            Program::Trixie => "libostree 2025.2",
            Program::Floor => "floor",
            Program::Nothing => "nothing",
        }
    }

    /// In the heads of CSV files.
    pub fn column(self) -> &'static str {
        match self {
            Program::Ours => "ours",
            Program::Forky => "forky",
            Program::Trixie => "trixie",
            Program::Floor => "floor",
            Program::Nothing => "nothing",
        }
    }
}

/// Where the programs are.
pub struct Programs {
    pub ours: PathBuf,
    /// Debian, unpacked: each with its program and the libraries that it needs.
    pub forky: PathBuf,
    pub trixie: PathBuf,
    pub floor: PathBuf,
    pub nothing: PathBuf,
    pub launch: PathBuf,
}

impl Programs {
    pub fn find() -> Result<Programs> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| product::workspace().join("target"), PathBuf::from)
            .join(format!("{}-unknown-linux-musl/release", std::env::consts::ARCH));
        let built = |name: &str| {
            let path = target.join(name);
            path.canonicalize().context(format!("find {}; `make bench` makes it", path.display()))
        };
        Ok(Programs {
            ours: product::path()?,
            forky: reference::folder()?,
            trixie: reference::of("trixie")?,
            floor: built("floor")?,
            nothing: built("nothing")?,
            launch: built("launch")?,
        })
    }

    /// The bytes that an initramfs needs to run it: the program and its libraries.
    pub fn bytes(&self, program: Program) -> Result<u64> {
        match program {
            Program::Ours => length(&self.ours),
            Program::Floor => length(&self.floor),
            Program::Nothing => length(&self.nothing),
            Program::Forky => with_libraries(&self.forky),
            Program::Trixie => with_libraries(&self.trixie),
        }
    }
}

fn length(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).context(format!("look at {}", path.display()))?.len())
}

fn with_libraries(folder: &Path) -> Result<u64> {
    let libraries = folder.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let mut files = BTreeSet::new();
    let mut next = vec![folder.join(reference::PROGRAM.trim_start_matches('/'))];
    while let Some(path) = next.pop() {
        let path = path.canonicalize().context(format!("find {}", path.display()))?;
        if files.contains(&path) {
            continue;
        }
        let bytes = fs::read(&path).context(format!("read {}", path.display()))?;
        let elf = Elf::parse(&bytes).context(format!("parse {}", path.display()))?;
        // The loader among them: libraries name it, too.
        next.extend(elf.libraries.iter().map(|name| libraries.join(name)));
        files.insert(path);
    }
    files.iter().map(|path| length(path)).sum()
}
