//! The scenarios: data, and what is expected of each.

use crate::console::Exchange;
use crate::expect::Expect::{self, *};
use crate::generator::Generator;
use crate::layout::{self, CONFIG};
use crate::machine::Machine;
use crate::matrix::{self, COMPOSEFS_CONFIG, Cell, SIGNED_CONFIG, VERITY_CONFIG};
use crate::product::Program;
use crate::qemu::Edit;
use crate::recipe::{Damage, File, Image, Recipe};
use crate::solo;
use crate::suite::Suite::{self, Forky, Trixie};

/// One boot and what it must show.
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What it is about, in one line.
    pub about: String,
    /// Whether it runs when none is named.
    pub core: bool,
    /// What its disk is made from.
    pub recipe: Recipe,
    /// What is changed on the kernel command line OSTree wrote.
    pub edit: Option<Edit>,
    /// What it runs on.
    pub machine: Machine,
    /// The cells of the matrix that it fills.
    pub cells: Vec<Cell>,
    /// Files that are put over the initramfs: one disk serves several configurations.
    pub archive: &'static [File],
    /// What is typed on the console.
    pub dialogue: &'static [Exchange],
    /// How often the disk is booted. Unless they say otherwise, the last boot is judged.
    pub boots: Boots,
    /// Lists of assertions, one after the other.
    pub expect: Vec<&'static [Expect]>,
}

/// How often a disk is booted. What a boot leaves on the disk, the next one finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boots {
    /// Once.
    Once,
    /// Twice, the second time to see what the first left.
    Twice,
    /// Twice, the second time with the kernel argument that the first suggested.
    AsSuggested,
    /// Twice, the second time with the boot entry that the first wrote.
    Updated,
    /// Once, and once more after each of so many reboots; every boot is judged.
    Rebooted(usize),
}

impl Boots {
    /// How many boots that are.
    pub fn count(self) -> usize {
        match self {
            Self::Once => 1,
            Self::Twice | Self::AsSuggested | Self::Updated => 2,
            Self::Rebooted(times) => times + 1,
        }
    }
}

impl Scenario {
    /// One boot of a disk as it is made, outside of the matrix.
    pub fn new(name: &str, about: &str, recipe: Recipe, expect: Vec<&'static [Expect]>) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            core: false,
            recipe,
            edit: None,
            machine: Machine::VIRTUAL,
            cells: Vec::new(),
            archive: &[],
            dialogue: &[],
            boots: Boots::Once,
            expect,
        }
    }
}

/// A system that works, whoever mounted what.
pub const HEALTHY: &[Expect] = &[
    MultiUser,
    NoFailedUnits,
    BootedDeployment,
    NotWritable("/usr"),
    MountedReadOnly("/usr"),
    MountedOnce("/var"),
    MountedOnce("/boot"),
    NothingStacked,
    BootedFile,
];

/// The journal was told, where its socket is there already: with systemd in the initramfs.
pub const ANNOUNCED: &[Expect] = &[Announced];

/// A system that works on a composefs image, whoever mounted what.
pub const COMPOSEFS: &[Expect] = &[
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
];

/// The image cannot be written over, and `/etc` is the deployment's.
pub const READONLY_ROOT: &[Expect] =
    &[NotWritable("/"), NotWritable("/usr"), MountedReadOnly("/"), EtcOfDeployment];

/// The files can be read.
pub const READABLE: &[Expect] = &[Witness("genuine")];

/// The kernel compares every file with the digest that the image has of it.
pub const VERITY: &[Expect] = &[RootOption("verity=require"), BootedTrue("composefs.verity")];

/// The image is the one of the commit, and somebody we trust signed that.
pub const SIGNED: &[Expect] = &[BootedKey("composefs.signed")];

/// An orderly end, with everything still there for a person to repair.
pub const REFUSED: &[Expect] = &[Emergency, PhysicalRootKept, ConsoleShows("What was asked for:")];

/// Our program did it, as it was asked to, and had nothing to complain of.
pub const OURS: &[Expect] = &[OurLog, NoWarnings, AsAsked];

/// The machine's own directories can be written.
pub const WRITABLE: &[Expect] = &[Writable("/etc"), Writable("/var")];

/// In a shell, before the program and after it: what is at /sysroot, and on with the boot. Not a
/// prompt that somebody else could print; not a word of the command in what it answers.
const BREAKS: &[Exchange] = &[
    Exchange { wait: "ostree-before:/# ", say: "cd /sysroot; echo Here is: [lo]*\r" },
    Exchange { wait: "Here is: lost+found ostree", say: "exit\r" },
    Exchange { wait: "ostree-after:/# ", say: "cd /sysroot; echo Here is: u* sysroot/[lo]*\r" },
    Exchange { wait: "Here is: usr sysroot/lost+found sysroot/ostree", say: "exit\r" },
];

/// A program that fails and says nothing.
const SILENT: File = ("usr/lib/ostree/ostree-prepare-root", "#!/bin/sh\nexit 1\n");

const EXPLAINED: Exchange = Exchange {
    wait: "No OSTree deployment was booted: ostree-prepare-root ended with exit status 1.",
    say: "",
};
const SWITCH_OFF: &str = "echo o > /proc/sysrq-trigger\r";

/// At the prompt of dracut's shell: the disk is there, mounted once and as it was.
const SYSROOT_KEPT: [Exchange; 2] = [
    Exchange {
        wait: "# ",
        say: "cd /sysroot; echo Here is: [lo]*; while read -r _ d t o _; do case $d in /sysroot*) \
              echo mounted: $d $t ${o%%,*}; n=$((n+1));; esac; done < /proc/mounts; echo mounts: $n\r",
    },
    Exchange { wait: "Here is: lost+found ostree", say: "" },
];

/// systemd asks for a key to be pressed first.
const SYSTEMD_SHELL: &[Exchange] = &[
    EXPLAINED,
    Exchange { wait: "or press Control-D", say: "\r" },
    SYSROOT_KEPT[0],
    SYSROOT_KEPT[1],
    Exchange { wait: "mounted: /sysroot ext4 rw", say: "" },
    Exchange { wait: "mounts: 1", say: SWITCH_OFF },
];

const DRACUT_SHELL: &[Exchange] = &[
    EXPLAINED,
    SYSROOT_KEPT[0],
    SYSROOT_KEPT[1],
    Exchange { wait: "mounted: /sysroot ext4 rw", say: "" },
    Exchange { wait: "mounts: 1", say: SWITCH_OFF },
];

/// The same at the prompt of initramfs-tools.
const PANIC_SHELL: &[Exchange] = &[
    EXPLAINED,
    Exchange {
        wait: "(initramfs) ",
        say: "cd /root; echo Here is: [lo]*; while read -r _ d t o _; do case $d in /root*) \
              echo mounted: $d $t ${o%%,*}; n=$((n+1));; esac; done < /proc/mounts; echo mounts: $n\r",
    },
    Exchange { wait: "Here is: lost+found ostree", say: "" },
    Exchange { wait: "mounted: /root ext4 rw", say: "" },
    Exchange { wait: "mounts: 1", say: SWITCH_OFF },
];

/// The shells of `ostree.prepare-root.break=`, as initramfs-tools has them.
const PANIC_BREAKS: &[Exchange] = &[
    Exchange { wait: "break=before: /root is the disk as it was mounted", say: "" },
    Exchange { wait: "(initramfs) ", say: "cd /root; echo Here is: [lo]*\r" },
    Exchange { wait: "Here is: lost+found ostree", say: "exit\r" },
    Exchange { wait: "break=after: /root is the deployment", say: "" },
    Exchange { wait: "(initramfs) ", say: "cd /root; echo Here is: u* sysroot/[lo]*\r" },
    Exchange { wait: "Here is: usr sysroot/lost+found sysroot/ostree", say: "exit\r" },
];

/// A refusal, above the prompt of initramfs-tools.
const PANIC_REFUSED: &[Exchange] = &[
    Exchange { wait: "none of the", say: "" },
    Exchange {
        wait: "No OSTree deployment was booted: ostree-prepare-root ended with exit status 13.",
        say: "",
    },
    Exchange { wait: "(initramfs) ", say: SWITCH_OFF },
];

/// The deployment before the newest.
const OLDER: &[Expect] = &[OurLog, Witness("genuine")];

const LOCKED_CONFIG: &str = "[overrides]\nkernel-arguments = safe\n";
const FALLBACK_CONFIG: &str = "[recovery]\nfallback = same-kernel\n";

/// The first test vector of RFC 8032: a good key, and not ours.
const WRONG_KEY: File = (layout::KEYS, "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n");

/// What Debian's installer writes for the root.
const FSTAB: File = ("etc/fstab", "LABEL=prepare-root / ext4 errors=remount-ro 0 1\n");

const MARKER: (&str, &str) =
    ("var/lib/dracut/hooks/pre-mount/50-marker.sh", include_str!("../initramfs/marker.sh"));
/// Reports from dracut's emergency shell.
pub const EMERGENCY: File =
    ("var/lib/dracut/hooks/emergency/50-report.sh", include_str!("../initramfs/emergency.sh"));

/// What any boot of a deployment's directory must show: `boot` judges by this.
pub fn always(recipe: &Recipe) -> impl Iterator<Item = Expect> {
    let ours = if recipe.program == Program::Ours { OURS } else { &[] };
    let announced = if recipe.generator.has_systemd() { ANNOUNCED } else { &[] };
    [HEALTHY, announced, ours].concat().into_iter()
}

/// Every scenario, in the order they run.
pub fn all() -> Vec<Scenario> {
    let mut all = matrix::cells();
    all.extend(others());
    all.extend(solo::failures());
    all
}

/// The scenarios outside of the matrix: what goes wrong, and what is asked for.
fn others() -> Vec<Scenario> {
    let scenario = |name: &str, about: &str, recipe, expect| Scenario::new(name, about, recipe, expect);
    let refused = |name, about, suite, damage: Option<Damage>, archive, why| {
        let recipe = Recipe { damage, ..signed(suite) };
        Scenario {
            // One of each: what the boot looks like is the same, and tests without QEMU have every reason.
            core: matches!(damage, None | Some(Damage::OtherImage)),
            archive,
            ..scenario(name, about, recipe, vec![REFUSED, &[ExitStatus("13")], why])
        }
    };
    let plain_debian = |name, generator| {
        let expect: &[Expect] = &[MultiUser, NoFailedUnits, NotOurs, Writable("/"), Writable("/usr")];
        let recipe = Recipe::new(Trixie).generator(generator).plain();
        scenario(name, "an ordinary Debian with our program in its initramfs", recipe, vec![expect])
    };
    let silent = |name, generator, dialogue| Scenario {
        core: generator != Generator::DracutShell,
        edit: Some(waiting),
        archive: &[SILENT],
        dialogue,
        ..scenario(
            name,
            "a program that only exits with status 1: an explanation, a shell, the disk as it was",
            Recipe::new(Trixie).generator(generator),
            vec![&[SwitchedOffByHand]],
        )
    };
    let healthy = |more: &'static [Expect]| vec![HEALTHY, ANNOUNCED, OURS, WRITABLE, more];
    let expect_composefs =
        |more: &[&'static [Expect]]| [&[COMPOSEFS, ANNOUNCED, OURS, WRITABLE], more].concat();
    vec![
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
        Scenario {
            archive: &[MARKER],
            ..scenario(
                "trixie-marker",
                "/run/ostree/initramfs-mount-var asks our program to mount /var",
                Recipe::new(Trixie),
                healthy(&[FoundMounted("var.mount")]),
            )
        },
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
        plain_debian("trixie-plain-dracut", Generator::Dracut),
        plain_debian("trixie-plain-initramfs-tools", Generator::InitramfsTools),
        Scenario {
            core: true,
            edit: Some(pointing_at_nothing),
            archive: &[EMERGENCY],
            boots: Boots::AsSuggested,
            ..scenario(
                "trixie-broken",
                "ostree= points at nothing: an explanation, a disk to repair; what it suggests boots",
                Recipe::new(Trixie),
                vec![
                    &[First(&Emergency), First(&PhysicalRootKept), First(&ExitStatus("7"))],
                    &[First(&ConsoleShows("there is no such link"))],
                    HEALTHY,
                    WRITABLE,
                    &[OurLog, CommandLine("ostree=/ostree/boot.1/debian/0000"), Chosen("deployment")],
                ],
            )
        },
        Scenario {
            core: true,
            edit: Some(stopping),
            dialogue: BREAKS,
            ..scenario(
                "trixie-break",
                "a shell before and one after our program, each left again",
                Recipe::new(Trixie),
                healthy(&[]),
            )
        },
        Scenario {
            edit: Some(stopping),
            dialogue: BREAKS,
            ..scenario(
                "forky-break",
                "a shell before and one after our program, each left again",
                Recipe::new(Forky),
                healthy(&[]),
            )
        },
        Scenario {
            edit: Some(stopping),
            dialogue: BREAKS,
            ..scenario(
                "trixie-break-nosystemd",
                "the same shells in an initramfs of shell hooks",
                Recipe::new(Trixie).generator(Generator::DracutShell),
                vec![HEALTHY, OURS, WRITABLE],
            )
        },
        Scenario {
            edit: Some(stopping_and_waiting),
            dialogue: PANIC_BREAKS,
            ..scenario(
                "trixie-break-initramfs-tools",
                "the same shells, by initramfs-tools",
                Recipe::new(Trixie).generator(Generator::InitramfsTools),
                vec![HEALTHY, OURS, WRITABLE],
            )
        },
        Scenario {
            edit: Some(stopping),
            archive: &[(CONFIG, LOCKED_CONFIG)],
            ..scenario(
                "trixie-break-locked",
                "where kernel arguments must not weaken anything, there is no shell",
                Recipe::new(Trixie),
                vec![HEALTHY, WRITABLE, &[OurLog, AsAsked, Warns("break")]],
            )
        },
        silent("trixie-silent-dracut", Generator::Dracut, SYSTEMD_SHELL),
        silent("trixie-silent-dracut-shell", Generator::DracutShell, DRACUT_SHELL),
        silent("trixie-silent-initramfs-tools", Generator::InitramfsTools, PANIC_SHELL),
        Scenario {
            core: true,
            edit: Some(stale),
            ..scenario(
                "trixie-stale-links",
                "ostree= names the other boot version, as after a deploy that was interrupted",
                Recipe::new(Trixie),
                vec![HEALTHY, WRITABLE, &[OurLog, Chosen("boot-links"), Warns("boot.0")]],
            )
        },
        Scenario {
            core: true,
            archive: &[(CONFIG, FALLBACK_CONFIG)],
            ..scenario(
                "trixie-fallback",
                "the newest deployment is damaged: the one before, which has the same kernel",
                Recipe::new(Trixie).newer().damage(Damage::NoUsr),
                vec![HEALTHY, WRITABLE, OLDER, &[Chosen("fallback"), Warns("usr")]],
            )
        },
        Scenario {
            core: true,
            archive: &[EMERGENCY],
            ..scenario(
                "trixie-no-fallback",
                "the newest deployment is damaged, and no other is allowed",
                Recipe::new(Trixie).newer().damage(Damage::NoUsr),
                vec![
                    REFUSED,
                    &[
                        ConsoleShows("/usr of the deployment is missing"),
                        ConsoleShows("    ostree.prepare-root.deployment="),
                    ],
                ],
            )
        },
        Scenario {
            archive: &[(CONFIG, "[composefs]\nenabled = yes\n[recovery]\nfallback = same-kernel\n")],
            ..scenario(
                "forky-composefs-fallback",
                "the newest deployment's image is cut off: the one before, which has the same kernel",
                plain(Forky).newer().damage(Damage::TruncatedImage),
                vec![COMPOSEFS, WRITABLE, READONLY_ROOT, OLDER, &[Chosen("fallback"), Warns("image")]],
            )
        },
        Scenario {
            core: true,
            ..scenario(
                "forky-composefs-fstab",
                "a line for / in /etc/fstab: nobody fails on remounting the image",
                plain(Forky).files(&[FSTAB]),
                expect_composefs(&[READONLY_ROOT, READABLE, &[RemountLeftAlone]]),
            )
        },
        Scenario {
            core: true,
            archive: &[(CONFIG, VERITY_CONFIG)],
            ..scenario(
                "forky-verity-damaged",
                "one sealed file replaced by another: an error for who reads it, nothing else",
                signed(Forky).damage(Damage::File),
                expect_composefs(&[READONLY_ROOT, VERITY, &[Witness("Input/output error")]]),
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
        Scenario {
            edit: Some(waiting),
            archive: &[WRONG_KEY],
            dialogue: PANIC_REFUSED,
            ..scenario(
                "trixie-wrong-key-initramfs-tools",
                "the same, and the shell of initramfs-tools",
                signed(Trixie).generator(Generator::InitramfsTools),
                vec![&[SwitchedOffByHand]],
            )
        },
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

fn stopping(word: &str) -> String {
    match word {
        "rw" => "rw ostree.prepare-root.break=before ostree.prepare-root.break=after".to_owned(),
        _ => word.to_owned(),
    }
}

/// With `panic=`, initramfs-tools starts no shell.
pub fn waiting(word: &str) -> String {
    if word.starts_with("panic=") { String::new() } else { word.to_owned() }
}

fn stopping_and_waiting(word: &str) -> String {
    waiting(&stopping(word))
}

fn stale(word: &str) -> String {
    word.replacen("ostree=/ostree/boot.1/", "ostree=/ostree/boot.0/", 1)
}

/// Names a boot link that nobody made.
pub fn pointing_at_nothing(word: &str) -> String {
    match word.strip_prefix("ostree=") {
        Some(_) => "ostree=/ostree/boot.1/debian/0000/0".to_owned(),
        None => word.to_owned(),
    }
}
