//! What is under test: the files `make install` puts into a system.

use crate::cache::{Cache, Workplace};
use crate::progress::Progress;
use crate::script;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

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
    /// Whether the package is there; it is made when somebody asks for it.
    packed: Mutex<bool>,
}

impl Product {
    /// Builds our program and installs it into a directory of its own.
    ///
    /// `$PREPARE_ROOT_BIN` names a program that is already built.
    pub fn make(workspace: &Path, cache: &Cache, progress: &Progress) -> Result<Self> {
        let logs = cache.logs("build")?;
        let (place, packed) = (cache.workplace()?, Mutex::new(false));
        let product = Self { place, workspace: workspace.to_owned(), logs, packed };
        let logs = &product.logs;
        let mut variables: Vec<OsString> = Vec::new();
        if let Some(binary) = std::env::var_os("PREPARE_ROOT_BIN") {
            let binary = Path::new(&binary).canonicalize().context("find $PREPARE_ROOT_BIN")?;
            variables.push(assignment("BIN=", &binary));
        } else {
            let build = || make(workspace, "build", &[], &logs.join("build.log"));
            progress.step("building ostree-prepare-root (make build)", build)?;
        }
        variables.push(assignment("DESTDIR=", &product.files()));
        make(workspace, "install", &variables, &logs.join("install.log"))?;
        Ok(product)
    }

    /// The program itself.
    pub fn program(&self) -> PathBuf {
        self.files().join("usr/lib/prepare-root/ostree-prepare-root")
    }

    /// A directory with our Debian package, and nothing else.
    pub fn package(&self, progress: &Progress) -> Result<PathBuf> {
        let folder = self.place.join("package");
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*packed {
            let variables = [assignment("DEB_DIR=", &folder), assignment("DEB_ARCH=", Path::new("amd64"))];
            let build = || make(&self.workspace, "deb", &variables, &self.logs.join("deb.log"));
            progress.step("building the Debian package (make deb)", build)?;
            *packed = true;
        }
        Ok(folder)
    }

    /// The directory that stands for the root of a system.
    pub fn files(&self) -> PathBuf {
        self.place.join("product")
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
