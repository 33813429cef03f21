//! Failures at every system call: afterwards everything is as it was, and running again works.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::mounts::Row;
use crate::support::promises::{exited, nothing_changed, nothing_changed_outside, same};
use crate::support::random::{without_random, without_random_rows};
use crate::support::sandbox::{Edit, Outcome, Ran, Run, SYSROOT, Sandbox};
use crate::support::trials::ignorable;
use crate::support::ways::Way;
use libtest_mimic::{Completion, Trial};

use crate::setting::*;

/// What is prepared.
#[derive(Clone, Copy, PartialEq)]
enum Root {
    /// The deployment's directory, on a read-only disk.
    Directory,
    /// And a transient `/etc`.
    TransientEtc,
    /// The image, with everything transient.
    Image,
}

impl Root {
    const ALL: [Root; 3] = [Root::Directory, Root::TransientEtc, Root::Image];

    fn name(self) -> &'static str {
        match self {
            Root::Directory => "",
            Root::TransientEtc => ", transient /etc",
            Root::Image => ", image with everything transient",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Root::Directory => "[sysroot]\nreadonly=true\n[var]\nmount=true\n",
            Root::TransientEtc => "[sysroot]\nreadonly=true\n[var]\nmount=true\n[etc]\ntransient=true\n",
            Root::Image => {
                "[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=16M\n\
                 [etc]\ntransient=true\n[var]\ntransient=true\n"
            }
        }
    }

    /// The system calls it needs besides.
    fn calls(self, way: &Way) -> Vec<&'static str> {
        const OVERLAY: [&str; 5] = ["fsopen", "fsconfig", "fsmount", "fchown,fchown32", "getxattr"];
        const IMAGE: [&str; 5] =
            ["pread64", "symlink,symlinkat", "getdents64", "flistxattr", "utimensat,utimensat_time64"];
        let overlay = if self == Root::Directory { &[][..] } else { &OVERLAY };
        let image = if self == Root::Image { &IMAGE[..] } else { &[] };
        let loop_device = self == Root::Image && way.without.contains(&"file-backed-erofs");
        let loop_device = if loop_device { &["ioctl"][..] } else { &[] };
        [overlay, image, loop_device].concat()
    }
}

/// The system calls of every way, those together that do the same.
const CALLS: [&str; 12] = [
    "open_tree",
    "mount_setattr",
    "move_mount",
    "umount2",
    "mkdir,mkdirat",
    "rename,renameat,renameat2",
    "open,openat",
    "openat2",
    "read",
    "write",
    "fstat,newfstatat,statx,fstatfs",
    "readlink,readlinkat",
];

/// Those that a new root assembled in a mount namespace needs besides.
const NAMESPACE_CALLS: [&str; 4] = ["unshare", "setns", "fchdir", "chroot"];

pub fn injections() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::all() {
        let namespace = if setting.way.is_in_namespace() { &NAMESPACE_CALLS[..] } else { &[] };
        for root in Root::ALL {
            for &call in CALLS.iter().chain(namespace).chain(&root.calls(setting.way)) {
                let name = format!("failing {call}{}: {}", root.name(), setting.name());
                trials.push(ignorable(name, move || fail_one_by_one(setting, root, call)));
            }
        }
        let name = format!("openat2 has to be tried again: {}", setting.name());
        trials.push(ignorable(name, move || try_again(setting)));
        let name = format!("failing move_mount, then all: {}", setting.name());
        trials.push(ignorable(name, move || fail_for_good(setting)));
    }
    trials
}

/// A sandbox in which the plan has all kinds of mounts.
fn full_plan(setting: Setting, root: Root) -> Result<Sandbox> {
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.loop_devices = true;
    sandbox.edits.push(file(CONFIG, root.config()));
    // The initramfs mounted something in the physical root, which must not get lost when we fail.
    sandbox.edits.push(Edit::Tmpfs(format!("{SYSROOT}/boot")));
    if setting.shared {
        // From an earlier boot stage, to be kept when we fail.
        sandbox.edits.push(file("/run/ostree-booted", "previous"));
    }
    sandbox.host = true;
    sandbox.collect.push(TRACE.into());
    Ok(sandbox)
}

const TRACE: &str = "/tmp/trace";

/// The product under strace, which lets `call` fail; `when` as in strace(1).
fn with_failure(strace: &[String], setting: Setting, call: &str, when: &str) -> Result<Run> {
    with_error(strace, setting, call, "EIO", when)
}

fn with_error(strace: &[String], setting: Setting, call: &str, error: &str, when: &str) -> Result<Run> {
    let inject = format!("inject={call}:error={error}:when={when}");
    let options = ["-f", "-qq", "-o", TRACE, "-e", &inject].map(str::to_owned);
    Ok(Run::of([strace, &options, &setting.way.command(&cmdline()?)].concat()))
}

/// Lets the first, second, ... `call` fail, until there are no more of them.
fn fail_one_by_one(setting: Setting, root: Root, call: &str) -> Result<Completion> {
    let Some(strace) = strace() else {
        return Ok(Completion::ignored_with("there is no strace"));
    };
    let strace = strace?;
    let mut sandbox = full_plan(setting, root)?;
    let run = setting.run(&cmdline()?);
    sandbox.runs = vec![run.clone()];
    let undisturbed = job::run(sandbox.clone())?;
    exited(&undisturbed.runs[0], 0)?;

    for number in 1.. {
        sandbox.runs = vec![with_failure(&strace, setting, call, &number.to_string())?, run.clone()];
        let outcome = job::run(sandbox.clone())?;
        let trace = outcome.runs[0].files.get(TRACE).context("trace the program")?;
        if !trace.contains("(INJECTED)") {
            // Or else nothing was tried.
            return if number > 1 {
                Ok(Completion::Completed)
            } else {
                Err(format!("{call} is never called"))
            };
        }
        after_a_failure(setting, call, &outcome, &undisturbed.runs[0])
            .context(format!("{call} number {number}"))?;
    }
    Ok(Completion::Completed)
}

/// What must hold after one system call failed, and after another, undisturbed run.
fn after_a_failure(setting: Setting, call: &str, outcome: &Outcome, undisturbed: &Ran) -> Result<()> {
    let [failed, again] = &outcome.runs[..] else { return Err("not two runs".into()) };
    let below = |ran: &Ran| without_random_rows(ran.after.mounts.below(SYSROOT));
    let beneath = setting.way.is_beneath()?;
    let run = |ran: &Ran| ran.after.run.iter().map(|entry| without_random(entry)).collect::<Vec<_>>();
    match failed.status {
        Some(0) => {
            nothing_changed_outside(&outcome.before, &failed.after)?;
            same("/run", &run(undisturbed), &run(failed))?;
            // Two exceptions, both of which boot: the propagation, settled when the new root is in
            // place already, with a warning; and what cannot be read about the generator is taken
            // for not there, so that we mount /boot.
            let unsettled = failed.stderr.contains("set the propagation of");
            let about_generator = ["openat2", "read"].contains(&call);
            let bare = |mut rows: Vec<Row>| {
                for row in rows.iter_mut().filter(|_| unsettled) {
                    row.propagation = "";
                }
                rows.retain(|row| !about_generator || row.point != "/boot");
                rows
            };
            same("mounts of the new root", &bare(below(undisturbed)), &bare(below(failed)))?;
        }
        // What cannot be taken off cannot be undone either.
        Some(12) if call == "umount2" && beneath => {
            nothing_changed_outside(&outcome.before, &failed.after)?;
            same("/run", &outcome.before.run, &failed.after.run)?;
            one_message(failed, &["detach /sysroot from above the new root", "(EIO)"])?;
        }
        Some(_) => {
            nothing_changed(&outcome.before, &failed.after)?;
            one_message(failed, &[])?;
            exited(again, 0)?;
            same("mounts of the second run", &below(undisturbed), &below(again))?;
            same("/run after the second run", &run(undisturbed), &run(again))?;
        }
        None => return Err(format!("it was killed: {}", failed.stderr)),
    }
    exited(again, 0)
}

/// Whatever is mounted or renamed anywhere on the machine meanwhile makes a lookup by `openat2(2)`
/// fail with EAGAIN.
fn try_again(setting: Setting) -> Result<Completion> {
    const TIMES: usize = 500;
    let Some(strace) = strace() else {
        return Ok(Completion::ignored_with("there is no strace"));
    };
    let mut sandbox = full_plan(setting, Root::Directory)?;
    sandbox.runs = vec![setting.run(&cmdline()?)];
    let undisturbed = job::run(sandbox.clone())?;
    sandbox.runs = vec![with_error(&strace?, setting, "openat2", "EAGAIN", &format!("1..{TIMES}"))?];
    let disturbed = job::run(sandbox)?;
    let trace = disturbed.runs[0].files.get(TRACE).context("trace the program")?;
    same("failures", &[TIMES], &[trace.matches("(INJECTED)").count()])?;
    exited(&disturbed.runs[0], 0)?;
    // What the initramfs mounted is another file system in another sandbox.
    let below = |outcome: &Outcome| {
        let rows = outcome.runs[0].after.mounts.below(SYSROOT).into_iter();
        rows.map(|row| Row { device: (0, 0), ..row }).collect::<Vec<_>>()
    };
    same("mounts", &below(&undisturbed), &below(&disturbed))?;
    Ok(Completion::Completed)
}

/// From some `move_mount` on all fail, so that the physical root cannot be put back either.
fn fail_for_good(setting: Setting) -> Result<Completion> {
    let Some(strace) = strace() else {
        return Ok(Completion::ignored_with("there is no strace"));
    };
    let strace = strace?;
    let beneath = setting.way.is_beneath()?;
    let mut sandbox = full_plan(setting, Root::Directory)?;
    for number in 1.. {
        sandbox.runs = vec![with_failure(&strace, setting, "move_mount", &format!("{number}+"))?];
        let outcome = job::run(sandbox.clone())?;
        let failed = &outcome.runs[0];
        let trace = failed.files.get(TRACE).context("trace the program")?;
        if !trace.contains("(INJECTED)") {
            exited(failed, 0)?;
            break;
        }
        if failed.status == Some(12) && !beneath {
            one_message(failed, &["mount the new root at /sysroot", "putting the physical root back"])?;
            same("mounts at /sysroot", &[], &failed.after.mounts.below(SYSROOT))?;
        } else {
            exited(failed, 10)?;
            nothing_changed(&outcome.before, &failed.after)?;
        }
    }
    Ok(Completion::Completed)
}
