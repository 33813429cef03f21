//! Physical roots, made with the real `ostree` on real ext4 file systems.

use super::failure::{Context, Result};
use super::sandbox::{self, tool};
use super::{cache, job, reference};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The stateroot of all deployments.
pub const STATEROOT: &str = "debian";

/// Where the deployment has its kernel.
const MODULES: &str = "usr/lib/modules/6.12.0-test";

/// The commit names the digest of its image.
const COMPOSEFS: &str = "--generate-composefs-metadata";

/// The composefs image, in a deployment.
const IMAGE: &str = ".ostree.cfs";

/// Bytes of the (sparse) image.
const SIZE: u64 = 48 << 20;

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// The number of deployments.
    pub deployments: usize,
    /// `ostree/repo/config` has the legacy `[sysroot] readonly=true`.
    pub legacy_readonly: bool,
    /// Deployments have the composefs image that `ostree` makes; else it is taken away.
    pub image: bool,
    /// Deployments have a hotfix layer for `/usr`.
    pub hotfix: bool,
}

impl Kind {
    /// One deployment, as `ostree` makes it.
    pub const PLAIN: Kind = Kind { deployments: 1, legacy_readonly: false, image: true, hotfix: false };

    /// All that are made.
    const ALL: [Kind; 7] = [
        Kind::PLAIN,
        Kind { deployments: 2, ..Kind::PLAIN },
        Kind { legacy_readonly: true, ..Kind::PLAIN },
        Kind { deployments: 2, legacy_readonly: true, ..Kind::PLAIN },
        Kind { hotfix: true, ..Kind::PLAIN },
        Kind { image: false, ..Kind::PLAIN },
        Kind { image: false, hotfix: true, ..Kind::PLAIN },
    ];

    fn name(self) -> String {
        let Kind { deployments, legacy_readonly, image, hotfix } = self;
        let words = [(legacy_readonly, "-legacy"), (!image, "-no-image"), (hotfix, "-hotfix")];
        let words = words.iter().filter(|(there, _)| *there).map(|(_, word)| *word);
        format!("disk-{deployments}{}", words.collect::<String>())
    }
}

/// One disk to make.
#[derive(Serialize, Deserialize)]
pub struct Recipe {
    image: PathBuf,
    base: PathBuf,
    reference: PathBuf,
    kind: Kind,
}

/// A disk, mounted.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Where.
    pub mounted: PathBuf,
    /// The boot links: the values for `ostree=`.
    pub boot_links: Vec<String>,
    /// The deployments they lead to, as paths below the physical root.
    pub deployments: Vec<String>,
}

/// All disks, and what else a sandbox is made from.
pub struct Disks {
    /// An empty directory: sandboxes are built there, each in its own namespace.
    pub base: PathBuf,
    /// The reference and the `ostree` that made the disks.
    pub reference: PathBuf,
    disks: BTreeMap<(Kind, bool), Disk>,
}

static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();

impl Disks {
    /// Made and mounted when first asked for, in this process's own mount namespace, as
    /// [`trials`](super::trials) made it.
    pub fn get() -> Result<&'static Disks> {
        static DISKS: OnceLock<Result<Disks>> = OnceLock::new();
        DISKS.get_or_init(Disks::mount).as_ref().map_err(Clone::clone)
    }

    /// The disk of that kind; `readonly`: its file system is mounted read-only.
    pub fn disk(&self, kind: Kind, readonly: bool) -> &Disk {
        &self.disks[&(kind, readonly)]
    }

    fn mount() -> Result<Disks> {
        let reference = reference::folder()?;
        let library = fs::read(reference.join(library_name())).context("read the reference's library")?;
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let folder = FOLDER.get_or_init(|| folder).path();
        // Copies of the images and all mount points are in a file system that goes with this process.
        mount(None::<&str>, folder, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))
            .context("mount a tmpfs")?;
        let base = folder.join("sandbox");
        fs::create_dir(&base).context("make the folder for sandboxes")?;
        let mut disks = BTreeMap::new();
        for kind in Kind::ALL {
            let name = kind.name();
            let recipe = |image: &Path| {
                let (image, base, reference) = (image.to_owned(), base.clone(), reference.clone());
                job::make(Recipe { image, base, reference, kind })
            };
            let image = cache::piece(&name, &[include_bytes!("sysroots.rs"), &library], recipe)?;
            for readonly in [false, true] {
                let copy = folder.join(format!("{name}-{readonly}"));
                disks.insert((kind, readonly), Disk::mount(&image, copy, readonly)?);
            }
        }
        Ok(Disks { base, reference, disks })
    }

    /// Unmounts everything and removes the folder.
    pub fn remove() {
        if let Some(folder) = FOLDER.get() {
            // The mounts inside, and the tmpfs, belong to this process alone: what fails here ends
            // with it.
            let _ = umount2(folder.path(), MntFlags::MNT_DETACH);
            let _ = fs::remove_dir(folder.path());
        }
    }
}

/// Where a tree has the library of its generator, which tells who mounts `/boot`.
pub fn library_name() -> String {
    format!("usr/lib/{}-linux-gnu/libostree-1.so.1", std::env::consts::ARCH)
}

impl Disk {
    fn mount(image: &Path, copy: PathBuf, readonly: bool) -> Result<Disk> {
        let mounted = copy.with_extension("mounted");
        fs::create_dir(&mounted).context("make a mount point")?;
        tool(Command::new("cp").arg("--sparse=always").arg(image).arg(&copy))?;
        let options = if readonly { "loop,ro" } else { "loop" };
        tool(Command::new("mount").args(["-t", "ext4", "-o", options]).arg(&copy).arg(&mounted))?;
        let mut disk = Disk { mounted, boot_links: Vec::new(), deployments: Vec::new() };
        disk.find_boot_links()?;
        Ok(disk)
    }

    fn find_boot_links(&mut self) -> Result<()> {
        let mut found: Vec<PathBuf> = ["boot.0", "boot.1"]
            .iter()
            .flat_map(|boot| children(&self.mounted.join("ostree").join(boot).join(STATEROOT)))
            .flat_map(|checksum| children(&checksum))
            .collect();
        found.sort();
        for link in found {
            let path = |path: &Path| {
                path.strip_prefix(&self.mounted).map(|path| path.display().to_string()).context("name a path")
            };
            let deployment = link.canonicalize().context(format!("follow {}", link.display()))?;
            self.deployments.push(path(&deployment)?);
            self.boot_links.push(format!("/{}", path(&link)?));
        }
        Ok(())
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

impl Recipe {
    /// Makes the image, with `ostree` of the reference. In a process of its own.
    pub fn carry_out(&self) -> Result<()> {
        let image = fs::File::create(&self.image).context(format!("make {}", self.image.display()))?;
        image.set_len(SIZE).context("size the image")?;
        tool(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&self.image))?;
        sandbox::initramfs(&self.base, &self.reference.join("usr"))?;
        let sysroot = self.base.join("sysroot");
        fs::create_dir(&sysroot).context("make /sysroot")?;
        tool(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&sysroot))?;
        sandbox::bind(Path::new("/dev/urandom"), &self.base.join("dev/urandom"), false)?;
        sandbox::pivot(&self.base)?;

        ostree(&["admin", "init-fs", "/sysroot"])?;
        let config = |key, value| ostree(&["config", "--repo=/sysroot/ostree/repo", "set", key, value]);
        config("sysroot.bootloader", "none")?;
        if self.kind.legacy_readonly {
            config("sysroot.readonly", "true")?;
        }
        ostree(&["admin", "os-init", STATEROOT, "--sysroot=/sysroot"])?;
        for version in 1..=self.kind.deployments {
            let tree = format!("/tmp/tree.{version}");
            plant(Path::new(&tree), version)?;
            let source = format!("--tree=dir={tree}");
            let commit =
                ["commit", "--repo=/sysroot/ostree/repo", "--branch=test", "--bootable", COMPOSEFS, &source];
            ostree(&commit)?;
            ostree(&["admin", "deploy", "--sysroot=/sysroot", "--os=debian", "test"])?;
        }
        let disk = self.found()?;
        link_slots(&disk)?;
        for deployment in &disk.deployments {
            self.furnish(&disk.mounted.join(deployment))?;
        }
        umount2("/sysroot", MntFlags::empty()).context("unmount the disk")
    }

    /// The disk with what `ostree` made.
    fn found(&self) -> Result<Disk> {
        let mut disk = Disk { mounted: "/sysroot".into(), boot_links: Vec::new(), deployments: Vec::new() };
        disk.find_boot_links()?;
        if disk.deployments.len() != self.kind.deployments {
            return Err(format!("ostree made the boot links {:?}", disk.boot_links));
        }
        Ok(disk)
    }

    /// Makes a deployment what [`Kind`] says.
    fn furnish(&self, deployment: &Path) -> Result<()> {
        let image = deployment.join(IMAGE);
        image.metadata().context("find the image that ostree made")?;
        if self.kind.image && !self.kind.hotfix {
            return Ok(());
        }
        // `ostree` protects deployments against changes, and `unlock --hotfix` leaves them unprotected.
        fs::File::open(deployment)
            .and_then(|folder| Ok(ioctl_setflags(&folder, ioctl_getflags(&folder)? - IFlags::IMMUTABLE)?))
            .context("make the deployment mutable")?;
        if !self.kind.image {
            fs::remove_file(&image).context("remove the image")?;
        }
        if self.kind.hotfix {
            plant_hotfix(deployment)?;
        }
        Ok(())
    }
}

/// The links of Android's slots, written as `aboot-deploy` does: relative, from `/ostree`.
fn link_slots(disk: &Disk) -> Result<()> {
    let (Some(first), Some(last)) = (disk.deployments.first(), disk.deployments.last()) else {
        return Err("ostree made no boot link".into());
    };
    for (slot, deployment) in [("root.a", first), ("root.b", last)] {
        let text = deployment.trim_start_matches("ostree/");
        symlink(text, Path::new("/sysroot/ostree").join(slot)).context(format!("link {slot}"))?;
    }
    Ok(())
}

/// What `ostree admin unlock --hotfix` leaves (it works on the booted deployment only), and what
/// somebody changed then: a file of the image, and one below `/usr/etc`.
fn plant_hotfix(deployment: &Path) -> Result<()> {
    let (upper, work) = (deployment.join(".usr-ovl-upper"), deployment.join(".usr-ovl-work"));
    for folder in [&upper, &work] {
        fs::create_dir(folder).context(format!("make {}", folder.display()))?;
    }
    // It mounts the layer at once, and the kernel leaves its mark on a layer that is new.
    let place = Path::new("/tmp/hotfix");
    fs::create_dir_all(place).context("make a mount point")?;
    let lower = deployment.join("usr");
    let layers = [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)];
    let options = layers.map(|(option, path)| format!("{option}={}", path.display())).join(",");
    mount(Some("overlay"), place, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .context("mount the hotfix")?;
    for (path, text) in [("lib/os-release", "ID=hotfix\n"), ("etc/hostname", "hotfix\n")] {
        fs::write(place.join(path), text).context(format!("write {path}"))?;
    }
    umount2(place, MntFlags::empty()).context("unmount the hotfix")
}

fn ostree(arguments: &[&str]) -> Result<()> {
    tool(Command::new("ostree").args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin"))
}

/// An operating system: just enough to be deployed, and what tells who mounts `/var` and `/boot` in it.
fn plant(tree: &Path, version: usize) -> Result<()> {
    for folder in ["boot", "sysroot", "var", "usr/bin", "usr/etc", MODULES] {
        fs::create_dir_all(tree.join(folder)).context(format!("make {folder}"))?;
    }
    symlink("sysroot/ostree", tree.join("ostree")).context("link ostree")?;
    let write = |path: &str, text: String| fs::write(tree.join(path), text).context(format!("write {path}"));
    write("usr/etc/hostname", format!("version-{version}\n"))?;
    // What a new /var begins with.
    let seed = "usr/share/factory/var/lib/seed";
    fs::create_dir_all(tree.join("usr/share/factory/var/lib")).context("make the factory's /var")?;
    write(seed, "seed\n".into())?;
    fs::set_permissions(tree.join(seed), Permissions::from_mode(0o640)).context(format!("protect {seed}"))?;
    write("usr/lib/os-release", format!("ID=debian\nVERSION_ID={version}\nPRETTY_NAME=Test\n"))?;
    write(&format!("{MODULES}/vmlinuz"), "kernel\n".into())?;
    write(&format!("{MODULES}/initramfs.img"), "initramfs\n".into())?;
    fs::create_dir_all(tree.join("usr/sbin")).context("make /usr/sbin")?;
    symlink("../lib/systemd/systemd", tree.join("usr/sbin/init")).context("link init")?;
    let library = library_name();
    let generator = Path::new("usr/lib/systemd/system-generators/ostree-system-generator");
    for path in [Path::new(&library), generator, Path::new("usr/lib/systemd/systemd")] {
        fs::create_dir_all(tree.join(path).parent().unwrap_or(tree)).context("make folders")?;
        fs::copy(Path::new("/").join(path), tree.join(path)).context(format!("copy {}", path.display()))?;
    }
    Ok(())
}
