//! The scenarios: data, and what is expected of each.

use crate::expect::Expect::{self, *};
use crate::kernel::Kernel;
use crate::layout;
use crate::product::Program;
use crate::qemu::Edit;
use crate::recipe::{Damage, File, Image, Recipe};
use crate::suite::Suite::{self, Forky, Trixie};

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
    /// Files that are put over the initramfs: one disk serves several configurations.
    pub archive: &'static [File],
    /// Whether the disk is booted a second time, and that boot judged.
    pub twice: bool,
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

/// A system that works on a composefs image, whoever mounted what.
const COMPOSEFS: &[Expect] = &[
    MultiUser,
    NoFailedUnits,
    ComposefsRoot,
    BackingDeployment,
    BootedTrue("composefs"),
    NotWritable("/sysroot"),
    MountedReadOnly("/sysroot"),
    MountedOnce("/var"),
    MountedOnce("/boot"),
    NothingStacked,
    Announced,
];

/// The image cannot be written over, and `/etc` is the deployment's.
const READONLY_ROOT: &[Expect] =
    &[NotWritable("/"), NotWritable("/usr"), MountedReadOnly("/"), EtcOfDeployment];

/// The files can be read.
const READABLE: &[Expect] = &[Witness("genuine")];

/// The kernel compares every file with the digest that the image has of it.
const VERITY: &[Expect] = &[RootOption("verity=require"), BootedTrue("composefs.verity")];

/// The image is the one of the commit, and somebody we trust signed that.
const SIGNED: &[Expect] = &[BootedKey("composefs.signed")];

/// An orderly end, with everything still there for a person to repair.
const REFUSED: &[Expect] = &[Emergency, PhysicalRootKept, ConsoleShows("ostree-prepare-root")];

/// Our program did it, and had nothing to complain of.
const OURS: &[Expect] = &[OurLog, NoWarnings];

/// The machine's own directories can be written.
const WRITABLE: &[Expect] = &[Writable("/etc"), Writable("/var")];

const READONLY_CONFIG: &str = "[sysroot]\nreadonly = true\n";
const READONLY: &[Expect] = &[NotWritable("/sysroot"), MountedReadOnly("/sysroot"), NotWritable("/")];

const CONFIG: &str = "etc/ostree/prepare-root.conf";
const COMPOSEFS_CONFIG: &str = "[composefs]\nenabled = yes\n";
const VERITY_CONFIG: &str = "[composefs]\nenabled = verity\n";
const SIGNED_CONFIG: &str = "[composefs]\nenabled = signed\n";
const TRANSIENT_CONFIG: &str = "[composefs]\nenabled = yes\n\
    [root]\ntransient = true\n[etc]\ntransient = true\n[var]\ntransient = true\n";

/// The first test vector of RFC 8032: a good key, and not ours.
const WRONG_KEY: File = (layout::KEYS, "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n");

/// What Debian's installer writes for the root.
const FSTAB: File = ("etc/fstab", "LABEL=prepare-root / ext4 errors=remount-ro 0 1\n");

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
    let scenario = |name, about, recipe, expect| Scenario {
        name,
        about,
        core: false,
        recipe,
        edit: None,
        archive: &[],
        twice: false,
        expect,
    };
    let composefs = |more: &[&'static [Expect]]| [&[COMPOSEFS, OURS, WRITABLE], more].concat();
    let refused = |name, about, suite, damage: Option<Damage>, archive, why| {
        let recipe = Recipe { damage, ..signed(suite) };
        Scenario {
            core: true,
            archive,
            ..scenario(name, about, recipe, vec![REFUSED, &[ExitStatus("13")], why])
        }
    };
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
            archive: &[EMERGENCY],
            ..scenario(
                "trixie-broken",
                "ostree= points at nothing: an explanation, and a disk to repair",
                Recipe::new(Trixie),
                vec![REFUSED, &[ExitStatus("7"), ConsoleShows("/ostree/boot.1/debian/0000")]],
            )
        },
        Scenario {
            core: true,
            twice: true,
            ..scenario(
                "forky-composefs",
                "composefs as Debian 14 deploys it",
                plain(Forky),
                composefs(&[READONLY_ROOT, READABLE, &[Remembered("/etc"), Remembered("/var")]]),
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "trixie-composefs",
                "composefs on Debian 13, deployed by a newer ostree than its own",
                plain(Trixie),
                composefs(&[READONLY_ROOT, READABLE]),
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "trixie-composefs-6.1",
                "composefs with the oldest kernel: EROFS on a loop device, no data-only layers",
                plain(Trixie).kernel(Kernel::Bookworm),
                composefs(&[READONLY_ROOT, READABLE, &[Kernel("6.1.")]]),
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "forky-composefs-fstab",
                "a line for / in /etc/fstab: nobody fails on remounting the image",
                plain(Forky).files(&[FSTAB]),
                composefs(&[READONLY_ROOT, READABLE, &[RemountLeftAlone]]),
            )
        },
        Scenario {
            core: true,
            twice: true,
            archive: &[(CONFIG, TRANSIENT_CONFIG)],
            ..scenario(
                "forky-transient",
                "transient root, /etc and /var: writable until the next boot, and the disk untouched",
                plain(Forky),
                composefs(&[&[
                    BootedTrue("root.transient"),
                    Writable("/"),
                    Forgotten("/"),
                    Forgotten("/etc"),
                    Forgotten("/var"),
                    MountedKind("/etc", "overlay"),
                    MountedKind("/var", "tmpfs"),
                    Mode("/", "755"),
                    Mode("/etc", "755"),
                    Mode("/var", "755"),
                    DiskUntouched,
                ]]),
            )
        },
        Scenario {
            core: true,
            archive: &[(CONFIG, VERITY_CONFIG)],
            ..scenario(
                "trixie-verity",
                "all files sealed with fs-verity",
                signed(Trixie),
                composefs(&[READONLY_ROOT, READABLE, VERITY]),
            )
        },
        Scenario {
            core: true,
            archive: &[(CONFIG, VERITY_CONFIG)],
            ..scenario(
                "forky-verity-damaged",
                "one sealed file replaced by another: an error for who reads it, nothing else",
                signed(Forky).damage(Damage::File),
                composefs(&[READONLY_ROOT, VERITY, &[Witness("Input/output error")]]),
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "trixie-signed",
                "a commit signed with a key in the initramfs",
                signed(Trixie),
                composefs(&[READONLY_ROOT, READABLE, VERITY, SIGNED]),
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "forky-signed",
                "a commit signed with a key in the initramfs",
                signed(Forky),
                composefs(&[READONLY_ROOT, READABLE, VERITY, SIGNED]),
            )
        },
        refused(
            "trixie-wrong-key",
            "the initramfs has another key",
            Trixie,
            None,
            &[EMERGENCY, WRONG_KEY],
            &[ConsoleShows("none of the")],
        ),
        refused(
            "forky-other-image",
            "another image than the one that was signed",
            Forky,
            Some(Damage::OtherImage),
            &[EMERGENCY],
            &[ConsoleShows("the fs-verity digest of the image is")],
        ),
        refused(
            "trixie-unsealed-image",
            "the right image, but anybody could still write to it",
            Trixie,
            Some(Damage::UnsealedImage),
            &[EMERGENCY],
            &[ConsoleShows("has no fs-verity digest")],
        ),
        refused(
            "forky-unsigned",
            "a commit without a signature",
            Forky,
            Some(Damage::NoSignature),
            &[EMERGENCY],
            &[ConsoleShows("no commitmeta")],
        ),
        scenario(
            "trixie-hotfix",
            "a writable layer over /usr, as `ostree admin unlock --hotfix` makes it",
            Recipe::new(Trixie).hotfix(),
            vec![
                &[MultiUser, NoFailedUnits, BootedDeployment, NotWritable("/"), Writable("/usr")],
                &[
                    MountedKind("/usr", "overlay"),
                    Witness("hotfixed"),
                    MountedOnce("/var"),
                    MountedOnce("/boot"),
                ],
                &[NothingStacked, Announced, BootedFile],
                OURS,
                WRITABLE,
            ],
        ),
    ]
}

/// A system that wants its composefs image.
fn plain(suite: Suite) -> Recipe {
    Recipe::new(suite).image(Image::Plain).config(COMPOSEFS_CONFIG)
}

/// A system that wants its image signed.
fn signed(suite: Suite) -> Recipe {
    Recipe::new(suite).image(Image::Signed).config(SIGNED_CONFIG)
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
