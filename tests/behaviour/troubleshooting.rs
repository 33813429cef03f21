//! `docs/troubleshooting.md`: every message in it is seen here, and there is none that is not.

use crate::refusals;
use crate::scene::Scene;
use crate::setting::*;
use crate::signed;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::kernel;
use crate::support::promises::{exited, same};
use crate::support::sandbox::{Edit, Ground, Ran, Run, SYSROOT, Sandbox};
use crate::support::sysroots::{Disks, Kind};
use crate::support::trials::{ignorable, trial};
use crate::support::ways::WAYS;
use libtest_mimic::{Completion, Trial};

const DOCUMENT: &str = include_str!("../../docs/troubleshooting.md");

/// An entry of the document.
struct Entry {
    heading: &'static str,
    status: i32,
    seen: Seen,
}

/// How its message comes to be seen.
enum Seen {
    /// In this scene of [`refusals`].
    Refused(&'static str),
    /// In this case of [`signed`].
    Signed(&'static str),
    /// In a scene.
    In(fn() -> Result<Scene>),
    /// In a scene when calls fail as strace(1) is told.
    Injected(&'static [&'static str], fn() -> Result<Scene>),
    /// When that call fails with that error in the scene.
    Failing(&'static str, &'static str, fn() -> Result<Scene>),
    /// When the calls fail from one on.
    FailingOn(&'static str, &'static str, fn() -> Result<Scene>),
    /// By the run after one that was killed at that call.
    AfterKill(&'static str),
    /// There is no message.
    Symptom(fn() -> Result<()>),
}

use Seen::{AfterKill, Failing, FailingOn, In, Injected, Refused, Signed, Symptom};

const LEFT: &str = "/run/ostree/.private/unfinished";

const READONLY: &str = "[sysroot]\nreadonly=true\n[var]\nmount=true\n";
const IMAGE: &str = "[composefs]\nenabled=yes\n";
const FORGETFUL: &str = "[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=16M\n\
    [etc]\ntransient=true\n[var]\ntransient=true\n";

const fn entry(heading: &'static str, status: i32, seen: Seen) -> Entry {
    Entry { heading, status, seen }
}

const ENTRIES: &[Entry] = &[
    // The kernel command line.
    entry("there is no ostree= argument", 4, Refused("no ostree=")),
    entry("the ostree= argument is empty", 4, Refused("ostree= is empty")),
    entry("androidboot.slot_suffix=VALUE is neither _a nor _b", 4, Refused("unknown slot")),
    entry(
        "read the kernel command line: ostree.prepare-root.NAME=VALUE is none of ...",
        4,
        Refused("unknown value of a kernel argument"),
    ),
    entry("read /proc/cmdline: ...", 4, Failing("openat", "ENOENT", no_cmdline)),
    entry(
        "find ostree.prepare-root.deployment=VALUE: none of NUMBER deployments is meant",
        7,
        Refused("no deployment with that index"),
    ),
    entry(
        "find ostree.prepare-root.deployment=VALUE: NUMBER deployments can be meant",
        7,
        Refused("two deployments with that checksum"),
    ),
    entry(
        "ostree= is given more than once: using the first (PATH), ignoring ...",
        0,
        In(|| arguments("ostree=/other")),
    ),
    entry("a quote before ostree=PATH is not closed: taking it all the same", 0, In(unclosed_quote)),
    entry("there is no kernel argument NAME", 0, In(|| arguments("ostree.prepare-root.etc.transiant=1"))),
    entry(
        "the kernel argument NAME is ignored: is ostree.prepare-root.NAME meant?",
        0,
        In(|| arguments("ostree.prepare_root.debug")),
    ),
    entry(
        "the kernel argument NAME is ignored: only the configuration file can set that",
        0,
        In(|| arguments("ostree.prepare-root.composefs.keypath=/key")),
    ),
    entry("the kernel argument ... is ignored: FILE says [overrides] kernel-arguments=safe", 0, In(locked)),
    entry(
        "ostree.prepare-root.log=VALUE is none of debug, info, warn, error: ignored",
        0,
        In(|| arguments("ostree.prepare-root.log=loud")),
    ),
    entry("ostree.prepare-root.break=VALUE is neither before nor after: ignored", 1, In(break_at)),
    // The configuration.
    entry("read /etc/ostree/prepare-root.conf: ...", 5, Refused("the configuration is a directory")),
    entry("parse FILE: it is not UTF-8 text", 5, Refused("configuration in Latin-1")),
    entry(
        "parse FILE: line NUMBER is not a [group], a key=value in a group, or a # comment",
        5,
        Refused("malformed configuration"),
    ),
    entry(
        "parse FILE: [SECTION] KEY=VALUE is none of ...",
        5,
        Refused("configuration with an unknown value"),
    ),
    entry(
        "obey FILE: ... and ... exclude each other",
        5,
        Refused("transient /var that is not to be mounted"),
    ),
    entry(
        "plan the new root: [root] transient=true needs composefs, and [composefs] enabled is no",
        5,
        Refused("transient root without composefs"),
    ),
    entry(
        "plan the new root: [root] ...=true needs composefs, and [composefs] enabled=maybe finds no image in this deployment",
        5,
        Refused("transient root, and maybe composefs, and no image"),
    ),
    entry("FILE: there is no section [NAME]: KEY is ignored", 0, In(|| configured("[sysrot]\nreadonly=1\n"))),
    entry("FILE: [SECTION] has no key KEY: ignored", 0, In(|| configured("[sysroot]\nread-only=1\n"))),
    entry(
        "FILE: [SECTION] transient-size has no effect without transient=true",
        0,
        In(|| configured("[etc]\ntransient-size=1G\n")),
    ),
    entry(
        "[etc] transient=true has no effect without composefs and [sysroot] readonly=true",
        0,
        In(|| configured("[etc]\ntransient=true\n")),
    ),
    // The disk.
    entry(
        "open the physical root SYSROOT: No such file or directory (ENOENT)",
        6,
        Refused("SYSROOT does not exist"),
    ),
    entry("open the physical root SYSROOT: it is not a mount point", 6, Refused("SYSROOT is no mount point")),
    entry(
        "open the physical root /: this version cannot prepare / itself, as process 1 without an initramfs",
        9,
        Refused("SYSROOT is /"),
    ),
    entry(
        "find the path of the physical root in /proc/self/fd: ...",
        6,
        Failing("readlink,readlinkat", "ENOENT", plain),
    ),
    entry(
        "SYSROOT already is the root of another deployment, and this would be NAME",
        6,
        In(second_deployment),
    ),
    entry("follow LINK: I/O error (EIO)", 6, Failing("openat2", "EIO", plain)),
    entry("look for /DIRECTORY in the deployment: ...", 8, Failing("openat2", "EIO", plain)),
    entry(
        "read ostree/repo/config: ...: taking [sysroot] readonly there as not set",
        0,
        In(|| on_disk(Edit::Fifo(format!("{SYSROOT}/ostree/repo/config")))),
    ),
    entry(
        "parse ostree/repo/config: ...: taking [sysroot] readonly there as not set",
        0,
        In(|| on_disk(file(&format!("{SYSROOT}/ostree/repo/config"), "garbage\n"))),
    ),
    entry("read PATH of the deployment: ...", 0, Failing("openat2", "EIO", plain)),
    // The deployment.
    entry("follow LINK: there is no such link: ...", 7, Refused("there is no such link")),
    entry("follow LINK: the link, which reads TEXT, points at nothing: ...", 7, Refused("the link dangles")),
    entry("follow LINK: it is not a symbolic link", 7, Refused("the target is a directory")),
    entry("follow LINK: ... leads outside the physical root: ...", 7, Refused("the link is absolute")),
    entry("follow LINK: ... runs in circles or through /proc: ...", 7, Refused("the link leads to itself")),
    entry("follow LINK: ... cannot be followed: ...", 7, Refused("a name that is too long")),
    entry("follow LINK: ... does not lead to a directory: ...", 7, Refused("the link leads to a file")),
    entry(
        "follow LINK: it leads to PATH, which is no deployment",
        7,
        Refused("the link leads to no deployment"),
    ),
    entry("open the deployment NAME: ...", 7, Failing("openat2", "EIO", chosen)),
    entry("prepare NAME: /DIRECTORY of the deployment is missing or no directory", 8, Refused("no usr")),
    entry(
        "prepare NAME: /ostree/deploy/STATEROOT/var of the physical root is missing or no directory",
        8,
        Refused("no var in the stateroot"),
    ),
    entry("open the deployment's DIRECTORY for PLACE: ...", 10, Failing("openat2", "EIO", plain)),
    entry("open the composefs image for /: ...", 8, Refused("no repository for the image")),
    entry("open the physical root's DIRECTORY for PLACE: ...", 8, Refused("no /boot to mount")),
    entry(
        "open the composefs image .ostree.cfs of NAME: there is none, and the configuration demands composefs",
        8,
        Refused("composefs without an image"),
    ),
    entry(
        "open the composefs image .ostree.cfs of NAME: it is not a composefs image",
        8,
        Refused("the image is something else"),
    ),
    entry(
        "open the composefs image .ostree.cfs of NAME: it is not a composefs image: its block size is impossible",
        8,
        Refused("an image with an impossible block size"),
    ),
    entry("open the composefs image .ostree.cfs of NAME: it is cut off: ... of ... bytes", 8, In(cut_off)),
    entry(
        "open the composefs image .ostree.cfs of NAME: Invalid argument (EINVAL)",
        8,
        Refused("the image is a FIFO"),
    ),
    entry("LINK does not exist, LINK does: booting ...", 0, In(other_boot_version)),
    entry(
        "falling back to NAME, which has the same kernel: [recovery] fallback=same-kernel",
        0,
        In(damaged_newest),
    ),
    entry("NAME was deployed with kernel ..., and ... is running: it may lack modules", 0, In(other_kernel)),
    entry(
        "the deployment has a hotfix layer for /usr, and nobody signed that: left out",
        0,
        Signed("a hotfix nobody signed"),
    ),
    entry(
        "the physical root is read-only: the hotfix layer of /usr is mounted read-only",
        0,
        In(readonly_hotfix),
    ),
    // Signatures.
    entry(
        "read the public keys FILE: there is no such key file in the initramfs",
        13,
        Refused("signed, and there is no key"),
    ),
    entry(
        "read the public keys FILE: it is on the disk whose contents it is to vouch for",
        5,
        Refused("the key is on the disk"),
    ),
    entry(
        "read the public keys FILE: it has no usable Ed25519 public key: ...",
        13,
        Refused("signed, and there is no usable key"),
    ),
    entry("read the public keys FILE: Invalid argument (EINVAL)", 13, Refused("the key file is a directory")),
    entry(
        "find the commit of the deployment: NAME is not called after a commit",
        13,
        Refused("signed, and the deployment is not called after a commit"),
    ),
    entry(
        "verify the commit CHECKSUM: the repository does not have it",
        13,
        Refused("signed, and the commit is gone"),
    ),
    entry("read SYSROOT/ostree/repo/objects/...: ...", 13, Refused("signed, and the commit is a FIFO")),
    entry(
        "verify the commit CHECKSUM: there is no commitmeta, where signatures are: it was never signed",
        13,
        Refused("signed, and nobody signed the commit"),
    ),
    entry(
        "verify the commit CHECKSUM: the commit has no Ed25519 signature",
        13,
        Signed("commitmeta without a signature"),
    ),
    entry(
        "verify the commit CHECKSUM: none of the commit's Ed25519 signatures (...) was made over these bytes by one of the trusted keys ...",
        13,
        Signed("the wrong key"),
    ),
    entry(
        "verify the commit CHECKSUM: it has no composefs digest (ostree.composefs.digest.v0)",
        13,
        Signed("a commit that names no image"),
    ),
    entry(
        "verify the composefs image of NAME: the fs-verity digest of the image is ..., the signed commit names ...",
        13,
        Signed("another image"),
    ),
    entry(
        "verify the composefs image of NAME: the image has no fs-verity digest: it was written without: ...",
        13,
        Signed("an image without fs-verity"),
    ),
    entry(
        "verify the composefs image of NAME: its file system has no fs-verity, see mkfs.ext4 -O verity: ...",
        13,
        Signed("a file system without fs-verity"),
    ),
    entry(
        "verify the composefs image of NAME: I/O error (EIO)",
        13,
        Signed("an image that cannot be measured"),
    ),
    entry("FILE: line NUMBER ...: passed over", 0, Signed("a malformed key, and the right one after it")),
    entry(
        "malformed signatures of the commit CHECKSUM: NUMBER, passed over",
        0,
        Signed("a signature that is none"),
    ),
    entry(
        "the file system at SYSROOT has no fs-verity, see mkfs.ext4 -O verity: reading files will fail with EIO: ...",
        0,
        Failing("ioctl", "ENOTTY", verity),
    ),
    // The kernel.
    entry("mount ...: the kernel has no ... file system (ENODEV)", 9, FailingOn("fsopen", "ENODEV", image)),
    entry("mount the composefs image: a loop device is needed: ...", 9, In(no_loop_device)),
    entry(
        "mount an overlay for /: overlayfs cannot check fs-verity digests: ...",
        9,
        FailingOn("fsconfig", "EINVAL", verity),
    ),
    // Mounts and /run.
    entry("mount an overlay for PLACE: ...", 10, FailingOn("fsconfig", "EIO", image)),
    entry("mount the composefs image: ...", 10, FailingOn("fsconfig", "EIO", image)),
    entry("mount a tmpfs on PATH: ...", 10, Failing("fsmount", "EIO", forgetful)),
    entry("mount a tmpfs for PLACE: ...", 10, Failing("fsmount", "EIO", forgetful)),
    entry("clone the mount for PLACE: ...", 10, Failing("open_tree", "EIO", plain)),
    entry("mount PLACE of the new root: ...", 10, Failing("move_mount", "EIO", plain)),
    entry("inspect the new root: ...", 10, Failing("statx", "EIO", plain)),
    entry("open the mount namespace /proc/self/ns/mnt: ...", 10, Failing("openat", "EIO", in_namespace)),
    entry("open /: ...", 10, Failing("openat", "EIO", in_namespace)),
    entry(
        "make a mount namespace to assemble the new root in: ...",
        10,
        Failing("unshare", "EPERM", in_namespace),
    ),
    entry(
        "make the mounts of our own namespace private: ...",
        10,
        Failing("mount_setattr", "EIO", in_namespace),
    ),
    entry(
        "attach a part of the new root in our own namespace: ...",
        10,
        Failing("move_mount", "EIO", in_namespace),
    ),
    entry("clone the assembled root: ...", 10, Failing("open_tree", "EIO", in_namespace)),
    entry("mount the new root beneath SYSROOT: ...", 10, Failing("move_mount", "EIO", plain)),
    entry("open the directory of SYSROOT: ...", 10, Failing("openat", "EIO", not_beneath)),
    entry("make a copy of SYSROOT: ...", 10, Failing("open_tree", "EIO", not_beneath)),
    entry("keep a copy of SYSROOT: ...", 10, Failing("move_mount", "EIO", not_beneath)),
    entry("detach SYSROOT: ...", 10, FailingOn("umount2", "EBUSY", not_beneath)),
    entry("mount the new root at SYSROOT: ...", 10, Failing("move_mount", "EIO", not_beneath)),
    entry("open the directory ... of a writable layer: ...", 10, Failing("openat2", "EIO", forgetful)),
    entry(
        "set owner and mode of the directory ... of a writable layer: ...",
        10,
        Failing("fchown,fchown32", "EPERM", forgetful),
    ),
    entry("copy PATH to the new /var: ...", 10, In(small_var)),
    entry("create /run/...: ...", 11, Failing("mkdir,mkdirat", "ENOSPC", plain)),
    entry("write /run/...: ...", 11, Failing("write", "ENOSPC", plain)),
    entry("keep /run/...: ...", 11, In(|| on_disk(Edit::Directory("/run/ostree-booted".into())))),
    entry("lock /run: ...", 11, Failing("flock", "ENOLCK", plain)),
    entry("remove /run/ostree/.private/unfinished: ...", 0, Failing("unlink,unlinkat", "EROFS", plain)),
    entry("open /run/ostree/...: ...", 11, Failing("openat", "EIO", forgetful)),
    entry(
        "create a directory for a transient layer in /run/ostree: File exists (EEXIST)",
        11,
        In(a_thousand_layers),
    ),
    entry(
        "read what an interrupted run has left to do: ...",
        11,
        In(|| on_disk(Edit::Directory(LEFT.into()))),
    ),
    entry("detach SYSROOT from above the new root: ...", 12, FailingOn("umount2", "EIO", plain)),
    entry(
        "mount the new root at SYSROOT: ...; putting the physical root back: ...",
        12,
        FailingOn("move_mount", "EIO", not_beneath),
    ),
    entry("return to the mount namespace of the caller: ...", 12, FailingOn("setns", "EPERM", in_namespace)),
    entry(
        "look for the root that an interrupted run made: ...",
        12,
        Failing("openat", "EIO", || interrupted("at 2f\nroot 1 2 3\n")),
    ),
    entry(
        "write down what to do about an interrupted run: ...",
        12,
        Failing("write", "ENOSPC", || interrupted("root 1 2 3\n")),
    ),
    entry(
        "put back the physical root that an interrupted run took off: ...",
        12,
        Failing("openat", "EIO", || interrupted("directory /run/none\n")),
    ),
    entry("an earlier run was interrupted: finished what it began", 0, AfterKill("unlink,unlinkat")),
    entry("an earlier run was interrupted: took back what it had made", 0, AfterKill("open_tree")),
    entry("set the propagation of the new root: ...", 0, Failing("mount_setattr", "EIO", plain)),
    entry(
        "label a writable layer: ...",
        0,
        Injected(&["getxattr:retval=4", "fsetxattr:error=EPERM"], forgetful),
    ),
    entry(
        "take back PATH: ...",
        11,
        Injected(&["rename,renameat,renameat2:error=EIO", "rmdir,unlinkat:error=EBUSY"], plain),
    ),
    entry(
        "take PATH off again: ...",
        11,
        Injected(&["rename,renameat,renameat2:error=EIO", "umount2:error=EBUSY"], forgetful),
    ),
    entry("take the copy of the physical root off PATH: ...", 0, FailingOn("umount2", "EIO", not_beneath)),
    // How it is run.
    entry("read the command line: ...", 2, In(misused)),
    entry("prepare the root: only root can mount; --dry-run needs no rights", 3, Refused("not root")),
    entry("SYSROOT already is the root that LINK names: nothing to do", 0, In(again)),
    // What is seen elsewhere.
    entry("The screen stays black, and the program says nothing", 0, Symptom(not_started)),
    entry("systemd-remount-fs.service fails, and the system is degraded", 0, Symptom(remount_fs)),
];

/// Refusals, and the argument that gets around them according to the document.
const REMEDIES: [(&str, &str); 11] = [
    ("unknown slot", "androidboot.slot_suffix=_a"),
    ("transient /var that is not to be mounted", "ostree.prepare-root.var.transient=0"),
    ("transient root without composefs", "ostree.prepare-root.root.transient=0"),
    ("transient root without composefs", "ostree.prepare-root.composefs=yes"),
    ("transient root, and maybe composefs, and no image", "ostree.prepare-root.root.transient-ro=0"),
    ("no var to mount on", "ostree.prepare-root.var.mount=false"),
    ("no boot to mount on", "ostree.prepare-root.boot.mount=false"),
    ("no /boot to mount", "ostree.prepare-root.boot.mount=false"),
    ("composefs without an image", "ostree.prepare-root.composefs=no"),
    ("no repository for the image", "ostree.prepare-root.composefs=no"),
    ("no ostree=", "ostree.prepare-root.deployment=0"),
];

fn remedy(name: &str, argument: &str) -> Result<()> {
    // Of a key that the entry has only as an example, it has the form.
    let (_, key) = argument.rsplit_once('.').unwrap_or_default();
    let general = format!("ostree.prepare-root.SECTION.{}", key.replace("transient", "KEY"));
    let known =
        DOCUMENT.contains(argument) || DOCUMENT.contains(&general) || argument.contains("deployment=");
    same("is it in the document", &[true], &[known])?;
    let (mut scene, status) = refusals::scene(name)?;
    exited(&run(scene.sandbox(false)?)?, status)?;
    // In front: the first of several counts.
    scene.cmdline = format!("{argument} {}", scene.cmdline);
    exited(&run(scene.sandbox(false)?)?, 0)
}

pub fn troubleshooting() -> Vec<Trial> {
    let mut trials: Vec<Trial> = ENTRIES
        .iter()
        .map(|entry| ignorable(format!("troubleshooting: {}", entry.heading), move || entry.check()))
        .collect();
    for (name, argument) in REMEDIES {
        trials.push(trial(format!("troubleshooting: {name}: {argument} boots"), move || {
            remedy(name, argument)
        }));
    }
    trials.push(Trial::test("troubleshooting: the document has these entries and no others", || {
        Ok(complete()?)
    }));
    trials
}

/// The entries of the document: its headings of the third rank.
fn headings() -> impl Iterator<Item = &'static str> {
    DOCUMENT.lines().filter_map(|line| line.strip_prefix("### ")).map(|heading| heading.trim_matches('`'))
}

fn complete() -> Result<()> {
    let expected: Vec<_> = ENTRIES.iter().map(|entry| entry.heading).collect();
    same("entries", &expected, &headings().collect::<Vec<_>>())?;
    let vague: Vec<_> =
        ENTRIES.iter().map(|entry| entry.heading).filter(|heading| letters(heading) < 8).collect();
    same("headings that would match anything", &[], &vague)
}

/// How many letters of a heading must be in a message.
fn letters(heading: &str) -> usize {
    pieces(heading).map(str::len).sum()
}

/// What must be in a message, in this order: the text between `...` and words in capitals, which stand
/// for anything.
fn pieces(heading: &str) -> impl Iterator<Item = &str> {
    let mut rest = heading;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = match placeholder(rest) {
            Some((start, end)) => (&rest[..start], &rest[end..]),
            None => (rest, ""),
        };
        rest = after;
        Some(piece)
    })
    .filter(|piece| !piece.is_empty())
}

/// Where the first placeholder is.
fn placeholder(text: &str) -> Option<(usize, usize)> {
    const NAMES: [&str; 15] = [
        "...",
        "CHECKSUM",
        "DIRECTORY",
        "FILE",
        "KEY",
        "LINK",
        "NAME",
        "NUMBER",
        "PATH",
        "PLACE",
        "SECTION",
        "STATEROOT",
        "SYSROOT",
        "TEXT",
        "VALUE",
    ];
    NAMES
        .iter()
        .filter_map(|name| Some((text.find(name)?, name.len())))
        .min()
        .map(|(at, length)| (at, at + length))
}

/// Whether a line of the text is the message.
fn says(text: &str, heading: &str) -> bool {
    text.lines().any(|line| {
        let mut rest = line;
        pieces(heading).all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    })
}

/// Only seen where the new root goes beneath the physical root.
const BENEATH: [&str; 2] =
    ["mount the new root beneath SYSROOT: ...", "detach SYSROOT from above the new root: ..."];

/// Running the program again is said to help.
const AGAIN: [&str; 2] = [
    "detach SYSROOT from above the new root: ...",
    "mount the new root at SYSROOT: ...; putting the physical root back: ...",
];

const TRACE: &str = "/tmp/trace";

impl Entry {
    fn check(&self) -> Result<Completion> {
        let strace = match strace() {
            Some(strace) => strace?,
            None => return Ok(Completion::ignored_with("there is no strace")),
        };
        if BENEATH.contains(&self.heading) && !kernel::mounts_beneath()? {
            return Ok(Completion::ignored_with("this kernel mounts nothing beneath"));
        }
        let ran = match &self.seen {
            Refused(name) => {
                let (scene, status) = refusals::scene(name)?;
                same("exit status", &[self.status], &[status])?;
                run(scene.sandbox(false)?)?
            }
            Signed(name) => {
                let setting = Setting { shared: false, way: &WAYS[0] };
                let (mut sandbox, _) = signed::sandbox(name, setting, &strace)?;
                sandbox.runs.truncate(1);
                run(sandbox)?
            }
            In(scene) => run(scene()?.sandbox(false)?)?,
            Injected(calls, scene) => {
                let inject: Vec<_> = calls.iter().map(|call| format!("inject={call}")).collect();
                run(injected(&scene()?, &strace, &inject)?)?
            }
            Failing(call, error, scene) => self
                .search(&scene()?, &strace, |number| format!("inject={call}:error={error}:when={number}"))?,
            FailingOn(call, error, scene) => self
                .search(&scene()?, &strace, |number| format!("inject={call}:error={error}:when={number}+"))?,
            AfterKill(call) => self.search_kill(&strace, call)?,
            Symptom(check) => return check().map(|()| Completion::Completed),
        };
        self.compare(&ran).map(|()| Completion::Completed)
    }

    fn compare(&self, ran: &Ran) -> Result<()> {
        if self.status == 0 && ran.status == Some(9) && !kernel::checks_digests()? {
            // All is well, but for the kernel, which is older than what is asked of it.
            return self.is_seen(ran);
        }
        exited(ran, self.status)?;
        self.is_seen(ran)
    }

    fn is_seen(&self, ran: &Ran) -> Result<()> {
        if says(&ran.stderr, self.heading) || says(&ran.stdout, self.heading) {
            return Ok(());
        }
        Err(format!("it does not say {:?}:\n{}{}", self.heading, ran.stdout, ran.stderr))
    }

    /// Lets the first, second, ... call fail, until the message is seen.
    fn search(&self, scene: &Scene, strace: &[String], inject: impl Fn(usize) -> String) -> Result<Ran> {
        for number in 1.. {
            let mut sandbox = injected(scene, strace, &[inject(number)])?;
            sandbox.runs.extend(AGAIN.contains(&self.heading).then(|| Run::of(scene.command())));
            let mut runs = job::run(sandbox)?.runs.into_iter();
            let ran = runs.next().context("run the program")?;
            if self.compare(&ran).is_ok() {
                runs.next().map_or(Ok(()), |again| exited(&again, 0))?;
                return Ok(ran);
            }
            if !ran.files.get(TRACE).context("trace the program")?.contains("(INJECTED)") {
                return Err(format!("{number} calls failed, and it never said {:?}", self.heading));
            }
        }
        Err("there is no end".into())
    }

    /// Kills a run at the first, second, ... call, until the next one has something to say.
    fn search_kill(&self, strace: &[String], call: &str) -> Result<Ran> {
        for number in 1.. {
            let scene = plain()?;
            let inject = format!("inject={call}:signal=SIGKILL:when={number}");
            let mut sandbox = injected(&scene, strace, &[inject])?;
            sandbox.runs.push(Run::of(scene.command()));
            let outcome = job::run(sandbox)?;
            let [killed, next] = &outcome.runs[..] else { return Err("not two runs".into()) };
            if killed.status.is_some() {
                return Err(format!("it was killed {} times, and the next run said nothing", number - 1));
            }
            if self.compare(next).is_ok() {
                return Ok(next.clone());
            }
        }
        Err("there is no end".into())
    }
}

/// The last run in a sandbox.
fn run(sandbox: Sandbox) -> Result<Ran> {
    job::run(sandbox)?.runs.pop().context("run the program")
}

/// A scene in which strace runs the program.
fn injected(scene: &Scene, strace: &[String], inject: &[String]) -> Result<Sandbox> {
    let mut sandbox = scene.sandbox(false)?;
    let options = ["-f", "-qq", "-o", TRACE].map(str::to_owned);
    let inject: Vec<_> = inject.iter().flat_map(|inject| ["-e".to_owned(), inject.clone()]).collect();
    let last = sandbox.runs.last_mut().context("find the run")?;
    last.arguments = [strace, &options, &inject, &last.arguments].concat();
    sandbox.collect.push(TRACE.into());
    Ok(sandbox)
}

fn configured(config: &str) -> Result<Scene> {
    let mut scene = Scene::new()?;
    scene.config(config);
    Ok(scene)
}

/// All kinds of mounts that need no image.
fn plain() -> Result<Scene> {
    Ok(configured(READONLY)?.uncopied())
}

fn image() -> Result<Scene> {
    Ok(configured(IMAGE)?.uncopied())
}

fn verity() -> Result<Scene> {
    Ok(configured("[composefs]\nenabled=verity\n[systemd]\nvolatile-root=false\n")?.uncopied())
}

fn forgetful() -> Result<Scene> {
    Ok(configured(FORGETFUL)?.uncopied())
}

fn not_beneath() -> Result<Scene> {
    Ok(Scene { way: &WAYS[1], ..plain()? })
}

fn in_namespace() -> Result<Scene> {
    Ok(Scene { way: &WAYS[2], ..plain()? })
}

fn arguments(more: &str) -> Result<Scene> {
    let mut scene = plain()?;
    scene.cmdline += &format!(" {more}");
    Ok(scene)
}

fn on_disk(edit: Edit) -> Result<Scene> {
    let mut scene = Scene::new()?;
    scene.edits.push(edit);
    Ok(scene)
}

fn no_cmdline() -> Result<Scene> {
    Ok(Scene { arguments: Some(vec![SYSROOT.into()]), ..plain()? })
}

fn unclosed_quote() -> Result<Scene> {
    let scene = plain()?;
    Ok(Scene { cmdline: format!("dyndbg=\"file {}", scene.cmdline), ..scene })
}

fn locked() -> Result<Scene> {
    let mut scene = arguments("ostree.prepare-root.sysroot.readonly=0")?;
    scene.config("[sysroot]\nreadonly=true\n[overrides]\nkernel-arguments=safe\n");
    Ok(scene)
}

fn break_at() -> Result<Scene> {
    let arguments = ["--break-at", "before", "ostree.prepare-root.break=now"].map(str::to_owned);
    Ok(Scene { arguments: Some(arguments.to_vec()), ..plain()? })
}

fn misused() -> Result<Scene> {
    Ok(Scene { arguments: Some(vec!["--frobnicate".into()]), ..plain()? })
}

/// A disk with two deployments, of which the first is prepared already.
fn second_deployment() -> Result<Scene> {
    let scene = Scene::on(Kind { deployments: 2, ..Kind::PLAIN })?.uncopied();
    let (other, _) = scene.names(1);
    Ok(Scene { before: vec![scene.cmdline.clone()], cmdline: format!("ostree={other}"), ..scene })
}

fn again() -> Result<Scene> {
    let scene = plain()?;
    Ok(Scene { before: vec![scene.cmdline.clone()], ..scene })
}

fn chosen() -> Result<Scene> {
    arguments("ostree.prepare-root.deployment=0")
}

fn cut_off() -> Result<Scene> {
    let mut scene = configured(IMAGE)?;
    let (_, deployment) = scene.names(0);
    let image =
        std::fs::read(disk()?.mounted.join(deployment).join(".ostree.cfs")).context("read the image")?;
    scene.edits.push(Edit::File(scene.image(), image[..image.len() / 2].to_vec()));
    Ok(scene)
}

/// The boot entry names the boot version before the last.
fn other_boot_version() -> Result<Scene> {
    let scene = plain()?;
    let cmdline = match scene.cmdline.contains("/boot.0/") {
        true => scene.cmdline.replace("/boot.0/", "/boot.1/"),
        false => scene.cmdline.replace("/boot.1/", "/boot.0/"),
    };
    Ok(Scene { cmdline, ..scene })
}

fn damaged_newest() -> Result<Scene> {
    let mut scene = Scene::on(Kind { deployments: 2, ..Kind::PLAIN })?;
    scene.config("[recovery]\nfallback=same-kernel\n");
    scene.remove("usr");
    Ok(scene)
}

fn other_kernel() -> Result<Scene> {
    let scene = plain()?;
    let cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0 ostree.prepare-root.deployment=0".into();
    Ok(Scene { cmdline, ..scene })
}

fn readonly_hotfix() -> Result<Scene> {
    let kind = Kind { hotfix: true, ..Kind::PLAIN };
    let mounted = Disks::get()?.disk(kind, false).mounted.clone();
    let ground = Some(Ground::Disk { mounted, readonly: true, hardened: false });
    Ok(Scene { ground, ..Scene::on(kind)? })
}

fn no_loop_device() -> Result<Scene> {
    Ok(Scene { loop_devices: false, ..configured(IMAGE)? })
}

fn small_var() -> Result<Scene> {
    let mut scene = configured("[var]\ntransient=true\ntransient-size=4k\n")?;
    let large = format!("{}/usr/share/factory/var/large", scene.deployment);
    scene.edits.push(Edit::File(large, vec![1; 65536]));
    Ok(scene)
}

fn a_thousand_layers() -> Result<Scene> {
    let mut scene = forgetful()?;
    let private = "/run/ostree/.private/root";
    scene.edits.push(Edit::Directory(private.into()));
    scene.edits.extend((1..1000).map(|number| Edit::Directory(format!("{private}.{number}"))));
    Ok(scene)
}

/// Notes of a run that was killed, and SYSROOT is not even a directory.
fn interrupted(notes: &str) -> Result<Scene> {
    let mut scene = plain()?;
    scene.edits.push(file(LEFT, notes));
    scene.sysroot = "/nowhere".into();
    Ok(scene)
}

/// Nothing asks for the program when there is no `ostree=`.
fn not_started() -> Result<()> {
    let unit = include_str!("../../dracut/40ostree/ostree-prepare-root.service");
    let hook = include_str!("../../dracut/40ostree/boot-ostree-deployment.sh");
    let conditions = [
        unit.lines().any(|line| line == "ConditionKernelCommandLine=|ostree"),
        hook.contains("\nif getarg ostree > /dev/null || getarg ostree.prepare-root.deployment"),
    ];
    same("conditions", &[true, true], &conditions)
}

fn remount_fs() -> Result<()> {
    const DROPIN: &str = "/run/systemd/system/systemd-remount-fs.service.d/50-ostree-prepare-root.conf file";
    let without = configured(&format!("{IMAGE}[systemd]\nremount-fs-dropin=false\n"))?.uncopied();
    for (scene, expected) in [(image()?, true), (without, false), (plain()?, false)] {
        let ran = run(scene.sandbox(false)?)?;
        exited(&ran, 0)?;
        let there = ran.after.run.iter().any(|entry| entry.starts_with(DROPIN));
        same("is there a drop-in", &[expected], &[there])?;
    }
    Ok(())
}
