//! Our program as process 1: alone in an initramfs, or started by the kernel from the disk.

use crate::console::{self, Exchange};
use crate::expect::Expect::{self, *};
use crate::generator::Generator;
use crate::machine::{Bus, Machine};
use crate::matrix::{Cell, Mode, READONLY, READONLY_CONFIG, SIGNED_CONFIG};
use crate::recipe::{Damage, File, Recipe};
use crate::scenario::{self, Boots, Scenario};
use crate::storage::{Filesystem, Partition, Storage};
use crate::suite::Suite::{self, Forky, Trixie};

/// The system alone on its disk, in a partition.
const PARTITION: Storage = Storage { partitions: &[Partition::Root], ..Storage::PLAIN };

/// How long a person may have to wait for the reason, in seconds.
const PATIENCE: u32 = 15;

/// The row of systems that have none.
const NO_INITRAMFS: &str = "no initramfs";

/// All cells.
pub fn cells() -> Vec<Scenario> {
    let mut cells: Vec<_> = ways().into_iter().map(solo).collect();
    cells.push(upgrade());
    cells.extend(no_initramfs());
    cells
}

/// A system whose initramfs has nothing but our program: what makes it different from the others.
struct Way {
    suite: Suite,
    mode: Mode,
    /// What stands for the mode in its name, where another has that.
    name: &'static str,
    /// How the root is found, as the boot entry has it: `root` is replaced by the UUID.
    root: String,
    storage: Storage,
    bus: Bus,
    /// Rows besides that of the suite.
    rows: &'static [&'static str],
    shows: &'static [Expect],
    core: bool,
}

/// Every suite in every way a deployment is mounted; found in every way, on every file system and bus.
fn ways() -> Vec<Way> {
    let on = |filesystem| Storage { filesystem, ..Storage::PLAIN };
    let way = |suite, mode: Mode, root: &str, shows| Way {
        suite,
        mode,
        name: mode.name(),
        root: root.to_owned(),
        storage: Storage::PLAIN,
        bus: Bus::VirtioBlk,
        rows: &[],
        shows,
        core: false,
    };
    vec![
        Way { core: true, ..way(Trixie, Mode::Bind, "LABEL=prepare-root", &[DiskOn(Bus::VirtioBlk)]) },
        way(Trixie, Mode::Composefs, "UUID=root", &[CommandLine("root=UUID=")]),
        Way {
            storage: PARTITION,
            bus: Bus::VirtioScsi,
            ..way(
                Trixie,
                Mode::Signed,
                &format!("PARTUUID={}", Partition::ROOT_UUID),
                &[CommandLine("root=PARTUUID="), DiskOn(Bus::VirtioScsi)],
            )
        },
        way(Forky, Mode::Bind, "/dev/vda", &[CommandLine("root=/dev/vda")]),
        Way {
            storage: PARTITION,
            bus: Bus::Nvme,
            ..way(
                Forky,
                Mode::Composefs,
                "PARTLABEL=root",
                &[CommandLine("root=PARTLABEL="), DiskOn(Bus::Nvme)],
            )
        },
        Way { core: true, ..way(Forky, Mode::Signed, "UUID=root", &[CommandLine("root=UUID=")]) },
        Way {
            name: "xfs",
            storage: on(Filesystem::Xfs),
            bus: Bus::Ahci,
            rows: &["xfs", "AHCI"],
            ..way(Trixie, Mode::Bind, "UUID=root", &[MountedKind("/sysroot", "xfs"), DiskOn(Bus::Ahci)])
        },
        Way {
            name: "btrfs",
            storage: on(Filesystem::Btrfs),
            rows: &["btrfs"],
            ..way(Trixie, Mode::Bind, "LABEL=prepare-root", &[MountedKind("/sysroot", "btrfs")])
        },
    ]
}

/// A system whose initramfs has nothing but our program.
fn system(suite: Suite) -> Recipe {
    Recipe::new(suite).generator(Generator::Solo)
}

fn solo(way: Way) -> Scenario {
    let Way { suite, mode, name, root, storage, bus, rows, shows, core } = way;
    let mut recipe = system(suite).root(&root).storage(storage);
    if storage.filesystem == Filesystem::Btrfs {
        recipe = recipe.karg(&format!("rootflags={}", storage.filesystem.mount_options()));
    }
    let (name, about) =
        (format!("{suite}-solo-{name}"), format!("an initramfs of our program alone: {root}"));
    let mut scenario = mode.scenario(&name, &about, recipe);
    scenario.expect.push(shows);
    let suite = format!("{suite}, solo");
    let cells = [suite.as_str()].iter().chain(rows).map(|row| mode.of(row)).collect();
    Scenario { core, cells, machine: Machine { bus }, boots: Boots::Rebooted(2), ..scenario }
}

/// Asks for an update once the system is up.
const UPGRADE: &[File] = &[
    (
        "etc/systemd/system/prepare-root-upgrade.service",
        "[Unit]\nDescription=Upgrade\n[Service]\nType=oneshot\nExecStart=/usr/bin/ostree admin upgrade\n",
    ),
    (
        "etc/systemd/system/multi-user.target.d/50-prepare-root.conf",
        "[Unit]\nWants=prepare-root-upgrade.service\n",
    ),
];

/// An update brings an initramfs of its own, with another configuration.
fn upgrade() -> Scenario {
    let recipe = system(Trixie).files(UPGRADE).update(READONLY_CONFIG);
    let about = "`ostree admin upgrade`, and the update boots with its own initramfs";
    Scenario {
        boots: Boots::Updated,
        cells: vec![Mode::Bind.of("trixie, solo")],
        expect: vec![
            &[First(&MultiUser), First(&NoFailedUnits), First(&Witness("genuine"))],
            &[First(&Writable("/sysroot"))],
            scenario::HEALTHY,
            scenario::OURS,
            scenario::WRITABLE,
            &[Updated, Witness("updated")],
            READONLY,
        ],
        ..Mode::Bind.scenario("trixie-solo-upgrade", about, recipe)
    }
}

/// Without an initramfs our program mounts both, as libostree's does there.
const MOUNTED: &[Expect] = &[FoundMounted("var.mount"), FoundMounted("boot.mount"), DiskOn(Bus::Nvme)];

/// Our program started by the kernel, from the deployment.
fn no_initramfs() -> [Scenario; 3] {
    let recipe = || {
        Recipe::new(Trixie).generator(Generator::None).storage(PARTITION).root("/dev/nvme0n1p1").used_var()
    };
    let cell = |name: &str, about: &str, mode: Mode, recipe, expect| Scenario {
        machine: Machine { bus: Generator::None.bus() },
        boots: Boots::Rebooted(1),
        cells: vec![mode.of(NO_INITRAMFS)],
        ..Scenario::new(&format!("trixie-no-initramfs-{name}"), about, recipe, expect)
    };
    let read_write: &[Expect] = &[Writable("/sysroot"), NothingLeftBehind];
    let read_only: &[Expect] = &[NotWritable("/"), NotWritable("/etc"), NotWritable("/var"), DiskUntouched];
    [
        Scenario {
            core: true,
            ..cell(
                "rw",
                "no initramfs: the kernel mounts the root and starts our program",
                Mode::Bind,
                recipe(),
                vec![scenario::HEALTHY, scenario::OURS, MOUNTED, scenario::WRITABLE, read_write],
            )
        },
        Scenario {
            edit: Some(without_writing),
            cells: vec![Mode::Bind.of(NO_INITRAMFS), Mode::Bind.of("ro")],
            ..cell(
                "ro",
                "the same with ro: everything on the disk stays as it is",
                Mode::Bind,
                recipe(),
                vec![scenario::HEALTHY, scenario::OURS, MOUNTED, read_only],
            )
        },
        Scenario {
            boots: Boots::Once,
            cells: vec![Cell { impossible: true, ..Mode::Signed.of(NO_INITRAMFS) }],
            ..cell(
                "signed",
                "the same with a demand that program and key on the disk cannot meet",
                Mode::Signed,
                recipe().config(SIGNED_CONFIG),
                vec![GIVEN_UP, &[ShownWithin(PATIENCE, "[composefs] enabled=signed")]],
            )
        },
    ]
}

/// An end that a machine without anybody at it survives: the reason, and a new start.
const GIVEN_UP: &[Expect] = &[StartedAnew];

/// The disk, as it is in the list of what there is.
const DISK_LISTED: Expect = ConsoleRow(&["vda", "ext4", "prepare-root"]);

/// Somebody reads the reason and presses the key.
const KEY: &[Exchange] = &[Exchange { wait: console::KEY_TO_REBOOT, say: "\r" }];

/// What goes wrong, on the disk of the first cell.
pub fn failures() -> Vec<Scenario> {
    let failure = |name: &str, about: &str, shows| {
        Scenario::new(&format!("trixie-solo-{name}"), about, system(Trixie), vec![GIVEN_UP, shows])
    };
    let simple = vec![
        Scenario {
            core: true,
            edit: Some(wrong_root),
            ..failure(
                "wrong-root",
                "root= names no device: what was looked for, what there is, and a new start",
                &[ShownWithin(PATIENCE, "find the root device LABEL=nothere"), DISK_LISTED],
            )
        },
        Scenario {
            edit: Some(wrong_root_waiting),
            dialogue: KEY,
            ..failure(
                "wrong-root-key",
                "the same without panic=: somebody presses a key",
                &[ShownWithin(PATIENCE, "find the root device LABEL=nothere")],
            )
        },
        Scenario {
            edit: Some(scenario::pointing_at_nothing),
            ..failure(
                "no-deployment",
                "ostree= points at nothing",
                &[
                    ShownWithin(PATIENCE, "there is no such link"),
                    ConsoleRow(&["/dev/vda", "on", "/sysroot:", "ext4,"]),
                    DISK_LISTED,
                ],
            )
        },
        Scenario {
            edit: Some(mapped_root),
            ..failure(
                "mapper",
                "root= names what device-mapper would have to make: refused by name",
                &[
                    ShownWithin(PATIENCE, "find the root device /dev/mapper/x"),
                    ConsoleShows("dracut or initramfs-tools"),
                ],
            )
        },
    ];
    let module = failure(
        "no-module",
        "an initramfs without the disk's module",
        &[
            ShownWithin(PATIENCE, "find the root device LABEL=prepare-root"),
            ConsoleShows("the kernel has found no disk"),
        ],
    );
    let module = Scenario { recipe: system(Trixie).modules("nvme,ext4"), ..module };
    let damaged = |name, about, damage, shows| Scenario {
        recipe: system(Trixie).damage(damage),
        ..failure(name, about, shows)
    };
    let disks = [
        module,
        damaged(
            "superblock",
            "the root's superblock is damaged",
            Damage::Superblock,
            &[
                ShownWithin(PATIENCE, "find the root device LABEL=prepare-root"),
                ConsoleRow(&["vda", "unknown"]),
            ],
        ),
        damaged(
            "luks",
            "the root is encrypted: named, with who could open it",
            Damage::Encrypted,
            &[
                ShownWithin(PATIENCE, "find the root device LABEL=prepare-root"),
                ConsoleRow(&["vda", "crypto_LUKS"]),
                ConsoleShows("dracut or initramfs-tools"),
            ],
        ),
    ];
    simple.into_iter().chain(disks).collect()
}

fn without_writing(word: &str) -> String {
    if word == "rw" { "ro".to_owned() } else { word.to_owned() }
}

fn with_root(word: &str, root: &str) -> String {
    if word.starts_with("root=") { format!("root={root}") } else { word.to_owned() }
}

fn wrong_root(word: &str) -> String {
    with_root(word, "LABEL=nothere")
}

fn wrong_root_waiting(word: &str) -> String {
    scenario::waiting(&wrong_root(word))
}

fn mapped_root(word: &str) -> String {
    with_root(word, "/dev/mapper/x")
}

#[cfg(test)]
mod tests {
    use super::cells;
    use crate::generator::Generator;
    use std::collections::BTreeSet;

    #[test]
    fn the_root_is_found_in_every_way() {
        let mut ways = BTreeSet::new();
        for scenario in cells().iter().filter(|cell| cell.recipe.generator == Generator::Solo) {
            let roots: Vec<_> =
                scenario.recipe.kargs.iter().filter_map(|karg| karg.strip_prefix("root=")).collect();
            assert_eq!(roots.len(), 1, "{}", scenario.name);
            ways.extend(
                roots.iter().map(|root| root.split_once('=').map_or("device", |(way, _)| way).to_owned()),
            );
        }
        assert!(ways.iter().eq(["LABEL", "PARTLABEL", "PARTUUID", "UUID", "device"]), "{ways:?}");
    }
}
