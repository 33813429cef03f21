//! Making the new root the root directory of process 1, and letting go of the old one.

use crate::error::{Class, Error, Result, describe, printable};
use crate::lookup;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, FsWord, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

/// What goes along: the running system wants to find in there what was found and made so far.
const ALONG: [&CStr; 4] = [c"/dev", c"/proc", c"/sys", c"/run"];

/// `f_type` of the file systems that an initramfs is in (`linux/magic.h`).
const RAMFS: FsWord = 0x8584_58f6;
const TMPFS: FsWord = 0x0102_1994;

/// Makes what is mounted at `new` the root directory. `/dev`, `/proc`, `/sys` and `/run` go along; the old root is gone afterwards,
/// and the memory of an initramfs is free.
///
/// # Errors
/// [`Class::Mount`]; nothing has changed.
pub fn switch(new: &[u8]) -> Result<()> {
    let what = || format!("make {} the root directory", printable(new));
    let fail = |errno| Error::errno(Class::Mount, what(), errno);
    // By handle: after the switch their paths lead elsewhere.
    let along: Vec<_> = ALONG.into_iter().filter_map(|place| Some((place, mount_at(place)?))).collect();
    let old = directory(CWD.as_fd(), c"/").map_err(fail)?;
    let new_root = rustix::fs::openat(CWD, new, DIRECTORY, Mode::empty()).map_err(fail)?;
    rustix::process::fchdir(&new_root).map_err(fail)?;
    // The old root goes on top of the new one, from where it can be taken off: pivot_root(2), NOTES.
    let pivoted = match rustix::process::pivot_root(c".", c".") {
        Ok(()) => true,
        // The root that the kernel began with cannot be moved; from Linux 7.0 on an initramfs is no longer in that.
        Err(Errno::INVAL) => false,
        Err(errno) => return Err(fail(errno)),
    };
    if !pivoted {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&new_root, c"", CWD, c"/", flags).map_err(fail)?;
        rustix::process::chroot(c".").map_err(fail)?;
    }
    for (place, mount) in along {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        if let Err(errno) = rustix::mount::move_mount(mount, c"", CWD, place, flags) {
            log::warn!("take {} along to the new root: {}", printable(place.to_bytes()), describe(errno));
        }
    }
    let let_go =
        if pivoted { rustix::mount::unmount(c".", UnmountFlags::DETACH) } else { empty_initramfs(&old) };
    if let Err(errno) = let_go {
        log::warn!("let go of the old root: {}", describe(errno));
    }
    // In case its place was made in what went along.
    let _ = rustix::fs::unlinkat(CWD, new, AtFlags::REMOVEDIR);
    rustix::process::chdir(c"/").map_err(fail)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn directory(parent: rustix::fd::BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// The mount at a path, if there is one.
fn mount_at(place: &CStr) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(CWD, place, flags, Mode::empty()).ok()?;
    lookup::is_mount_point(handle.as_fd()).ok()?.then_some(handle)
}

/// Removes all files of the initramfs: nobody can reach them any more, and they are in memory.
fn empty_initramfs(root: &OwnedFd) -> rustix::io::Result<()> {
    let kind = rustix::fs::fstatfs(root)?.f_type;
    // It would be a disk.
    if kind != RAMFS && kind != TMPFS {
        return Err(Errno::NOTSUP);
    }
    empty(root, rustix::fs::fstat(root)?.st_dev, 0)
}

/// How deep directories of an initramfs are looked into.
const DEPTH: u32 = 64;

/// Removes what is in a directory and on that device; what cannot be removed stays.
fn empty(parent: &OwnedFd, device: u64, depth: u32) -> rustix::io::Result<()> {
    for entry in Dir::read_from(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
            continue;
        }
        let Ok(child) = directory(parent.as_fd(), name) else { continue };
        if depth < DEPTH && rustix::fs::fstat(&child)?.st_dev == device {
            empty(&child, device, depth + 1)?;
            let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}
