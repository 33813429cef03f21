//! Putting the assembled tree in place of the physical root.
//!
//! With `MOVE_MOUNT_BENEATH` the tree goes under the mount that is to disappear, and there is no
//! instant in which the place is empty. Where the kernel refuses that, the old mount is taken off
//! first; a copy of it, made before, is kept at [`REFUGE`] until the new one is on, for us to put back
//! should that fail, and for the next run should we be killed.

use super::clone::private_tree;
use super::detached::Detached;
use crate::error::{Class, Error, Result, describe, printable};
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use crate::mountinfo::{self, Mount};
use crate::run::unfinished::MountId;
use crate::syscall::{self, Attributes, Propagation};
use crate::sysroot::Sysroot;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

/// Where a copy of the physical root is mounted while nothing is at its place.
const REFUGE: &CStr = c"/run/ostree/.private/physical-root";

/// Puts the detached `tree` where `sysroot` is mounted. `root`: which mount that is.
///
/// # Errors
/// [`Class::Mount`]: the physical root is mounted as before. [`Class::Undo`]: it is not, and
/// [`recover`](super::recover()) can do something about it.
pub fn swap(tree: &Detached, root: MountId, sysroot: &Sysroot, kernel: Kernel) -> Result<()> {
    if kernel.has(Ability::Beneath) {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_BENEATH;
        match rustix::mount::move_mount(tree, c"", sysroot.handle(), c"", flags) {
            Ok(()) => return uncover(root, &sysroot.path, sysroot.has_mounts_below()),
            Err(Errno::INVAL) => log::debug!("this kernel mounts nothing beneath {sysroot}"),
            Err(errno) => {
                return Err(Error::errno(
                    Class::Mount,
                    format!("mount the new root beneath {sysroot}"),
                    errno,
                ));
            }
        }
    }
    replace(tree, sysroot)
}

/// How many mounts may be on top of the new root: one, and what somebody adds meanwhile.
const COVERS: usize = 8;

/// Takes whatever is mounted on top of the new root off it. `laden`: the first of them may have others below it.
///
/// # Errors
/// [`Class::Undo`]: it is still covered.
pub fn uncover(root: MountId, path: &[u8], mut laden: bool) -> Result<()> {
    let fail = |errno| {
        let path = printable(path);
        let hint =
            "the physical root is what is seen there, and the new root is hidden beneath it: run this again";
        Error::errno(Class::Undo, format!("detach {path} from above the new root"), errno).hint(hint)
    };
    for _ in 0..COVERS {
        if laden {
            detach(path).map_err(fail)?;
        } else {
            unmount(path).map_err(fail)?;
        }
        laden = true;
        if MountId::at(path).or_else(|_| MountId::at(path)).map_err(fail)? == root {
            return Ok(());
        }
    }
    Err(fail(Errno::BUSY))
}

/// Takes the old mount off and puts the new one on.
fn replace(tree: &Detached, sysroot: &Sysroot) -> Result<()> {
    let fail = |operation: &str, errno| Error::errno(Class::Mount, format!("{operation} {sysroot}"), errno);
    let place = Place::of(&sysroot.path).map_err(|errno| fail("open the directory of", errno))?;
    // Private: in the same peer group, it would lose its submounts together with the original.
    let old = private_tree(sysroot.handle()).map_err(|errno| fail("make a copy of", errno))?;
    let refuge = Refuge::new(&old).map_err(|errno| fail("keep a copy of", errno))?;
    let before = detach(&sysroot.path).map_err(|errno| fail("detach", errno))?;
    let Err(errno) = place.put(tree) else { return Ok(()) };
    let put_back = || {
        let old = private_tree(&old)?;
        place.put(&old)?;
        restore_propagation(&old, &before);
        Ok(())
    };
    match put_back() {
        Ok(()) => Err(fail("mount the new root at", errno)),
        Err(again) => {
            refuge.leave();
            let found = format!("{}; putting the physical root back: {}", describe(errno), describe(again));
            let hint = format!("nothing is mounted at {sysroot} now: run this again");
            Err(Error::found(Class::Undo, format!("mount the new root at {sysroot}"), found).hint(hint))
        }
    }
}

/// Where the physical root is mounted, to be found when it is not.
pub struct Place<'a> {
    parent: OwnedFd,
    name: &'a [u8],
}

impl Place<'_> {
    /// Takes an absolute path without symbolic links.
    pub fn of(path: &[u8]) -> rustix::io::Result<Place<'_>> {
        let slash = path.iter().rposition(|&byte| byte == b'/').ok_or(Errno::INVAL)?;
        let (parent, name) = (&path[..slash.max(1)], &path[slash + 1..]);
        if name.is_empty() {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Place { parent: rustix::fs::openat(CWD, parent, flags, Mode::empty())?, name })
    }

    /// Mounts a detached tree there.
    ///
    /// # Errors
    /// As `move_mount(2)`.
    pub fn put(&self, tree: impl AsFd) -> rustix::io::Result<()> {
        rustix::mount::move_mount(tree, c"", &self.parent, self.name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }
}

/// The copy of the physical root at [`REFUGE`]. Dropped, it is taken off.
pub struct Refuge(());

impl Refuge {
    fn new(copy: &OwnedFd) -> rustix::io::Result<Refuge> {
        match rustix::fs::mkdirat(CWD, REFUGE, Mode::empty()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let refuge = Refuge(());
        rustix::mount::move_mount(copy, c"", CWD, REFUGE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(refuge)
    }

    /// The one that a run left behind which was killed, if there is one: its root directory.
    ///
    /// # Errors
    /// As `open(2)`, `statx(2)`, except that it is not there.
    pub fn left() -> rustix::io::Result<Option<(Refuge, OwnedFd)>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = lookup::if_there(rustix::fs::openat(CWD, REFUGE, flags, Mode::empty()))?;
        let Some(copy) = opened else { return Ok(None) };
        let refuge = Refuge(());
        // Else it is only the directory, which goes now.
        Ok(if lookup::is_mount_point(copy.as_fd())? { Some((refuge, copy)) } else { None })
    }

    /// It stays, for the next run.
    pub fn leave(self) {
        core::mem::forget(self);
    }
}

impl Drop for Refuge {
    /// What cannot be taken off is logged: it does no harm but to be seen.
    fn drop(&mut self) {
        let unmount = || match rustix::mount::unmount(REFUGE, UnmountFlags::DETACH) {
            // Nothing is mounted there.
            Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            unmounted => unmounted,
        };
        match unmount().or_else(|_| unmount()).and_then(|()| rustix::fs::rmdir(REFUGE)) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => log::warn!(
                "take the copy of the physical root off {}: {}",
                REFUGE.to_string_lossy(),
                describe(errno)
            ),
        }
    }
}

/// Detaches the topmost mount at a path. (There is no way to take off one below it: the call follows even
/// a handle to what is mounted on top.) Returns what is lost with it.
fn detach(path: &[u8]) -> rustix::io::Result<Vec<Propagating>> {
    let before = part_from_peers(path).unwrap_or_else(|errno| {
        log::warn!("set the propagation of the physical root before it is taken off: {}", describe(errno));
        Vec::new()
    });
    unmount(path)?;
    Ok(before)
}

/// If that fails it is tried again, since there is no other way.
fn unmount(path: &[u8]) -> rustix::io::Result<()> {
    let unmount = || rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    unmount().or_else(|_| unmount())
}

/// A mount of the physical root: its place below it, and whether it was shared.
type Propagating = (Vec<u8>, bool);

/// Makes the mounts at and below a path private that have peers elsewhere in our namespace, such as a `/dev` that is
/// mounted there too. Else what is mounted in them would disappear there as well. Returns what they were
/// before.
fn part_from_peers(path: &[u8]) -> rustix::io::Result<Vec<Propagating>> {
    let mounts = mountinfo::read()?;
    let mut tree = vec![MountId::at(path)?.number];
    let mut known = 0;
    while known < tree.len() {
        let parent = tree[known];
        tree.extend(mounts.iter().filter(|mount| mount.parent == parent).map(|mount| mount.number));
        known += 1;
    }
    let (inside, outside): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| tree.contains(&mount.number));
    let below = |mount: &&Mount| {
        let rest = mount.place.strip_prefix(path)?;
        Some((rest.strip_prefix(b"/").unwrap_or(rest).to_vec(), mount.group.is_some()))
    };
    let before = inside.iter().filter_map(below).collect();
    for mount in inside {
        let is_peer = |other: &&Mount| mount.group.is_some() && other.group == mount.group;
        if !outside.iter().any(is_peer) {
            continue;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, mount.place.as_slice(), flags, Mode::empty())?;
        let private = Attributes { readonly: None, propagation: Some(Propagation::Private) };
        syscall::mount_setattr(&opened, false, private)?;
    }
    Ok(before)
}

/// Gives the mounts of a tree their propagation back. Attached below a shared mount, all became shared, with
/// the copies in other namespaces as peers, which those that were shared before must keep.
fn restore_propagation(tree: &OwnedFd, before: &[Propagating]) {
    for (place, shared) in before {
        let propagation = if *shared { Propagation::Shared } else { Propagation::Private };
        let attributes = Attributes { readonly: None, propagation: Some(propagation) };
        let restored = lookup::open_beneath(tree.as_fd(), place, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|mount| syscall::mount_setattr(&mount, false, attributes));
        if let Err(errno) = restored {
            log::warn!("set the propagation of /{}: {}", place.escape_ascii(), describe(errno));
        }
    }
}

/// Gives every mount of the new root its propagation: attached below a shared mount, all became shared.
/// `shared`: the places of those that are to be. The new root is in place; a failure here is logged and
/// does not fail the boot.
pub fn settle_propagation<'a>(tree: impl AsFd, shared: impl IntoIterator<Item = &'a [u8]>) {
    let set = |mount: BorrowedFd<'_>, recursive, propagation| {
        let attributes = Attributes { readonly: None, propagation: Some(propagation) };
        syscall::mount_setattr(mount, recursive, attributes)
    };
    let tree = tree.as_fd();
    let settled = set(tree, true, Propagation::Private).and_then(|()| {
        shared.into_iter().try_for_each(|place| {
            let mount = lookup::open_beneath(tree, place, OFlags::PATH | OFlags::DIRECTORY)?;
            set(mount.as_fd(), false, Propagation::Shared)
        })
    });
    if let Err(errno) = settled {
        log::warn!("set the propagation of the new root: {}", describe(errno));
    }
}
