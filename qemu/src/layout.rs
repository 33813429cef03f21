//! From a plain Debian tree to one that OSTree can deploy, with an initramfs in it.

use crate::foreign;
use crate::generator::Generator;
use crate::product::Program;
use crate::recipe::{Delivery, File, Recipe};
use crate::script;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const ADAPT: &str = include_str!("../tree/adapt.sh");
const KERNEL: &str = include_str!("../tree/kernel.sh");
const PACKAGE: &str = include_str!("../tree/package.sh");
const INITRAMFS: &str = include_str!("../tree/initramfs.sh");

/// The script that commits and deploys a tree.
pub const DISK: &str = include_str!("../tree/disk.sh");

/// The script that makes the partition with the boot loader.
pub const ESP: &str = include_str!("../tree/esp.sh");

/// The script that makes a disk as Garden Linux does.
pub const GARDEN_LINUX: &str = include_str!("../tree/garden-linux.sh");

/// The script that makes the disk with user-data for cloud-init.
pub const SEED: &str = include_str!("../tree/seed.sh");

/// The script that makes the disk of an ordinary Debian.
pub const PLAIN: &str = include_str!("../tree/plain.sh");

/// The script that makes one disk of several partitions.
pub const ASSEMBLE: &str = include_str!("../tree/assemble.sh");

/// The script that makes the key a commit is signed with.
pub const SIGNING_KEY: &str = include_str!("../tree/key.sh");

/// The scripts whose text decides what a disk becomes.
pub const SCRIPTS: [&str; 11] =
    [PACKAGE, KERNEL, ADAPT, INITRAMFS, SIGNING_KEY, DISK, PLAIN, ESP, ASSEMBLE, GARDEN_LINUX, SEED];

/// Where the configuration is.
pub const CONFIG: &str = "etc/ostree/prepare-root.conf";

/// Where the init is that says when it was started.
pub const STOPWATCH: &str = "/usr/lib/prepare-root-check/stopwatch";

const WITNESS: &str = "usr/lib/prepare-root-check/witness";
/// What the guest's report is made by.
pub const CHECK: &str = "usr/lib/prepare-root-check/check.sh";

const CHECK_UNIT: &str = "usr/lib/systemd/system/prepare-root-check.service";
const CHECK_WANTED: &str = "usr/lib/systemd/system/multi-user.target.wants/prepare-root-check.service";

/// The files that make the guest report.
pub const GUEST_FILES: [File; 4] = [
    (WITNESS, include_str!("../guest/witness")),
    (CHECK, include_str!("../guest/check.sh")),
    (CHECK_UNIT, include_str!("../guest/check.service")),
    ("usr/lib/tmpfiles.d/prepare-root-check.conf", include_str!("../guest/tmpfiles.conf")),
];

/// Where the public keys are that an initramfs accepts signatures of.
pub const KEYS: &str = "etc/ostree/initramfs-root-binding.key";

/// Puts the recipe's files and ours into the tree and gives it OSTree's layout.
pub fn adapt(
    tree: &Path,
    recipe: &Recipe,
    kernel: Option<&Path>,
    product: Option<&Path>,
    logs: &Path,
) -> Result<()> {
    if let Some(package) = kernel {
        let mut command = Command::new("sh");
        command.args(["-c", KERNEL, "sh"]).args([tree, package]);
        script::run(&mut foreign::runs(recipe.arch, command), &logs.join("kernel.log"))?;
    }
    let mut command = Command::new("sh");
    command.args(["-c", ADAPT, "sh"]).arg(tree);
    script::run(&mut command, &logs.join("adapt.log"))?;
    for (path, target) in recipe.links {
        let path = tree.join(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        } else {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        symlink(target, &path).with_context(|| format!("make the link {}", path.display()))?;
    }
    add_files(tree, recipe, product, logs)
}

/// Puts the recipe's files and ours into a tree.
pub fn add_files(tree: &Path, recipe: &Recipe, product: Option<&Path>, logs: &Path) -> Result<()> {
    for (path, text) in GUEST_FILES {
        write(&tree.join(path), text, 0o644)?;
    }
    let wanted = tree.join(CHECK_WANTED);
    if let Some(parent) = wanted.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink("../prepare-root-check.service", &wanted).context("enable the check")?;

    if let (Delivery::Files | Delivery::GardenLinux, Some(product)) = (recipe.delivery, product) {
        let mut command = Command::new("cp");
        command.args(["-a", "--no-preserve=ownership"]).arg(product.join(".")).arg(tree);
        script::run(&mut command, &logs.join("copy.log"))?;
    }
    if let Some(config) = recipe.config {
        write(&tree.join(CONFIG), config, 0o644)?;
    }
    write_files(tree, recipe.files)?;
    for path in recipe.remove {
        fs::remove_file(tree.join(path)).with_context(|| format!("remove /{path} from the tree"))?;
    }
    Ok(())
}

/// Puts files into a tree.
pub fn write_files(tree: &Path, files: &[File]) -> Result<()> {
    files.iter().try_for_each(|(path, text)| write(&tree.join(path), text, 0o644))
}

/// Installs the Debian package in `folder`.
pub fn install_package(tree: &Path, recipe: &Recipe, folder: &Path, logs: &Path) -> Result<()> {
    let packages: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let package = packages.iter().map(fs::DirEntry::path).find(is_package);
    let package = package.with_context(|| format!("{} has no package", folder.display()))?;
    let command = script::in_mount_namespace(PACKAGE, [tree, &package]);
    script::run(&mut foreign::runs(recipe.arch, command), &logs.join("package.log"))
}

/// Makes the initramfs with the tree's own generator.
pub fn initramfs(tree: &Path, recipe: &Recipe, logs: &Path) -> Result<()> {
    let mut command = script::in_mount_namespace(INITRAMFS, [tree]);
    command.arg(recipe.generator.name());
    match (recipe.program, recipe.generator) {
        (Program::Ours, _) => {}
        // Ours must come in by its own configuration, as it will on a user's machine.
        (Program::Libostree, Generator::Dracut | Generator::DracutShell | Generator::InitramfsTools) => {
            command.args(["--add", "ostree"]);
        }
        (Program::Libostree, Generator::Solo | Generator::None) => {
            bail!("libostree's program in Debian is no process 1: use --program ours")
        }
    }
    if let Some(modules) = recipe.modules {
        command.args(["--modules", modules]);
    }
    if foreign::is_foreign(recipe.arch) {
        // dracut's own choice, level 15, takes most of a minute when it is emulated.
        command.args(["--compress", "zstd -3"]);
    }
    script::run(&mut foreign::runs(recipe.arch, command), &logs.join("initramfs.log"))
        .context("make the initramfs")
}

/// Makes what the recipe's update has and its tree has not, in a new directory: a configuration, an initramfs
/// with it, and another witness. The tree has no initramfs yet, before or after.
pub fn update(tree: &Path, recipe: &Recipe, config: &str, update: &Path, logs: &Path) -> Result<()> {
    write(&tree.join(CONFIG), config, 0o644)?;
    initramfs(tree, recipe, logs)?;
    let image = PathBuf::from("usr/lib/modules").join(release(tree)?).join("initramfs.img");
    for (from, to) in [(&image, &image), (&CONFIG.into(), &Path::new("usr").join(CONFIG))] {
        let (from, to) = (tree.join(from), update.join(to));
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        fs::rename(&from, &to).with_context(|| format!("rename {}", from.display()))?;
    }
    write(&update.join(WITNESS), "updated\n", 0o644)?;
    recipe.config.map_or(Ok(()), |config| write(&tree.join(CONFIG), config, 0o644))
}

/// The kernel's release.
fn release(tree: &Path) -> Result<OsString> {
    let modules = tree.join("usr/lib/modules");
    let entries = fs::read_dir(&modules).with_context(|| format!("list {}", modules.display()))?;
    let mut names =
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
    ensure!(names.len() == 1, "{} has {} kernels", modules.display(), names.len());
    names.pop().context("there is one")
}

/// Puts the stopwatch in the place of init.
pub fn set_stopwatch(tree: &Path, program: &Path) -> Result<()> {
    let (place, init) = (tree.join(STOPWATCH.trim_start_matches('/')), tree.join("usr/sbin/init"));
    fs::copy(program, &place).with_context(|| format!("write {}", place.display()))?;
    fs::remove_file(&init).with_context(|| format!("remove {}", init.display()))?;
    // Somebody in an initramfs looks whether it is there: no absolute link.
    symlink(Path::new("../..").join(STOPWATCH.trim_start_matches('/')), &init)
        .context("link init to the stopwatch")
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}
