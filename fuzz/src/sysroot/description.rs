//! The fuzzer's bytes as a disk, a configuration and a kernel command line.
//!
//! The disk is one that OSTree might have made, changed by a list of edits. Most bytes choose from lists of what
//! matters to the program, so that nearly every mutation means something; others bring bytes of their own.

use prepare_root::kernel::{Ability, Kernel};
use std::fmt;
use std::ops::Deref;

/// Bytes that are shown as text.
#[derive(Clone)]
pub struct Bytes(Vec<u8>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Bytes {
        Bytes(text.into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// A disk, and what the program is asked to do with it.
#[derive(Debug)]
pub struct Description {
    /// Mounts are shared, as systemd makes them.
    pub shared: bool,
    /// The physical root is mounted read-only.
    pub readonly: bool,
    pub kernel: Kernel,
    pub config: Bytes,
    pub cmdline: Bytes,
    pub edits: Vec<Edit>,
}

/// One change below the physical root, or below `/run`, in place of whatever is there.
#[derive(Debug)]
pub struct Edit {
    pub below: Below,
    pub at: Bytes,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    Sysroot,
    Run,
}

#[derive(Debug)]
pub enum Change {
    Link(Bytes),
    File(Bytes),
    Directory,
    Fifo,
    /// `/dev/zero`: read from, it has no end.
    Device,
    /// A sparse file of more than the program reads of any.
    Large,
    Remove,
    /// A mount point.
    Tmpfs,
    Mode(u16),
    /// Takes the place of what is there, and what is there, this one's.
    Exchange(Bytes),
}

/// What is there before any edit: two deployments with the same kernel.
pub fn ordinary() -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut add = |at: &str, change| edits.push(Edit { below: Below::Sysroot, at: at.into(), change });
    DIRECTORIES.iter().for_each(|at| add(at, Change::Directory));
    for deployment in [A, B] {
        OF_DEPLOYMENT.iter().for_each(|at| add(&format!("{deployment}/{at}"), Change::Directory));
    }
    LINKS.iter().for_each(|(at, text)| add(at, Change::Link((*text).into())));
    FILES.iter().for_each(|(at, text)| add(at, Change::File((*text).into())));
    edits
}

macro_rules! bootcsum {
    () => {
        "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff"
    };
}
macro_rules! a {
    () => {
        "ostree/deploy/debian/deploy/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0"
    };
}
macro_rules! b {
    () => {
        "ostree/deploy/debian/deploy/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.1"
    };
}
macro_rules! boot {
    ($version:literal) => {
        concat!("ostree/boot.", $version, "/debian/", bootcsum!())
    };
}

const A: &str = a!();
const B: &str = b!();

const DIRECTORIES: &[&str] =
    &["boot/loader.1/entries", boot!("1.1"), "ostree/repo/objects", "ostree/deploy/debian/var"];

const OF_DEPLOYMENT: &[&str] = &[
    "usr/etc",
    "usr/lib/systemd/system-generators",
    "usr/share/factory/var/lib",
    "etc",
    "var",
    "boot",
    "sysroot",
];

const LINKS: &[(&str, &str)] = &[
    ("boot/loader", "loader.1"),
    ("ostree/boot.1", "boot.1.1"),
    (concat!(boot!("1.1"), "/0"), concat!("../../../../", a!())),
    (concat!(boot!("1.1"), "/1"), concat!("../../../../", b!())),
    (concat!(a!(), "/ostree"), "sysroot/ostree"),
    (concat!(b!(), "/ostree"), "sysroot/ostree"),
];

const FILES: &[(&str, &str)] = &[
    ("ostree/repo/config", "[core]\nrepo_version=1\nmode=bare\n[sysroot]\nreadonly=true\n"),
    (
        "boot/loader.1/entries/ostree-1.conf",
        concat!("title one\nversion 2\noptions ostree=/", boot!("1"), "/0\nlinux /x\n"),
    ),
    (
        "boot/loader.1/entries/ostree-2.conf",
        concat!("title two\nversion 1\noptions ostree=/", boot!("1"), "/1\nlinux /x\n"),
    ),
];

/// Where edits are made.
const PLACES: &[&str] = &[
    "ostree",
    "ostree/boot.1",
    "ostree/boot.1.1",
    "ostree/boot.1/debian",
    boot!("1"),
    concat!(boot!("1"), "/0"),
    concat!(boot!("1"), "/1"),
    "ostree/boot.0",
    concat!(boot!("0"), "/0"),
    "ostree/boot.1/debian/\nFORGED\x1b[2J/0",
    "ostree/root.a",
    "ostree/root.b",
    "ostree/deploy",
    "ostree/deploy/debian",
    "ostree/deploy/debian/deploy",
    "ostree/deploy/debian/var",
    "ostree/deploy/de\nFORGED\x1b[2Jbian/deploy/\nFORGED\x07.0/usr",
    A,
    concat!(a!(), "/usr"),
    concat!(a!(), "/etc"),
    concat!(a!(), "/var"),
    concat!(a!(), "/boot"),
    concat!(a!(), "/sysroot"),
    concat!(a!(), "/ostree"),
    concat!(a!(), "/.ostree.cfs"),
    concat!(a!(), "/.usr-ovl-work"),
    concat!(a!(), "/.usr-ovl-upper"),
    concat!(a!(), "/usr/etc"),
    concat!(a!(), "/etc/fstab"),
    concat!(a!(), "/usr/etc/fstab"),
    concat!(a!(), "/usr/lib"),
    concat!(a!(), "/usr/lib/os-release"),
    concat!(a!(), "/usr/lib/systemd/systemd"),
    concat!(a!(), "/usr/lib/systemd/system-generators/ostree-system-generator"),
    concat!(a!(), "/usr/lib/libostree-1.so.1"),
    concat!(a!(), "/usr/lib/\nFORGED\x1b]0;x\x07"),
    concat!(a!(), "/usr/share/factory/var"),
    concat!(a!(), "/usr/share/factory/var/lib/file"),
    concat!(a!(), ".origin"),
    B,
    concat!(b!(), "/usr"),
    concat!(b!(), "/etc"),
    concat!(b!(), "/.ostree.cfs"),
    "ostree/repo",
    "ostree/repo/config",
    "ostree/repo/objects/aa",
    "ostree/repo/objects/aa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.commit",
    "ostree/repo/objects/aa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.commitmeta",
    "boot",
    "boot/loader",
    "boot/loader.1/entries",
    "boot/loader.1/entries/ostree-1.conf",
    "boot/loader.1/entries/\nFORGED.conf",
];

/// What links say.
const TEXTS: &[&str] = &[
    "/",
    "/mnt/outside",
    "../../../../../../../../../mnt/outside",
    "../../../../../../../outside",
    "..",
    ".",
    "0",
    "/proc/self/root",
    "/proc/self/cwd",
    "/proc/self/fd/3",
    concat!("../../../../", a!()),
    concat!("../../../../", b!()),
    concat!("../../../../", a!(), "/../../../../../../outside"),
    concat!("/mnt/sysroot/", a!()),
    "../deploy/debian/deploy",
    "deploy/debian/deploy/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0",
    "../../../../boot",
    "../../../../var",
    "usr",
    "etc",
    "\nFORGED\x1b[2J\x1b]0;x\x07",
];

/// What files say.
const CONTENTS: &[&str] = &[
    "",
    "[sysroot]\nreadonly=true\n",
    "[sysroot\n\nFORGED\x1b[2J",
    "/dev/vda2 /var ext4 defaults 0 0\n/dev/vda1 /boot ext4 defaults 0 0\n",
    "ID=debian\nVERSION_ID=\"1\nFORGED\x1b[2J\"\nPRETTY_NAME=Test\n",
    "local-fs.target.requires/boot.mount",
    concat!("title x\nversion 9\noptions ostree=/", boot!("0"), "/0 quiet\n"),
    "title \x1b[2J\nversion 99999999999999999999\noptions ostree=\n",
    "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n",
];

/// Lines of the configuration.
const CONFIG: &[&str] = &[
    "[sysroot]\nreadonly=true\n",
    "[sysroot]\nreadonly=false\n",
    "[etc]\ntransient=true\n",
    "[etc]\ntransient=true\ntransient-size=1M\n",
    "[root]\ntransient=true\n",
    "[root]\ntransient-ro=true\ntransient-size=10%\n",
    "[var]\nmount=true\n",
    "[var]\nmount=false\n",
    "[var]\ntransient=true\n",
    "[var]\ntransient=true\ntransient-size=64k\n",
    "[boot]\nmount=true\n",
    "[composefs]\nenabled=maybe\n",
    "[composefs]\nenabled=yes\n",
    "[composefs]\nenabled=verity\n",
    "[composefs]\nenabled=signed\n",
    "[composefs]\nenabled=signed\nkeypath=/run/key\n",
    "[composefs]\nkeypath=/mnt/sysroot/key\n",
    "[systemd]\nvolatile-root=false\n",
    "[recovery]\nboot-links=strict\n",
    "[recovery]\nfallback=same-kernel\n",
    "[overrides]\nkernel-arguments=none\n",
    "[overrides]\nkernel-arguments=safe\n",
];

/// Kernel arguments.
const ARGUMENTS: &[&str] = &[
    concat!("ostree=/", boot!("1"), "/0"),
    concat!("ostree=/", boot!("1"), "/1"),
    concat!("ostree=/", boot!("0"), "/0"),
    "ostree=/ostree/boot.1/debian/\"\nFORGED\x1b[2J/0\"",
    "ostree=/ostree/boot.1/../../../outside",
    "ostree=/proc/self/root",
    concat!("ostree=", a!()),
    "ostree=true androidboot.slot_suffix=_a",
    "androidboot.slot_suffix=_b",
    "ostree.prepare-root.composefs=maybe",
    "ostree.prepare-root.composefs=signed",
    "ostree.prepare-root.etc.transient=1",
    "ostree.prepare-root.var.transient=1",
    "ostree.prepare-root.var.mount=1",
    "ostree.prepare-root.boot.mount=1",
    "ostree.prepare-root.sysroot.readonly=0",
    "ostree.prepare-root.recovery.boot-links=strict",
    "ostree.prepare-root.recovery.fallback=same-kernel",
    "ostree.prepare-root.deployment=0",
    "ostree.prepare-root.deployment=1",
    "ostree.prepare-root.deployment=aaaa",
    "ostree.prepare-root.deployment=debian/bbbb.1",
    "ostree.prepare-root.deployment=../../outside",
    "ostree.prepare-root.debug",
    "ostree.prepare-root.log=debug",
];

/// Places in `/run`. (What a killed run leaves there is cleaned up by the next, which other tests see to.)
const RUN_PLACES: &[&str] = &[
    "ostree",
    "ostree-booted",
    "ostree/.private",
    "ostree/.private/root",
    "ostree/.private/cfsroot-lower",
    "ostree/prepare-root.json",
    "ostree/initramfs-mount-var",
    "systemd",
    "systemd/volatile-root",
    "systemd/system/systemd-remount-fs.service.d",
    "key",
];

const ABILITIES: [Ability; 6] = [
    Ability::DetachedTree,
    Ability::Beneath,
    Ability::LayerHandles,
    Ability::AppendedLayers,
    Ability::DataOnlyLayers,
    Ability::FileBackedErofs,
];

impl Description {
    /// Any bytes are a description; no bytes are the ordinary disk, and no `ostree=`.
    pub fn read(bytes: &[u8]) -> Description {
        let mut choices = Choices(bytes);
        let flags = choices.byte().unwrap_or_default();
        let lacks = choices.byte().unwrap_or_default();
        let mut kernel = Kernel::NEWEST;
        for (bit, ability) in ABILITIES.into_iter().enumerate() {
            if lacks & (1 << bit) != 0 {
                kernel.forget(ability);
            }
        }
        Description {
            shared: flags & 1 != 0,
            readonly: flags & 2 != 0,
            kernel,
            config: Bytes(choices.several(CONFIG, b"")),
            cmdline: Bytes(choices.several(ARGUMENTS, b" ")),
            // More is not worth the time.
            edits: std::iter::from_fn(|| choices.edit()).take(40).collect(),
        }
    }
}

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// One of the list, or, with a byte from the upper half, bytes of its own.
    fn of(&mut self, list: &[&str]) -> Option<Bytes> {
        let byte = usize::from(self.byte()?);
        if byte < 0x80 {
            return Some(list[byte % list.len()].into());
        }
        let (own, rest) = self.0.split_at((byte - 0x80).min(self.0.len()));
        self.0 = rest;
        Some(Bytes(own.to_vec()))
    }

    fn several(&mut self, list: &[&str], separator: &[u8]) -> Vec<u8> {
        let count = self.byte().unwrap_or_default() % 8;
        let chosen = (0..count).map_while(|_| Some(self.of(list)?.0));
        chosen.collect::<Vec<_>>().join(separator)
    }

    fn edit(&mut self) -> Option<Edit> {
        let kind = self.byte()?;
        let below = if kind & 0x80 == 0 { Below::Sysroot } else { Below::Run };
        let places = if below == Below::Sysroot { PLACES } else { RUN_PLACES };
        let at = self.of(places)?;
        let change = match (kind & 0x7f) % 12 {
            // `/run` is the initramfs's own: there may be anything in it, but nothing that lies in wait.
            0..=2 if below == Below::Run => Change::Link("nothing".into()),
            5..=7 if below == Below::Run => Change::Directory,
            // The most dangerous ones more often.
            0..=2 => Change::Link(self.of(TEXTS)?),
            3 => Change::File(self.of(CONTENTS)?),
            4 => Change::Directory,
            5 => Change::Fifo,
            6 => Change::Device,
            7 => Change::Large,
            8 => Change::Remove,
            9 => Change::Tmpfs,
            10 => Change::Mode(u16::from(self.byte()?) << 4),
            _ => Change::Exchange(self.of(places)?),
        };
        Some(Edit { below, at, change })
    }
}
