//! The boot matrix: which systems must boot, in which ways. A cell is a scenario with a place in the table.

use crate::console::Exchange;
use crate::expect::Expect::{self, *};
use crate::generator::Generator;
use crate::kernel::Kernel;
use crate::layout::CONFIG;
use crate::machine::{Arch, Bus, Machine};
use crate::recipe::{Delivery, File, Image, Recipe};
use crate::scenario::{self, Boots, EMERGENCY, Scenario};
use crate::solo;
use crate::storage::{self, Container, Filesystem, Storage};
use crate::suite::Suite::{self, Forky, Trixie};
use crate::uefi;
use anyhow::{Result, ensure};

/// What the deployment is made of, and what of it lasts: the columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The deployment's directory becomes the root.
    Bind,
    /// The same with `sysroot.readonly`.
    Readonly,
    /// A composefs image without digests.
    Composefs,
    /// An image with digests, all files sealed.
    Verity,
    /// The same, and the commit is signed.
    Signed,
    /// An image below a root, an `/etc` and a `/var` that last until the next boot.
    Transient,
}

/// A place in the table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The system.
    pub row: String,
    /// The way.
    pub mode: Mode,
    /// Whether the kernel or the file system cannot do this. The scenario then proves just that.
    pub impossible: bool,
}

/// Wants the disk read-only.
pub const READONLY_CONFIG: &str = "[sysroot]\nreadonly = true\n";
/// Wants an image.
pub const COMPOSEFS_CONFIG: &str = "[composefs]\nenabled = yes\n";
/// Wants the files of the image verified.
pub const VERITY_CONFIG: &str = "[composefs]\nenabled = verity\n";
/// Wants the image signed.
pub const SIGNED_CONFIG: &str = "[composefs]\nenabled = signed\n";
/// Wants an image, and everything that is written to in memory.
pub const TRANSIENT_CONFIG: &str = "[composefs]\nenabled = yes\n\
    [root]\ntransient = true\n[etc]\ntransient = true\n[var]\ntransient = true\n";

const TRIXIE_UNITS: &[Expect] = &[
    Generated("var.mount"),
    MountedBySystemd("var.mount"),
    NotGenerated("boot.mount"),
    FoundMounted("boot.mount"),
];

const FORKY_UNITS: &[Expect] = &[
    Generated("var.mount"),
    MountedBySystemd("var.mount"),
    Generated("boot.mount"),
    MountedBySystemd("boot.mount"),
];

/// Whoever wants it.
pub const READONLY: &[Expect] = &[NotWritable("/sysroot"), MountedReadOnly("/sysroot"), NotWritable("/")];

const TRANSIENT: &[Expect] = &[
    BootedTrue("root.transient"),
    Writable("/"),
    MountedKind("/etc", "overlay"),
    MountedKind("/var", "tmpfs"),
    Mode("/", "755"),
    Mode("/etc", "755"),
    Mode("/var", "755"),
];

/// What two boots of a transient system must show.
const FORGOTTEN: &[Expect] = &[Forgotten("/"), Forgotten("/etc"), Forgotten("/var"), DiskUntouched];

impl Mode {
    /// All, in the order of the columns.
    pub const ALL: [Self; 6] =
        [Self::Bind, Self::Readonly, Self::Composefs, Self::Verity, Self::Signed, Self::Transient];

    /// Its name in scenarios and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Readonly => "readonly",
            Self::Composefs => "composefs",
            Self::Verity => "verity",
            Self::Signed => "signed",
            Self::Transient => "transient",
        }
    }

    /// The recipe with the image this needs: one disk serves two modes.
    fn recipe(self, recipe: Recipe) -> Recipe {
        match self {
            Self::Bind | Self::Readonly => recipe,
            Self::Composefs | Self::Transient => recipe.image(Image::Plain).config(COMPOSEFS_CONFIG),
            Self::Verity | Self::Signed => recipe.image(Image::Signed).config(SIGNED_CONFIG),
        }
    }

    /// The configuration, where it is not the disk's.
    fn archive(self) -> &'static [File] {
        match self {
            Self::Bind | Self::Composefs | Self::Signed => &[],
            Self::Readonly => &[(CONFIG, READONLY_CONFIG)],
            Self::Verity => &[(CONFIG, VERITY_CONFIG)],
            Self::Transient => &[(CONFIG, TRANSIENT_CONFIG)],
        }
    }

    /// What a boot must show.
    fn expect(self, recipe: &Recipe) -> Vec<&'static [Expect]> {
        let image = |more: &[&'static [Expect]]| [&[scenario::COMPOSEFS], more].concat();
        let fixed = [scenario::READONLY_ROOT, scenario::READABLE];
        let [root, contents] = fixed;
        let mut lists = match self {
            Self::Bind => vec![scenario::HEALTHY, units(recipe.suite), &[Writable("/sysroot")]],
            Self::Readonly => vec![scenario::HEALTHY, units(recipe.suite), READONLY],
            Self::Composefs => image(&fixed),
            Self::Verity => image(&[root, contents, scenario::VERITY, &[BootedWithout("composefs.signed")]]),
            Self::Signed => image(&[root, contents, scenario::VERITY, scenario::SIGNED]),
            Self::Transient => image(&[contents, TRANSIENT]),
        };
        if recipe.generator.has_systemd() {
            lists.push(scenario::ANNOUNCED);
        }
        lists.extend([scenario::OURS, scenario::WRITABLE]);
        lists
    }

    /// The scenario `name` of this recipe in this way.
    pub fn scenario(self, name: &str, about: &str, recipe: Recipe) -> Scenario {
        let recipe = self.recipe(recipe);
        let expect = self.expect(&recipe);
        Scenario { archive: self.archive(), ..Scenario::new(name, about, recipe, expect) }
    }

    /// Its place in a row.
    pub fn of(self, row: &str) -> Cell {
        Cell { row: row.to_owned(), mode: self, impossible: false }
    }
}

fn units(suite: Suite) -> &'static [Expect] {
    match suite {
        Trixie => TRIXIE_UNITS,
        Forky => FORKY_UNITS,
    }
}

/// Those of {suites} x {generators of others} x {modes} that `make test` boots: every suite, generator and mode, and
/// the pairs that are most used.
const CORE: [&str; 9] = [
    "trixie-dracut-bind",
    "trixie-dracut-signed",
    "trixie-dracut-shell-readonly",
    "trixie-initramfs-tools-bind",
    "trixie-initramfs-tools-verity",
    "forky-dracut-bind",
    "forky-dracut-transient",
    "forky-dracut-shell-composefs",
    "forky-initramfs-tools-composefs",
];

/// All cells.
pub fn cells() -> Vec<Scenario> {
    let mut cells = product();
    cells.extend(solo::cells());
    cells.extend(variants());
    cells.extend(uefi::cells());
    cells
}

/// The cells that have one of these texts in the name of the scenario or of a row; all if there is no text.
pub fn select(texts: &[String]) -> Result<Vec<Scenario>> {
    let has = |name: &str, text: &str| name.to_lowercase().contains(&text.to_lowercase());
    let is_meant = |scenario: &Scenario, text: &str| {
        has(&scenario.name, text) || scenario.cells.iter().any(|cell| has(&cell.row, text))
    };
    let mut cells = cells();
    for text in texts {
        ensure!(cells.iter().any(|cell| is_meant(cell, text)), "no cell has '{text}' in its name or its row");
    }
    cells.retain(|cell| texts.is_empty() || texts.iter().any(|text| is_meant(cell, text)));
    Ok(cells)
}

/// Every suite with every generator of others in every mode.
fn product() -> Vec<Scenario> {
    let mut cells = Vec::new();
    for suite in [Trixie, Forky] {
        for generator in Generator::OTHERS {
            for mode in Mode::ALL {
                let name = format!("{suite}-{generator}-{}", mode.name());
                let about = format!("{} on {suite}, initramfs by {generator}", mode.name());
                let core = CORE.contains(&name.as_str());
                let cell = mode.of(&format!("{suite}, {generator}"));
                let scenario = mode.scenario(&name, &about, Recipe::new(suite).generator(generator));
                cells.push(Scenario { core, cells: vec![cell], ..scenario });
            }
        }
    }
    for cell in &mut cells {
        match cell.name.as_str() {
            "trixie-dracut-bind" => {
                cell.expect.push(&[DiskOn(Bus::VirtioBlk)]);
                cell.cells.extend(["virtio-blk", "rw", "direct kernel boot"].map(|row| Mode::Bind.of(row)));
            }
            "forky-dracut-transient" => {
                cell.boots = Boots::Twice;
                cell.expect.push(FORGOTTEN);
            }
            "forky-dracut-shell-composefs" => {
                cell.boots = Boots::Twice;
                cell.expect.push(&[Remembered("/etc"), Remembered("/var")]);
            }
            _ => {}
        }
    }
    cells
}

/// What varies in one thing only: the rows below.
fn variants() -> Vec<Scenario> {
    let mut cells = Vec::new();
    for mode in Mode::ALL {
        let name = format!("trixie-6.1-{}", mode.name());
        let recipe = Recipe::new(Trixie).kernel(Kernel::Bookworm);
        let scenario = mode.scenario(&name, "the oldest kernel", recipe);
        let impossible = matches!(mode, Mode::Verity | Mode::Signed);
        let cell = Cell { impossible, ..mode.of("kernel 6.1") };
        let mut scenario = Scenario { cells: vec![cell], core: mode == Mode::Composefs, ..scenario };
        if impossible {
            scenario.expect = vec![
                scenario::REFUSED,
                &[ConsoleShows("composefs with verity or signatures needs Linux 6.6")],
            ];
            scenario.archive = match mode {
                Mode::Verity => &[(CONFIG, VERITY_CONFIG), EMERGENCY],
                _ => &[EMERGENCY],
            };
        } else {
            scenario.expect.push(&[Kernel("6.1.")]);
        }
        cells.push(scenario);
    }
    for generator in [Generator::DracutShell, Generator::InitramfsTools] {
        // Nobody has made the nodes of loop devices there.
        let name = format!("trixie-6.1-{generator}-composefs");
        let recipe = Recipe::new(Trixie).kernel(Kernel::Bookworm).generator(generator);
        let mut scenario = Mode::Composefs.scenario(&name, "the oldest kernel, without systemd", recipe);
        scenario.expect.push(&[Kernel("6.1.")]);
        cells.push(Scenario { cells: vec![Mode::Composefs.of("kernel 6.1")], ..scenario });
    }
    cells.push(Scenario {
        core: true,
        cells: vec![Mode::Bind.of("ro")],
        expect: vec![
            scenario::HEALTHY,
            scenario::ANNOUNCED,
            scenario::OURS,
            &[NotWritable("/"), NotWritable("/etc"), NotWritable("/var")],
        ],
        ..Mode::Bind.scenario(
            "trixie-ro",
            "the kernel argument ro: everything on the disk stays read-only",
            Recipe::new(Trixie).replace_karg("rw", "ro").used_var(),
        )
    });
    for mode in [Mode::Bind, Mode::Signed] {
        let name = format!("trixie-aarch64-{}", mode.name());
        let recipe = Recipe::new(Trixie).arch(Arch::Arm64);
        let mut scenario = mode.scenario(&name, "64-bit ARM, our program for it", recipe);
        scenario.expect.push(&[Processor("aarch64")]);
        cells.push(Scenario { cells: vec![mode.of("aarch64")], ..scenario });
    }
    let buses: [(_, _, &[Expect]); 3] = [
        ("virtio-scsi", Bus::VirtioScsi, &[DiskOn(Bus::VirtioScsi)]),
        ("AHCI", Bus::Ahci, &[DiskOn(Bus::Ahci)]),
        ("NVMe", Bus::Nvme, &[DiskOn(Bus::Nvme)]),
    ];
    for (row, bus, shows) in buses {
        let name = format!("trixie-{}", row.to_lowercase());
        let recipe = Recipe::new(Trixie).generator(Generator::InitramfsTools);
        let mut scenario = Mode::Bind.scenario(&name, "a disk on another bus", recipe);
        scenario.expect.push(shows);
        let machine = Machine { bus };
        cells.push(Scenario { machine, cells: vec![Mode::Bind.of(row)], ..scenario });
    }
    cells.extend(layouts());
    for generator in [Generator::Dracut, Generator::InitramfsTools] {
        let recipe = Recipe::new(Trixie).generator(generator).delivery(Delivery::Package);
        let name = format!("trixie-deb-{generator}");
        let about = "our Debian package installed, and nothing else done";
        let scenario = Mode::Bind.scenario(&name, about, recipe);
        let cell = Mode::Bind.of(&format!("deb, {generator}"));
        cells.push(Scenario { core: true, cells: vec![cell], ..scenario });
    }
    cells
}

/// A line for each partition besides the root's.
const PARTITIONS_FSTAB: File =
    ("etc/fstab", "LABEL=boot /boot ext4 defaults 0 2\nLABEL=var /var ext4 defaults 0 2\n");

/// The prompt, by systemd in the initramfs.
const PASSPHRASE: &[Exchange] =
    &[Exchange { wait: "Please enter passphrase for disk", say: Container::PASSPHRASE }];

/// What the layouts below take in a system with dracut, and in one with initramfs-tools.
const DRACUT_PACKAGES: &[&str] = &["xfsprogs", "cryptsetup-bin", "systemd-cryptsetup"];
const INITRAMFS_TOOLS_PACKAGES: &[&str] = &["btrfs-progs", "lvm2"];

/// Other layouts of the disk, some with dracut and some with initramfs-tools.
fn layouts() -> Vec<Scenario> {
    let dracut = Recipe::new(Trixie).packages(DRACUT_PACKAGES);
    let tools = Recipe::new(Trixie).generator(Generator::InitramfsTools).packages(INITRAMFS_TOOLS_PACKAGES);
    let on = |bus| Machine { bus };
    let mut cells = vec![partitions()];

    let xfs = dracut.clone().storage(Storage { filesystem: Filesystem::Xfs, ..Storage::PLAIN });
    for mode in [Mode::Bind, Mode::Composefs] {
        let name = format!("trixie-xfs-{}", mode.name());
        let mut scenario = mode.scenario(&name, "the root is XFS", xfs.clone());
        scenario.expect.push(&[MountedKind("/sysroot", "xfs")]);
        cells.push(Scenario { core: mode == Mode::Composefs, cells: vec![mode.of("xfs")], ..scenario });
    }
    let impossible = |mode: Mode| vec![Cell { impossible: true, ..mode.of("xfs") }];
    cells.push(Scenario {
        cells: impossible(Mode::Verity),
        // As with libostree the boot goes on; where it ends depends on what reads a file first.
        expect: vec![&[ConsoleShows(
            "has no fs-verity, see mkfs.ext4 -O verity: reading files will fail with EIO",
        )]],
        ..Mode::Verity.scenario("trixie-xfs-verity", "XFS has no fs-verity: no file can be read", xfs.clone())
    });
    cells.push(Scenario {
        cells: impossible(Mode::Signed),
        archive: &[EMERGENCY],
        // The kernel's own answer, to the question what digest the image has.
        expect: vec![
            scenario::REFUSED,
            &[MountedKind("/sysroot", "xfs"), ConsoleShows("its file system has no fs-verity")],
        ],
        ..Mode::Signed.scenario("trixie-xfs-signed", "XFS has no fs-verity", xfs)
    });

    let btrfs = Storage { filesystem: Filesystem::Btrfs, ..Storage::PLAIN };
    let rootflags = format!("rootflags={}", Filesystem::Btrfs.mount_options());
    let btrfs = tools.clone().storage(btrfs).karg(&rootflags);
    for mode in [Mode::Bind, Mode::Composefs, Mode::Verity] {
        let name = format!("trixie-btrfs-{}", mode.name());
        let scenario = mode.scenario(&name, "the root is a subvolume of Btrfs", btrfs.clone());
        let (mut scenario, core) = (Scenario { machine: on(Bus::Nvme), ..scenario }, mode == Mode::Verity);
        scenario.expect.push(&[MountedKind("/sysroot", "btrfs"), DiskOn(Bus::Nvme)]);
        cells.push(Scenario { core, cells: vec![mode.of("btrfs"), mode.of("NVMe")], ..scenario });
    }

    let luks = Storage { container: Some(Container::Luks), ..Storage::PLAIN };
    let luks = dracut.storage(luks).karg(&format!("rd.luks.name={}=root", Container::LUKS_UUID));
    let about = "the root is encrypted, and somebody types the passphrase";
    let mut scenario = Mode::Bind.scenario("trixie-luks", about, luks);
    scenario.expect.push(&[RootThrough("crypt"), DiskOn(Bus::VirtioBlk)]);
    let cell = Mode::Bind.of("LUKS");
    cells.push(Scenario { core: true, cells: vec![cell], dialogue: PASSPHRASE, ..scenario });

    let lvm = tools.storage(Storage { container: Some(Container::Lvm), ..Storage::PLAIN });
    let lvm = lvm.replace_karg("root=LABEL=prepare-root", "root=/dev/mapper/debian-root");
    let mut scenario = Mode::Bind.scenario("trixie-lvm", "the root is a logical volume", lvm);
    scenario.expect.push(&[RootThrough("lvm"), DiskOn(Bus::Ahci)]);
    let both = ["LVM", "AHCI"].map(|row| Mode::Bind.of(row)).to_vec();
    cells.push(Scenario { machine: on(Bus::Ahci), core: true, cells: both, ..scenario });
    cells
}

/// Partitions of their own, mounted by `/etc/fstab` and not by OSTree's generator.
fn partitions() -> Scenario {
    let storage = Storage {
        partitions: &[storage::Partition::Boot, storage::Partition::Var, storage::Partition::Root],
        ..Storage::PLAIN
    };
    let rows = ["separate /boot", "separate /var", "virtio-scsi"];
    let recipe = Recipe::new(Trixie).storage(storage).files(&[PARTITIONS_FSTAB]);
    Scenario {
        machine: Machine { bus: Bus::VirtioScsi },
        core: true,
        cells: rows.map(|row| Mode::Bind.of(row)).to_vec(),
        expect: vec![
            scenario::HEALTHY,
            scenario::ANNOUNCED,
            scenario::OURS,
            scenario::WRITABLE,
            &[Partition("/boot", storage::Partition::Boot), Partition("/var", storage::Partition::Var)],
            &[MountedBySystemd("var.mount"), MountedBySystemd("boot.mount"), DiskOn(Bus::VirtioScsi)],
        ],
        ..Mode::Bind.scenario("trixie-partitions", "/boot and /var are partitions of their own", recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::cells;
    use std::collections::BTreeSet;

    #[test]
    fn the_core_touches_every_row_and_column() {
        let (mut rows, mut modes, mut core_rows, mut core_modes) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let cells = cells();
        for scenario in &cells {
            for cell in &scenario.cells {
                rows.insert(cell.row.as_str());
                modes.insert(cell.mode.name());
                if scenario.core {
                    core_rows.insert(cell.row.as_str());
                    core_modes.insert(cell.mode.name());
                }
            }
        }
        let missing: Vec<_> = rows.difference(&core_rows).collect();
        // Its packages alone take the emulator minutes.
        assert_eq!(missing, [&"aarch64"]);
        assert_eq!(modes, core_modes);
    }
}
