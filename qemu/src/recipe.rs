//! Everything a disk is made from.

use crate::base::Base;
use crate::cache::Key;
use crate::generator::Generator;
use crate::kernel::Kernel;
use crate::layout;
use crate::machine::{Arch, Firmware};
use crate::product::Program;
use crate::releases::Release;
use crate::seal;
use crate::storage::{Filesystem, Storage};
use crate::suite::Suite;
use crate::workbench;
use anyhow::Result;
use std::path::Path;

/// The init that says when it was started; part of the key of a disk.
const STOPWATCH: &str = include_str!("bin/prepare-root-stopwatch.rs");

/// A file that a recipe adds.
pub type File = (&'static str, &'static str);

/// What the deployment has of composefs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Nothing: its directory becomes the root.
    None,
    /// The image that `ostree admin deploy` writes where there is no fs-verity.
    Plain,
    /// An image with the digests of all files in it, which is the one that the commit names; the
    /// commit is signed; image and files are sealed with fs-verity.
    Signed,
}

/// What an attacker, or a bad disk, did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The newest deployment has lost its `/usr`.
    NoUsr,
    /// The image of the newest deployment ends too early.
    TruncatedImage,
    /// One file's object has other contents, and no fs-verity.
    File,
    /// Another image, sealed as well, in place of the commit's.
    OtherImage,
    /// The same image, but not sealed.
    UnsealedImage,
    /// The commit's signatures are gone.
    NoSignature,
    /// The root's file system cannot be recognised: its magic number is gone.
    Superblock,
    /// An encrypted volume in place of the root's file system.
    Encrypted,
}

/// How our files come into a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By `make install`; the scenario's own script makes the initramfs.
    Files,
    /// By installing the Debian package, whose trigger makes the initramfs.
    Package,
    /// With Garden Linux's feature, whose scripts make tree, initramfs and disk.
    GardenLinux,
}

/// What a disk with a deployed Debian is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The Debian release.
    pub suite: Suite,
    /// The processor it is for.
    pub arch: Arch,
    /// What makes its initramfs.
    pub generator: Generator,
    /// Packages it has besides those that every system here has.
    pub packages: &'static [&'static str],
    /// How our files come into it.
    pub delivery: Delivery,
    /// How the disk is laid out.
    pub storage: Storage,
    /// The kernel it boots.
    pub kernel: Kernel,
    /// Whose `ostree-prepare-root` is in the initramfs.
    pub program: Program,
    /// Contents of `/etc/ostree/prepare-root.conf`, if there is to be one.
    pub config: Option<&'static str>,
    /// Kernel arguments that the deployment is made with.
    pub kargs: Vec<String>,
    /// Whether `/var` is that of a machine that has booted before, instead of empty.
    pub used_var: bool,
    /// Files removed from the tree.
    pub remove: &'static [&'static str],
    /// Files added to the tree.
    pub files: &'static [File],
    /// Links that the tree has in place of directories, with where they lead.
    pub links: &'static [(&'static str, &'static str)],
    /// What it has of composefs.
    pub image: Image,
    /// Whether `/usr` has the writable layer of `ostree admin unlock --hotfix`.
    pub hotfix: bool,
    /// Whether there is a newer deployment as well, with the same kernel and another witness.
    pub newer: bool,
    /// Whether it is an ordinary Debian, and OSTree has no part in it.
    pub plain: bool,
    /// What was done to the finished disk.
    pub damage: Option<Damage>,
    /// What cloud-init finds on a second disk, its user-data.
    pub seed: Option<&'static str>,
    /// The modules that `prepare-root-mkinitrd` is asked for, if not its own choice.
    pub modules: Option<&'static str>,
    /// An update that waits in a repository on the disk, with another witness: its configuration.
    pub update: Option<&'static str>,
    /// The releases that a web server has for it.
    pub releases: &'static [Release],
    /// Whether its init is only a program that says when it was started.
    pub stopwatch: bool,
}

impl Image {
    /// Its name in `tree/disk.sh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Plain => "plain",
            Self::Signed => "signed",
        }
    }
}

impl Delivery {
    /// Its name in a key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Package => "package",
            Self::GardenLinux => "garden-linux",
        }
    }
}

impl Damage {
    /// Its name in `tree/damage.sh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoUsr => "no-usr",
            Self::TruncatedImage => "truncated-image",
            Self::File => "file",
            Self::OtherImage => "other-image",
            Self::UnsealedImage => "unsealed-image",
            Self::NoSignature => "no-signature",
            Self::Superblock => "superblock",
            Self::Encrypted => "encrypted",
        }
    }
}

/// What every boot needs: the disk, an answer on the console, an end after a panic.
fn kargs(arch: Arch) -> Vec<String> {
    let console = format!("console={}", arch.console());
    ["root=LABEL=prepare-root", "rw", &console, "panic=-1"].map(str::to_owned).to_vec()
}

impl Recipe {
    /// The default system of a suite, with our program.
    pub fn new(suite: Suite) -> Self {
        Self {
            suite,
            arch: Arch::Amd64,
            generator: Generator::Dracut,
            packages: &[],
            delivery: Delivery::Files,
            storage: Storage::PLAIN,
            kernel: Kernel::Suite,
            program: Program::Ours,
            config: None,
            kargs: kargs(Arch::Amd64),
            used_var: false,
            remove: &[],
            files: &[],
            links: &[],
            image: Image::None,
            hotfix: false,
            newer: false,
            plain: false,
            damage: None,
            seed: None,
            modules: None,
            update: None,
            releases: &[],
            stopwatch: false,
        }
    }

    /// With a `prepare-root.conf`.
    pub fn config(self, config: &'static str) -> Self {
        Self { config: Some(config), ..self }
    }

    /// With one kernel argument in place of another.
    pub fn replace_karg(mut self, old: &str, new: &str) -> Self {
        self.kargs.iter_mut().filter(|karg| *karg == old).for_each(|karg| new.clone_into(karg));
        self
    }

    /// For another processor.
    pub fn arch(self, arch: Arch) -> Self {
        let console = |arch: Arch| format!("console={}", arch.console());
        let old = console(self.arch);
        Self { arch, ..self }.replace_karg(&old, &console(arch))
    }

    /// With another maker of its initramfs. Where there is none, nobody but the kernel finds the root.
    pub fn generator(self, generator: Generator) -> Self {
        let recipe = Self { generator, ..self };
        match generator {
            Generator::None => recipe.root("/dev/nvme0n1").karg("rootwait"),
            _ => recipe,
        }
    }

    /// With the root found by this.
    pub fn root(mut self, device: &str) -> Self {
        self.kargs.retain(|karg| !karg.starts_with("root="));
        self.kargs.insert(0, format!("root={device}"));
        self
    }

    /// With an initramfs of these modules.
    pub fn modules(self, modules: &'static str) -> Self {
        Self { modules: Some(modules), ..self }
    }

    /// With an update that has this configuration.
    pub fn update(self, config: &'static str) -> Self {
        Self { update: Some(config), ..self }
    }

    /// With newer releases, that a web server can have.
    pub fn releases(self, releases: &'static [Release]) -> Self {
        Self { releases, ..self }
    }

    /// With the stopwatch for an init.
    pub fn stopwatch(self) -> Self {
        Self { stopwatch: true, ..self }
    }

    /// With user-data for cloud-init on a second disk.
    pub fn seed(self, seed: &'static str) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// With our files from the Debian package.
    pub fn delivery(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// With one more kernel argument.
    pub fn karg(mut self, karg: &str) -> Self {
        self.kargs.push(karg.to_owned());
        self
    }

    /// With packages besides those that every system here has.
    pub fn packages(self, packages: &'static [&'static str]) -> Self {
        Self { packages, ..self }
    }

    /// With another layout of the disk.
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// With the `/var` of a machine that has booted before.
    pub fn used_var(self) -> Self {
        Self { used_var: true, ..self }
    }

    /// Without some files of the tree.
    pub fn remove(self, remove: &'static [&'static str]) -> Self {
        Self { remove, ..self }
    }

    /// With files added to the tree.
    pub fn files(self, files: &'static [File]) -> Self {
        Self { files, ..self }
    }

    /// With links in place of directories.
    pub fn links(self, links: &'static [(&'static str, &'static str)]) -> Self {
        Self { links, ..self }
    }

    /// With another kernel than the suite's.
    pub fn kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// With a composefs image.
    pub fn image(self, image: Image) -> Self {
        Self { image, ..self }
    }

    /// With a writable layer over `/usr`.
    pub fn hotfix(self) -> Self {
        Self { hotfix: true, ..self }
    }

    /// With a newer deployment of the same kernel.
    pub fn newer(self) -> Self {
        Self { newer: true, ..self }
    }

    /// As an ordinary Debian, without OSTree.
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// With something done to the finished disk.
    pub fn damage(self, damage: Damage) -> Self {
        Self { damage: Some(damage), ..self }
    }

    /// The plain Debian it is made from.
    pub fn base(&self) -> Base {
        Base::new(self.suite, self.arch, self.generator, self.packages)
    }

    /// Whether its files are to be sealed.
    pub fn is_sealed(&self) -> bool {
        self.image == Image::Signed && self.storage.filesystem.has_verity()
    }

    /// Whether making its disk takes a guest with a whole system.
    pub fn needs_workbench(&self) -> bool {
        let sealed_with_module = self.is_sealed() && self.storage.filesystem != Filesystem::Ext4;
        self.storage.container.is_some() || sealed_with_module
    }

    /// Whether the same disk serves both, before it is damaged.
    pub fn same_disk(&self, other: &Self) -> bool {
        Self { damage: None, ..self.clone() } == Self { damage: None, ..other.clone() }
    }

    /// What starts the kernel: what is on the disk, if there is a boot loader.
    pub fn firmware(&self) -> Firmware {
        self.storage.loader().map_or(Firmware::None, |_| Firmware::Uefi)
    }

    /// The name in the cache of the finished disk, before it is damaged. `ours` are the directories with
    /// our files.
    pub fn disk_name(&self, base: &str, ours: &[&Path]) -> Result<String> {
        let mut key = Key::new("disk").with("base", base).with("program", self.program.name());
        for directory in ours {
            key = key.with_files(directory)?;
        }
        key = key.with("config", self.config.unwrap_or("none")).with("generator", self.generator.name());
        key = key.with("used-var", [u8::from(self.used_var)]).with("hotfix", [u8::from(self.hotfix)]);
        key = key.with("newer", [u8::from(self.newer)]).with("plain", [u8::from(self.plain)]);
        key = key.with("image", self.image.name()).with("kernel", self.kernel.name());
        for karg in &self.kargs {
            key = key.with("karg", karg);
        }
        key = key.with("delivery", self.delivery.name()).with("seed", self.seed.unwrap_or("none"));
        key = key.with("modules", self.modules.unwrap_or("default"));
        key = key.with("update", self.update.unwrap_or("none"));
        for release in self.releases {
            key = release.add_to(self, key);
        }
        for (name, value) in self.storage.variables() {
            key = key.with(name, value);
        }
        for path in self.remove {
            key = key.with("remove", path);
        }
        for (path, target) in self.links {
            key = key.with("link", path).with("target", target);
        }
        for (path, text) in self.files {
            key = key.with("file", path).with("contents", text);
        }
        for (path, text) in layout::GUEST_FILES {
            key = key.with(path, text);
        }
        // What Rust does between the scripts.
        for text in [include_str!("disk.rs"), include_str!("layout.rs")] {
            key = key.with("step", text);
        }
        for script in layout::SCRIPTS {
            key = key.with("script", script);
        }
        if self.image == Image::Signed {
            key = key.with("seal", seal::SOURCE);
        }
        if self.stopwatch {
            key = key.with("stopwatch", STOPWATCH);
        }
        if let Some(container) = self.storage.container {
            key = key.with("container", container.task());
        }
        if self.needs_workbench() {
            key = key.with("workbench", workbench::SCRIPT);
        }
        Ok(format!("disk-{}-{}", self.suite, key.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_the_one_of_the_processor() {
        let consoles = |recipe: Recipe| recipe.kargs.into_iter().filter(|karg| karg.starts_with("console="));
        let amd64 = Recipe::new(Suite::Trixie);
        assert!(consoles(amd64.clone()).eq(["console=ttyS0"]));
        assert!(consoles(amd64.arch(Arch::Arm64)).eq(["console=ttyAMA0"]));
    }

    #[test]
    fn there_is_one_root() {
        let roots = |recipe: Recipe| recipe.kargs.into_iter().filter(|karg| karg.starts_with("root="));
        let recipe = Recipe::new(Suite::Trixie);
        assert!(roots(recipe.clone()).eq(["root=LABEL=prepare-root"]));
        assert!(roots(recipe.clone().generator(Generator::None)).eq(["root=/dev/nvme0n1"]));
        assert!(roots(recipe.root("/dev/vda").root("LABEL=x")).eq(["root=LABEL=x"]));
    }
}
