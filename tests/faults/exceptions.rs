//! Where a disturbed run may end otherwise than with the same result or with everything as before.

use crate::disturbance::Disturbance;
use crate::support::sandbox::Ran;
use crate::view::View;

/// A difference from the undisturbed run that is right nevertheless.
pub struct Exception {
    /// How the run ended.
    pub end: &'static str,
    /// When it is right.
    pub covers: fn(&Disturbance, &Ran) -> bool,
    /// Takes the difference out of what was expected and of what was found.
    pub forgive: fn(&mut View, &mut View),
}

/// Of a run that succeeded.
pub const DIFFERENCES: [Exception; 4] = [
    // It is settled when the new root is in place already, and the system boots without.
    Exception {
        end: "succeeded but for propagation",
        covers: |_, ran| ran.stderr.contains("set the propagation of"),
        forgive: |expected, found| {
            for view in [expected, found] {
                view.mounts.iter_mut().chain(&mut view.peer).for_each(|row| row.propagation = "");
            }
        },
    },
    // What cannot be read about the generator is taken for not there, so that we mount /var and /boot, and keep what
    // is mounted over a soft-reboot.
    Exception {
        end: "succeeded as without a generator",
        covers: |disturbance, _| LOOKING.contains(&disturbance.call.name.as_str()),
        forgive: |expected, found| {
            for view in [&mut *expected, found] {
                view.run.retain(|entry| !KEPT.contains(&entry.split(' ').next().unwrap_or_default()));
            }
            for (expected, found) in
                [(&expected.mounts, &mut found.mounts), (&expected.peer, &mut found.peer)]
            {
                let added = |point: &str| !expected.iter().any(|row| row.point == point);
                found.retain(|row| {
                    !(["/sysroot/var", "/sysroot/boot"].contains(&row.point.as_str()) && added(&row.point))
                });
            }
        },
    },
    // The new root is in place. What could not be removed is said, and does not disturb the next run.
    Exception {
        end: "succeeded with a file or directory left",
        covers: |disturbance, ran| {
            disturbance.call.name == "unlinkat" && ran.stderr.starts_with("ostree-prepare-root: ")
        },
        forgive: |_, found| {
            found.run.retain(|entry| !LEFT.iter().any(|path| entry.split(' ').next() == Some(path)));
        },
    },
    // The newer way had already mounted the writable layer when it failed, and the kernel gives an
    // overlay an identity of its own only on a layer that is new.
    Exception {
        end: "succeeded with a used layer",
        covers: |disturbance, _| disturbance.is_of_older_kernels(),
        forgive: |expected, found| {
            for row in
                [expected, found].into_iter().flat_map(|view| view.mounts.iter_mut().chain(&mut view.peer))
            {
                row.super_options = row.super_options.replace(",uuid=on", "");
            }
        },
    },
];

/// The system calls by which the contents of the new root are looked at.
const LOOKING: [&str; 7] = ["openat2", "read", "pread64", "readlinkat", "fstat", "newfstatat", "statx"];

/// What keeps mounts over a soft-reboot, and the directories above it.
const KEPT: [&str; 6] = [
    "/run/systemd",
    "/run/systemd/system",
    "/run/systemd/system/boot.mount",
    "/run/systemd/system/sysroot.mount.d",
    "/run/systemd/system/sysroot.mount.d/50-ostree-prepare-root.conf",
    "/run/systemd/system/var.mount",
];

const LEFT: [&str; 3] = [
    "/run/ostree/.private/unfinished",
    "/run/ostree/.private/physical-root",
    "/run/ostree/.private/previous.ostree-booted",
];

/// The system calls by which memory is had and given back.
const MEMORY: [&str; 5] = ["mmap", "mremap", "munmap", "madvise", "brk"];

/// Whether a run may die: without memory there is not even a message. It is as if it was killed.
pub fn may_die(disturbance: &Disturbance) -> bool {
    MEMORY.contains(&disturbance.call.name.as_str())
}
