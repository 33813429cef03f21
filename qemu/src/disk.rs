//! Disks with a deployed Debian: built when there is none for the recipe yet.

use crate::accel::Accel;
use crate::base::Base;
use crate::cache::{Cache, Workplace};
use crate::entry::Entry;
use crate::foreign;
use crate::generator::Generator;
use crate::guest_program;
use crate::layout;
use crate::machine::{Arch, Firmware};
use crate::product::{Product, Program};
use crate::progress::Progress;
use crate::recipe::{Delivery, Image, Recipe};
use crate::releases;
use crate::script;
use crate::seal;
use crate::storage::{Container, Storage};
use crate::suite::Suite;
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A finished disk.
pub struct Disk {
    /// The processor it is for.
    pub arch: Arch,
    /// What starts the kernel on it.
    pub firmware: Firmware,
    /// The directory with the disk image and the copy of its `/boot`.
    dir: PathBuf,
    /// Keeps the directory.
    _place: Place,
}

/// What a boot loader may write: it counts boots, and takes orders for one boot.
pub struct BootLoader {
    /// Where on the disk the EFI system partition begins, in bytes.
    at: u64,
    esp: Vec<u8>,
    variables: Option<Vec<u8>>,
}

/// What keeps a disk where it is.
enum Place {
    /// Nobody removes it from the cache meanwhile.
    Cache(#[expect(dead_code, reason = "it is the lock that counts")] File),
    /// It goes with the value.
    Own(#[expect(dead_code, reason = "it is the directory that counts")] Workplace),
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

    /// The disk with user-data for cloud-init, if there is one.
    pub fn seed(&self) -> Option<PathBuf> {
        Some(self.dir.join("seed.img")).filter(|seed| seed.exists())
    }

    /// The variables of a machine that has UEFI, which it keeps from one boot to the next.
    pub fn variables(&self) -> PathBuf {
        self.dir.join("uefi-variables.fd")
    }

    /// The repositories of releases newer than what is on the disk, by name.
    pub fn releases(&self) -> PathBuf {
        self.dir.join("releases")
    }

    /// Where what is written to it can be recorded.
    pub fn write_log(&self) -> PathBuf {
        self.dir.join("writes.log")
    }

    /// A copy of the disk alone, as it is now.
    pub fn copy(&self, cache: &Cache, logs: &Path) -> Result<Self> {
        let place = cache.workplace()?;
        let copy = Self {
            arch: self.arch,
            firmware: self.firmware,
            dir: place.join("disk"),
            _place: Place::Own(place),
        };
        fs::create_dir(&copy.dir).context("create a directory for a copy of the disk")?;
        let mut command = Command::new("cp");
        command.args(["--sparse=always", "--reflink=auto"]).args([self.image(), copy.image()]);
        script::run(&mut command, &logs.join("copy-disk.log"))?;
        Ok(copy)
    }

    /// Where on the disk the partition of this name is, in bytes.
    pub fn partition(&self, name: &str) -> Result<Range<u64>> {
        let image = self.image();
        let find = || -> Result<Range<u64>> {
            let output = Command::new("sfdisk").arg("--json").arg(&image).output().context("start sfdisk")?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
            let table: Value = serde_json::from_slice(&output.stdout).context("read what sfdisk says")?;
            let table = &table["partitiontable"];
            let partitions = table["partitions"].as_array().context("there is none")?;
            let found = partitions.iter().find(|partition| partition["name"] == name);
            let found = found.context("there is none of this name")?;
            let number = |value: &Value| value.as_u64().context("a number is missing");
            let (start, size) = (number(&found["start"])?, number(&found["size"])?);
            let sector = number(&table["sectorsize"])?;
            Ok(start * sector..(start + size) * sector)
        };
        find().with_context(|| format!("find the partition {name} of {}", image.display()))
    }

    /// What a boot loader may write before the system runs, as it is now.
    pub fn boot_loader(&self) -> Result<BootLoader> {
        let place = self.partition("esp")?;
        let mut esp = vec![0; usize::try_from(place.end - place.start)?];
        let read = File::open(self.image()).and_then(|image| image.read_exact_at(&mut esp, place.start));
        read.context("read the EFI system partition")?;
        let variables = self.variables();
        let variables = variables.exists().then(|| fs::read(variables)).transpose();
        Ok(BootLoader {
            at: place.start,
            esp,
            variables: variables.context("read the firmware's variables")?,
        })
    }

    /// Undoes what the boot loader wrote.
    pub fn restore(&self, before: &BootLoader) -> Result<()> {
        let image = OpenOptions::new().write(true).open(self.image());
        let written = image.and_then(|image| image.write_all_at(&before.esp, before.at));
        written.context("restore the EFI system partition")?;
        let variables = self.variables();
        match &before.variables {
            Some(bytes) => fs::write(variables, bytes),
            None => fs::remove_file(variables),
        }
        .context("restore the firmware's variables")
    }

    /// What a boot could change on the disk, as text: see `tree/listing.sh`.
    pub fn listing(&self, logs: &Path) -> Result<String> {
        let log = logs.join("listing.txt");
        script::run(
            &mut script::in_mount_namespace(LISTING, [self.image(), self.dir.join("mounted")]),
            &log,
        )?;
        fs::read_to_string(&log).context("read the listing")
    }

    /// Copies the disk's `/boot` again, as a boot loader reads it each time. The root is ext4 on the whole disk.
    pub fn read_boot(&self, logs: &Path) -> Result<()> {
        let paths = [self.image(), self.dir.join("mounted"), self.boot()];
        script::run(&mut script::in_mount_namespace(READ_BOOT, paths), &logs.join("read-boot.log"))
    }
}

const DAMAGE: &str = include_str!("../tree/damage.sh");
const LISTING: &str = include_str!("../tree/listing.sh");
const READ_BOOT: &str = include_str!("../tree/read-boot.sh");

/// The init that says when it was started.
const STOPWATCH: &str = "prepare-root-stopwatch";

/// Garden Linux's feature, in the workspace.
const FEATURE: &str = "garden-linux/features/_ostree";

/// How much larger a disk becomes that is to be grown into.
const GROWTH: u64 = 1 << 30;

/// Gives disks for recipes.
pub struct Builder<'a> {
    /// Where finished pieces are.
    pub cache: &'a Cache,
    /// Our files, unless only libostree's program is booted.
    pub product: Option<&'a Product>,
    /// Where steps are announced.
    pub progress: &'a Progress,
    /// Who runs the guest that seals.
    pub accel: Accel,
    /// The workspace.
    pub workspace: &'a Path,
}

impl Builder<'_> {
    /// Finds or builds the disk of a recipe.
    ///
    /// With `private`, or when the recipe damages it, it is a copy that may be changed.
    pub fn disk(&self, recipe: &Recipe, private: bool, logs: &Path) -> Result<Disk> {
        let (dir, held) = self.sound(recipe, logs)?;
        let (arch, firmware) = (recipe.arch, recipe.firmware());
        if !private && recipe.damage.is_none() {
            return Ok(Disk { arch, firmware, dir, _place: Place::Cache(held) });
        }
        let place = self.cache.workplace()?;
        let copy = place.join("disk");
        let mut command = Command::new("cp");
        command.args(["-a", "--sparse=always", "--reflink=auto"]).arg(&dir).arg(&copy);
        script::run(&mut command, &logs.join("copy-disk.log"))?;
        if let Some(damage) = recipe.damage {
            let mut command = script::in_mount_namespace(DAMAGE, [copy.join("disk.img")]);
            command.arg(damage.name());
            script::run(&mut command, &logs.join("damage.log"))?;
        }
        Ok(Disk { arch, firmware, dir: copy, _place: Place::Own(place) })
    }

    /// Finds or builds a disk that nothing was done to yet. It stays for as long as the file is open.
    fn sound(&self, recipe: &Recipe, logs: &Path) -> Result<(PathBuf, File)> {
        let product = match recipe.program {
            Program::Ours => {
                let product = self.product.context("our program was not built")?;
                Some(match recipe.delivery {
                    Delivery::Files | Delivery::GardenLinux => product.files(recipe.arch, self.progress)?,
                    Delivery::Package => product.package(recipe.arch, self.progress)?,
                })
            }
            Program::Libostree => None,
        };
        let bases = [Some(recipe.base()), foreign_tools(recipe)].into_iter().flatten();
        let bases: Vec<_> = bases.map(|base| base.name()).collect();
        let feature = (recipe.delivery == Delivery::GardenLinux).then(|| self.workspace.join(FEATURE));
        let ours: Vec<_> = product.iter().chain(&feature).map(PathBuf::as_path).collect();
        let name = recipe.disk_name(&bases.join(" "), &ours)?;
        self.make(recipe, product.as_deref(), &name, logs)?;
        Ok((self.cache.piece(&name), self.cache.hold(&name)?))
    }

    /// Builds the disk of this name, unless it is there.
    fn make(&self, recipe: &Recipe, product: Option<&Path>, name: &str, logs: &Path) -> Result<()> {
        let _turn = self.cache.turn(name)?;
        let dir = self.cache.piece(name);
        if dir.exists() {
            return fs::write(dir.join("used"), "").context("note that the disk is used");
        }
        let place = self.cache.workplace()?;
        let made = place.join("disk");
        fs::create_dir(&made)?;
        self.build(recipe, product, &place, &made, logs)?;
        fs::write(made.join("used"), "")?;
        self.cache.publish(&made, name)?;
        self.cache.remove_old_disks()
    }

    /// Builds the disk of a recipe in the directory `made`.
    fn build(
        &self,
        recipe: &Recipe,
        product: Option<&Path>,
        place: &Workplace,
        made: &Path,
        logs: &Path,
    ) -> Result<()> {
        let suite = recipe.suite;
        let label = recipe.base().label();
        let step = |what: &str| format!("{label}: {what}");
        let kernel = recipe.kernel.package(recipe.arch, self.cache, self.progress, logs)?;
        let tree = place.join("tree");
        recipe.base().unpack(&tree, self.cache, self.progress, logs)?;
        if recipe.delivery == Delivery::GardenLinux {
            return self.build_garden_linux(recipe, product, &tree, place, made, logs);
        }
        if let (Delivery::Package, Some(folder)) = (recipe.delivery, product) {
            let install = || layout::install_package(&tree, recipe, folder, logs);
            self.progress.step(&step("installing our Debian package"), install)?;
        }
        layout::adapt(&tree, recipe, kernel.as_deref(), product, logs)?;
        let key = place.join("key.pem");
        let mut sealer = None;
        if recipe.image == Image::Signed {
            let mut command = Command::new("sh");
            command.args(["-c", layout::SIGNING_KEY, "sh"]).args([&key, &tree.join(layout::KEYS)]);
            script::run(&mut command, &logs.join("key.log"))?;
            sealer = Some(guest_program::build(seal::PROGRAM, recipe.arch, self.workspace, logs)?);
        }
        let update = recipe.update.map(|config| (config, place.join("update")));
        if let Some((config, update)) = &update {
            let making = step(&format!("making the update's initramfs ({})", recipe.generator));
            self.progress.step(&making, || layout::update(&tree, recipe, config, update, logs))?;
        }
        // The package made it.
        if recipe.delivery == Delivery::Files {
            let making = step(&format!("making the initramfs ({})", recipe.generator));
            self.progress.step(&making, || layout::initramfs(&tree, recipe, logs))?;
        }
        let bench = recipe
            .needs_workbench()
            .then(|| Workbench::new(&tree, place.join("workbench.img"), recipe.arch, self.accel, logs));
        let bench = bench.transpose()?;
        let tools = match foreign_tools(recipe) {
            Some(base) => {
                let tools = place.join("tools");
                base.unpack(&tools, self.cache, self.progress, logs)?;
                tools
            }
            None => tree.clone(),
        };
        if recipe.stopwatch {
            let program = guest_program::build(STOPWATCH, recipe.arch, self.workspace, logs)?;
            layout::set_stopwatch(&tree, &program)?;
        }
        let (parts, boot) = (place.join("parts"), made.join("boot"));
        let root = parts.join("root.img");
        fs::create_dir(&parts)?;
        if recipe.plain {
            let mut command = Command::new("sh");
            command.args(["-c", layout::PLAIN, "sh"]).args([&tree, &parts, &boot]).args(&recipe.kargs);
            script::run(&mut command, &logs.join("disk.log"))?;
            return assemble(recipe.storage, &parts, &made.join("disk.img"), logs);
        }
        self.progress.step(&step("committing and deploying (ostree)"), || {
            let mut command = script::in_mount_namespace(layout::DISK, [&tree, &tools, &parts, &boot]);
            command.arg(format!("debian/{suite}")).args(&recipe.kargs);
            command.envs(recipe.storage.variables());
            command.env("VAR", if recipe.used_var { "used" } else { "new" });
            command.env("HOTFIX", if recipe.hotfix { "yes" } else { "no" });
            command.env("IMAGE", recipe.image.name());
            command.env("NEWER", if recipe.newer { "yes" } else { "no" });
            command.envs(update.iter().map(|(_, update)| ("UPDATE", update)));
            command.env("KEY", &key).envs(sealer.iter().map(|sealer| ("SEAL", sealer)));
            script::run(&mut foreign::runs(recipe.arch, command), &logs.join("disk.log"))
        })?;
        if recipe.is_sealed() {
            let seal = || match &bench {
                Some(bench) => {
                    let task = format!("seal {}", recipe.storage.filesystem.mount_options());
                    bench.run(&task, seal::DONE, &[&root], &Entry::read(&boot)?.kernel, logs)
                }
                None => seal::run(&root, &boot, recipe.arch, self.accel, logs),
            };
            self.progress.step(&step("sealing (fs-verity, in a guest)"), seal)?;
        }
        if let (Some(container), Some(bench)) = (recipe.storage.container, &bench) {
            let inner = parts.join("inner.img");
            fs::rename(&root, &inner).context("rename the root's file system")?;
            fs::File::create(&root)?.set_len(fs::metadata(&inner)?.len() + Container::OVERHEAD)?;
            let (disks, kernel) = ([&*root, &*inner], Entry::read(&boot)?.kernel);
            let wrap = || bench.run(&container.task(), "workbench: done", &disks, &kernel, logs);
            self.progress.step(&step("copying the root into its container (in a guest)"), wrap)?;
        }
        if !recipe.releases.is_empty() {
            let place = releases::Place {
                cache: self.cache,
                progress: self.progress,
                trees: place.join("releases"),
                tools: &tools,
                product,
                kernel: kernel.as_deref(),
                logs,
            };
            releases::make(recipe, &root, &made.join("releases"), &place)?;
        }
        if let Some(loader) = recipe.storage.loader() {
            let mut command = Command::new("sh");
            command.args(["-c", layout::ESP, "sh"]).args([&tree, &boot, &parts.join("esp.img")]);
            script::run(command.arg(loader.name()), &logs.join("esp.log"))?;
        }
        if let Some(user_data) = recipe.seed {
            let mut command = Command::new("sh");
            command.args(["-c", layout::SEED, "sh"]).arg(made.join("seed.img")).arg(user_data);
            script::run(&mut command, &logs.join("seed.log"))?;
        }
        let disk = made.join("disk.img");
        assemble(recipe.storage, &parts, &disk, logs)?;
        if recipe.storage.enlarged {
            let disk = OpenOptions::new().write(true).open(&disk)?;
            disk.set_len(disk.metadata()?.len() + GROWTH).context("enlarge the disk")?;
        }
        Ok(())
    }

    /// Builds a disk as Garden Linux does.
    fn build_garden_linux(
        &self,
        recipe: &Recipe,
        product: Option<&Path>,
        tree: &Path,
        place: &Workplace,
        made: &Path,
        logs: &Path,
    ) -> Result<()> {
        layout::add_files(tree, recipe, product, logs)?;
        let work = place.join("work");
        fs::create_dir(&work)?;
        self.progress.step(&format!("{}: running Garden Linux's scripts", recipe.suite), || {
            let paths = [tree, &self.workspace.join(FEATURE), &work, &made.join("disk.img")];
            let mut command = script::in_mount_namespace(layout::GARDEN_LINUX, paths);
            script::run(&mut command, &logs.join("garden-linux.log"))
        })
    }

    /// Unpacks the plain Debian tree of a recipe, for as long as the workplace lives.
    pub fn tree(&self, recipe: &Recipe, logs: &Path) -> Result<(Workplace, PathBuf)> {
        let place = self.cache.workplace()?;
        let tree = place.join("tree");
        recipe.base().unpack(&tree, self.cache, self.progress, logs)?;
        Ok((place, tree))
    }
}

/// Makes the disk of the file systems in `parts`.
fn assemble(storage: Storage, parts: &Path, disk: &Path, logs: &Path) -> Result<()> {
    if storage.partitions.is_empty() {
        return fs::rename(parts.join("root.img"), disk).context("rename the root's file system");
    }
    let mut command = Command::new("sh");
    command.args(["-c", layout::ASSEMBLE, "sh"]).args([disk, parts]);
    command.args(storage.partitions.iter().map(|partition| partition.name())).envs(storage.variables());
    script::run(&mut command, &logs.join("assemble.log"))
}

/// The tree whose ostree makes the disk, if the recipe's own cannot make images.
fn foreign_tools(recipe: &Recipe) -> Option<Base> {
    let suite = match recipe.suite {
        Suite::Trixie if recipe.image != Image::None => Suite::Forky,
        suite => suite,
    };
    (suite != recipe.suite || foreign::is_foreign(recipe.arch))
        .then(|| Base::new(suite, Arch::Amd64, Generator::Dracut, &[]))
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
