//! What follows the release on a disk: the repositories that a system upgrades from.

use crate::base::Base;
use crate::cache::{Cache, Key};
use crate::layout;
use crate::progress::Progress;
use crate::recipe::{File, Recipe};
use crate::script;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// One that follows the release on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: &'static str,
    /// Its packages, if it is built anew; else it is the release before, with its files put over that.
    pub packages: Option<&'static [&'static str]>,
    /// Files it has.
    pub files: &'static [File],
}

const SCRIPT: &str = include_str!("../tree/releases.sh");

impl Release {
    /// The plain Debian it is made from, if it is built anew.
    fn base(&self, recipe: &Recipe) -> Option<Base> {
        self.packages.map(|packages| Base::new(recipe.suite, recipe.arch, recipe.generator, packages))
    }

    /// Adds it to the key of a disk.
    pub fn add_to(&self, recipe: &Recipe, mut key: Key) -> Key {
        key = key.with("release", self.name).with("script", SCRIPT).with("step", include_str!("releases.rs"));
        if let Some(base) = self.base(recipe) {
            key = key.with("base", base.name());
        }
        for (path, text) in self.files {
            key = key.with("file", path).with("contents", text);
        }
        key
    }
}

/// Where releases are made.
pub struct Place<'a> {
    /// Where finished pieces are.
    pub cache: &'a Cache,
    /// Where steps are announced.
    pub progress: &'a Progress,
    /// A directory for trees.
    pub trees: PathBuf,
    /// The tree whose ostree is used.
    pub tools: &'a Path,
    /// Our files.
    pub product: Option<&'a Path>,
    /// The kernel, if it is not the suite's.
    pub kernel: Option<&'a Path>,
    /// Where logs go.
    pub logs: &'a Path,
}

/// Makes those of a recipe, whose first is on the root file system `root`, in `out`.
pub fn make(recipe: &Recipe, root: &Path, out: &Path, place: &Place<'_>) -> Result<()> {
    let Place { cache, progress, trees, tools, product, kernel, logs } = place;
    for directory in [trees, out] {
        fs::create_dir(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let mut arguments = Vec::new();
    for release in recipe.releases {
        let (tree, logs) = (trees.join(release.name), logs.join(format!("release-{}", release.name)));
        fs::create_dir(&logs).context("create a log directory")?;
        let kind = if let Some(base) = release.base(recipe) {
            base.unpack(&tree, cache, progress, &logs)?;
            let recipe = Recipe { files: release.files, ..recipe.clone() };
            layout::adapt(&tree, &recipe, *kernel, *product, &logs)?;
            let making = format!(
                "{}: making the initramfs of release {} ({})",
                recipe.suite, release.name, recipe.generator
            );
            progress.step(&making, || layout::initramfs(&tree, &recipe, &logs))?;
            "whole"
        } else {
            fs::create_dir(&tree)?;
            layout::write_files(&tree, release.files)?;
            "change"
        };
        let mut argument = OsString::from(format!("{}={kind}=", release.name));
        argument.push(&tree);
        arguments.push(argument);
    }
    let names: Vec<_> = recipe.releases.iter().map(|release| release.name).collect();
    progress.step(&format!("{}: committing {}, with deltas (ostree)", recipe.suite, names.join(", ")), || {
        let mut command = script::in_mount_namespace(SCRIPT, [*tools, root, out]);
        command.arg(format!("debian/{}", recipe.suite)).args(&arguments);
        script::run(&mut command, &logs.join("releases.log"))
    })
}
