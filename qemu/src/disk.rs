//! Disks with a deployed Debian: built when there is none for the recipe yet.

use crate::cache::{Cache, Key, Workplace};
use crate::layout;
use crate::product::{Product, Program};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::script;
use crate::suite::Suite;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A finished disk.
pub struct Disk {
    /// The directory with the disk image and the copy of its `/boot`.
    dir: PathBuf,
}

impl Disk {
    /// The raw image.
    pub fn image(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// A copy of the disk's `/boot`.
    pub fn boot(&self) -> PathBuf {
        self.dir.join("boot")
    }
}

/// Gives disks for recipes.
pub struct Builder<'a> {
    /// Where finished pieces are.
    pub cache: &'a Cache,
    /// Our files, unless only libostree's program is booted.
    pub product: Option<&'a Product>,
    /// Where steps are announced.
    pub progress: &'a Progress,
}

impl Builder<'_> {
    /// Finds or builds the disk of a recipe.
    pub fn disk(&self, recipe: &Recipe, logs: &Path) -> Result<Disk> {
        let product = match recipe.program {
            Program::Ours => Some(self.product.context("our program was not built")?.files()),
            Program::Libostree => None,
        };
        let base = base_name(recipe.suite);
        let name = recipe.disk_name(&base, product.as_deref())?;
        let dir = self.cache.piece(&name);
        if dir.exists() {
            fs::write(dir.join("used"), "")?;
            return Ok(Disk { dir });
        }

        let suite = recipe.suite;
        let step = |what: &str| format!("{suite}: {what}");
        let base = self.base(suite, logs)?;
        let place = self.cache.workplace()?;
        let (tree, made) = (place.join("tree"), place.join("disk"));
        fs::create_dir(&made)?;
        self.progress.step(&step("unpacking the base system"), || {
            unpack(&base, &tree, logs)?;
            layout::adapt(&tree, recipe, product.as_deref(), logs)
        })?;
        self.progress
            .step(&step("making the initramfs (dracut)"), || layout::initramfs(&tree, recipe, logs))?;
        self.progress.step(&step("committing and deploying (ostree)"), || {
            let reference = format!("debian/{suite}");
            let mut command = script::in_mount_namespace(layout::DISK, [&tree, &made.join("disk.img")]);
            let var = if recipe.used_var { "used-var" } else { "new-var" };
            command.arg(made.join("boot")).args([&reference, var]).args(&recipe.kargs);
            script::run(&mut command, &logs.join("disk.log"))
        })?;
        fs::write(made.join("used"), "")?;
        let dir = self.cache.publish(&made, &name)?;
        self.cache.remove_old_disks()?;
        Ok(Disk { dir })
    }

    /// Unpacks a suite's plain Debian tree, for as long as the workplace lives.
    pub fn tree(&self, suite: Suite, logs: &Path) -> Result<(Workplace, PathBuf)> {
        let base = self.base(suite, logs)?;
        let place = self.cache.workplace()?;
        let tree = place.join("tree");
        self.progress.step(&format!("{suite}: unpacking the base system"), || unpack(&base, &tree, logs))?;
        Ok((place, tree))
    }

    /// Finds or builds the archive of a suite's plain Debian tree.
    fn base(&self, suite: Suite, logs: &Path) -> Result<PathBuf> {
        let name = base_name(suite);
        let archive = self.cache.piece(&name);
        if archive.exists() {
            return Ok(archive);
        }
        let place = self.cache.workplace()?;
        let made = place.join("base.tar");
        self.progress.step(&format!("{suite}: installing Debian packages (mmdebstrap)"), || {
            let mut command = Command::new("mmdebstrap");
            // The tree is made beside the archive, not in a /tmp that may be small.
            command.env("TMPDIR", place.join(""));
            command.args(suite.bootstrap_options());
            command.arg(format!("--include={}", suite.packages().join(",")));
            command.arg(suite.name()).arg(&made);
            if let Some(mirror) = std::env::var_os("MIRROR") {
                command.arg(mirror);
            }
            script::run(&mut command, &logs.join("mmdebstrap.log"))
        })?;
        self.cache.publish(&made, &name)
    }
}

fn unpack(base: &Path, tree: &Path, logs: &Path) -> Result<()> {
    fs::create_dir(tree)?;
    let mut command = Command::new("tar");
    command.arg("-C").arg(tree).args(["--xattrs", "--xattrs-include=*", "-xf"]).arg(base);
    script::run(&mut command, &logs.join("unpack.log"))
}

fn base_name(suite: Suite) -> String {
    let key = Key::new("base")
        .with("packages", suite.packages().join(" "))
        .with("options", suite.bootstrap_options().join(" "));
    format!("base-{suite}-{}.tar", key.finish())
}

/// Refuses early, with the reason, instead of in the middle of a build.
pub fn ensure_root() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = user.and_then(|ids| ids.split_whitespace().nth(1));
    ensure!(
        effective == Some("0"),
        "must be root: Debian's package scripts run in the tree, and disks are mounted"
    );
    Ok(())
}
