//! The scenarios: data, and what is expected of each.

use crate::expect::Expect::{self, *};
use crate::product::Program;
use crate::qemu::Edit;
use crate::recipe::Recipe;
use crate::suite::Suite::{Forky, Trixie};

/// One boot and what it must show.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// Whether it runs when none is named.
    pub core: bool,
    /// What its disk is made from.
    pub recipe: Recipe,
    /// What is changed on the kernel command line OSTree wrote.
    pub edit: Option<Edit>,
    /// Lists of assertions, one after the other.
    pub expect: Vec<&'static [Expect]>,
}

/// A system that works, whoever mounted what.
const HEALTHY: &[Expect] = &[
    MultiUser,
    NoFailedUnits,
    BootedDeployment,
    NotWritable("/usr"),
    MountedReadOnly("/usr"),
    MountedOnce("/var"),
    MountedOnce("/boot"),
    NothingStacked,
    Announced,
    BootedFile,
];

/// Our program did it, and had nothing to complain of.
const OURS: &[Expect] = &[OurLog, NoWarnings];

/// The machine's own directories can be written.
const WRITABLE: &[Expect] = &[Writable("/etc"), Writable("/var")];

const READONLY_CONFIG: &str = "[sysroot]\nreadonly = true\n";
const READONLY: &[Expect] = &[NotWritable("/sysroot"), MountedReadOnly("/sysroot"), NotWritable("/")];

const MARKER: (&str, &str) =
    ("var/lib/dracut/hooks/pre-mount/50-marker.sh", include_str!("../initramfs/marker.sh"));
const EMERGENCY: (&str, &str) =
    ("var/lib/dracut/hooks/emergency/50-report.sh", include_str!("../initramfs/emergency.sh"));

/// What any boot must show, whatever its recipe: `boot` judges by this.
pub fn always(program: Program) -> impl Iterator<Item = Expect> {
    let ours = if program == Program::Ours { OURS } else { &[] };
    HEALTHY.iter().chain(ours).copied()
}

/// Every scenario, in the order they run.
pub fn all() -> Vec<Scenario> {
    let scenario =
        |name, about, recipe, expect| Scenario { name, about, core: false, recipe, edit: None, expect };
    let healthy = |more: &'static [Expect]| vec![HEALTHY, OURS, WRITABLE, more];
    vec![
        Scenario {
            core: true,
            ..scenario(
                "trixie-dracut",
                "Debian 13 as it comes",
                Recipe::new(Trixie),
                healthy(&[
                    Generated("var.mount"),
                    MountedBySystemd("var.mount"),
                    NotGenerated("boot.mount"),
                    FoundMounted("boot.mount"),
                ]),
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "forky-dracut",
                "Debian 14 as it comes",
                Recipe::new(Forky),
                healthy(&[
                    Generated("var.mount"),
                    MountedBySystemd("var.mount"),
                    Generated("boot.mount"),
                    MountedBySystemd("boot.mount"),
                ]),
            )
        },
        scenario(
            "trixie-readonly",
            "sysroot.readonly: the physical root is read-only, /etc and /var are not",
            Recipe::new(Trixie).config(READONLY_CONFIG),
            healthy(READONLY),
        ),
        scenario(
            "forky-readonly",
            "sysroot.readonly: the physical root is read-only, /etc and /var are not",
            Recipe::new(Forky).config(READONLY_CONFIG),
            healthy(READONLY),
        ),
        scenario(
            "trixie-ro",
            "the kernel argument ro: everything on the disk stays read-only",
            Recipe::new(Trixie).replace_karg("rw", "ro").used_var(),
            vec![HEALTHY, OURS, &[NotWritable("/"), NotWritable("/etc"), NotWritable("/var")]],
        ),
        Scenario {
            core: true,
            ..scenario(
                "trixie-dracut-nosystemd",
                "an initramfs of shell hooks, without systemd",
                Recipe::new(Trixie)
                    // This file of ostree-boot asks for the module that is to be left out.
                    .remove(&["etc/dracut.conf.d/ostree.conf"])
                    .omit("systemd systemd-initrd dracut-systemd systemd-udevd dbus"),
                // Nobody listens to the journal's socket yet.
                vec![&HEALTHY[..HEALTHY.len() - 2], &[BootedFile], OURS, WRITABLE],
            )
        },
        scenario(
            "forky-mount-var-true",
            "our program mounts /var and /boot although the generator has units for both",
            Recipe::new(Forky).config("[var]\nmount = true\n[boot]\nmount = true\n"),
            healthy(&[
                Generated("var.mount"),
                FoundMounted("var.mount"),
                Generated("boot.mount"),
                FoundMounted("boot.mount"),
            ]),
        ),
        scenario(
            "trixie-marker",
            "/run/ostree/initramfs-mount-var asks our program to mount /var",
            Recipe::new(Trixie).initramfs_files(&[MARKER]),
            healthy(&[FoundMounted("var.mount")]),
        ),
        Scenario {
            edit: Some(without_slash),
            ..scenario(
                "trixie-no-slash",
                "ostree= without its leading slash, as some distributions write it",
                Recipe::new(Trixie),
                healthy(&[CommandLine("ostree=ostree/boot.")]),
            )
        },
        scenario(
            "trixie-no-generator",
            "a system without OSTree's generator: our program mounts /var and /boot",
            Recipe::new(Trixie).remove(&["usr/lib/systemd/system-generators/ostree-system-generator"]),
            healthy(&[NotGenerated("var.mount"), FoundMounted("var.mount"), FoundMounted("boot.mount")]),
        ),
        Scenario {
            core: true,
            edit: Some(pointing_at_nothing),
            ..scenario(
                "trixie-broken",
                "ostree= points at nothing: an explanation, and a disk to repair",
                Recipe::new(Trixie).initramfs_files(&[EMERGENCY]),
                vec![&[
                    Emergency,
                    PhysicalRootKept,
                    ConsoleShows("ostree-prepare-root"),
                    ConsoleShows("/ostree/boot.1/debian/0000"),
                ]],
            )
        },
    ]
}

fn without_slash(word: &str) -> String {
    word.replacen("ostree=/", "ostree=", 1)
}

fn pointing_at_nothing(word: &str) -> String {
    match word.strip_prefix("ostree=") {
        Some(_) => "ostree=/ostree/boot.1/debian/0000/0".to_owned(),
        None => word.to_owned(),
    }
}
