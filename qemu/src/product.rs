//! What is under test: the files `make install` puts into a system.

use crate::cache::{Cache, Workplace};
use crate::machine::Arch;
use crate::progress::Progress;
use crate::script;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where Cargo puts our program, below what is for a target.
const BINARY: &str = "release/ostree-prepare-root";

/// The program that makes the deployment the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This project's.
    Ours,
    /// libostree's own, from the suite's `ostree-boot`: the reference.
    Libostree,
}

impl Program {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Libostree => "libostree",
        }
    }

    /// Finds a program by its name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ours" => Ok(Self::Ours),
            "libostree" => Ok(Self::Libostree),
            _ => bail!("unknown program '{name}': ours and libostree are known"),
        }
    }
}

/// Our files, as `make install` lays them out. Made once, so that all scenarios of a run boot the same.
pub struct Product {
    place: Workplace,
    workspace: PathBuf,
    logs: PathBuf,
    /// The folders in it that are finished. They are made when somebody asks for them.
    made: Mutex<Vec<PathBuf>>,
}

impl Product {
    /// Builds our program for this host and installs it into a directory of its own.
    ///
    /// `$PREPARE_ROOT_BIN` names such a program that is already built.
    pub fn make(workspace: &Path, cache: &Cache, progress: &Progress) -> Result<Self> {
        let (logs, place, made) = (cache.logs("build")?, cache.workplace()?, Mutex::default());
        let product = Self { place, workspace: workspace.to_owned(), logs, made };
        product.files(Arch::Amd64, progress)?;
        Ok(product)
    }

    /// The program itself.
    pub fn program(&self) -> PathBuf {
        self.folder("files", Arch::Amd64).join("usr/lib/prepare-root/ostree-prepare-root")
    }

    /// The directory that stands for the root of a system.
    pub fn files(&self, arch: Arch, progress: &Progress) -> Result<PathBuf> {
        self.once("files", arch, |folder| {
            let processor = assignment("ARCH=", Path::new(arch.processor()));
            let mut variables = vec![assignment("DESTDIR=", folder), processor.clone()];
            match std::env::var_os("PREPARE_ROOT_BIN") {
                Some(binary) if arch == Arch::Amd64 => {
                    let binary = Path::new(&binary).canonicalize().context("find $PREPARE_ROOT_BIN")?;
                    variables.push(assignment("BIN=", &binary));
                }
                _ => {
                    let build = || self.run_make("build", arch, &[processor]);
                    let what = format!("building ostree-prepare-root for {} (make build)", arch.name());
                    progress.step(&what, build)?;
                }
            }
            self.run_make("install", arch, &variables)
        })
    }

    /// A directory with our Debian package, and nothing else.
    pub fn package(&self, arch: Arch, progress: &Progress) -> Result<PathBuf> {
        self.once("package", arch, |folder| {
            let deb_arch = assignment("DEB_ARCH=", Path::new(arch.name()));
            let build = || self.run_make("deb", arch, &[deb_arch]);
            progress.step(&format!("building the Debian package for {} (make deb)", arch.name()), build)?;
            fs::create_dir(folder)?;
            let mut command = Command::new("sh");
            command.args(["-c", "cp \"$0\"/target/deb/prepare-root_*_\"$1\".deb \"$2\""]);
            command.arg(&self.workspace).arg(arch.name()).arg(folder);
            script::run(&mut command, &self.logs.join("copy-package.log"))
        })
    }

    /// The same program, built now, with the names of what is in it.
    pub fn unstripped(&self) -> Result<PathBuf> {
        let variables = ["CARGO_PROFILE_RELEASE_STRIP=false", "CARGO_BUILD_TARGET_DIR=target/unstripped"];
        let variables = variables.map(OsString::from);
        make(&self.workspace, "build", &variables, &self.logs.join("unstripped.log"))?;
        let target = format!("target/unstripped/{}-unknown-linux-musl", Arch::Amd64.processor());
        Ok(self.workspace.join(target).join(BINARY))
    }

    fn folder(&self, what: &str, arch: Arch) -> PathBuf {
        self.place.join(&format!("{what}-{}", arch.name()))
    }

    /// Fills a folder, unless that was done before.
    fn once(&self, what: &str, arch: Arch, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.folder(what, arch);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.contains(&folder) {
            fill(&folder)?;
            made.push(folder.clone());
        }
        Ok(folder)
    }

    fn run_make(&self, target: &str, arch: Arch, variables: &[OsString]) -> Result<()> {
        let log = self.logs.join(format!("{target}-{}.log", arch.name()));
        make(&self.workspace, target, variables, &log)
    }
}

fn make(workspace: &Path, target: &str, variables: &[OsString], log: &Path) -> Result<()> {
    let mut command = Command::new("make");
    // The Makefile knows the binary's place under target/, wherever we were built.
    command.env_remove("CARGO_TARGET_DIR");
    // Started by `make`, we are not part of its job control.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command.arg("-C").arg(workspace).arg(target).args(variables);
    script::run(&mut command, log).with_context(|| format!("make {target}"))
}

fn assignment(name: &str, value: &Path) -> OsString {
    let mut text = OsString::from(name);
    text.push(value);
    text
}
