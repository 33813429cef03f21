//! Joining the clones to one tree that is attached nowhere.
//!
//! Since Linux 6.15 a mount can be attached inside a detached tree. Before, that is EINVAL, and the
//! tree is assembled in a mount namespace of our own instead: private, gone without a trace if we
//! die, and cloned as a whole when it is complete. Either way nothing is visible until
//! [`swap`](super::swap).

use super::Disk;
use super::clone::{clone, private_tree};
use super::syscall::{self, Attributes, Propagation};
use crate::error::{Class, Error, Result};
use crate::lookup;
use crate::options::Kernel;
use crate::plan::{Plan, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::thread::LinkNameSpaceType;
use std::ffi::CStr;

/// Makes the tree: a detached mount with all others of the plan in it, every one private.
///
/// # Errors
/// As [`clone`], and [`Class::Mount`]. Nothing visible has changed.
pub fn assemble(plan: &Plan, disk: &Disk<'_>, kernel: Kernel) -> Result<OwnedFd> {
    // All clones are made first: inside another namespace the handles on the disk could not be
    // cloned any more.
    let mut pieces = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        pieces.push((step, clone(step, disk)?));
    }
    let mut pieces = pieces.into_iter();
    let Some((_, root)) = pieces.next() else {
        return Err(Error::found(Class::Mount, "assemble the new root", "the plan is empty"));
    };
    let mut scratch = None;
    if !kernel.detached_tree {
        scratch = Some(Scratch::enter(root.as_fd())?);
    }
    for (step, piece) in pieces {
        let mut attached = attach(root.as_fd(), piece.as_fd(), step);
        if attached == Err(Errno::INVAL) && scratch.is_none() {
            log::debug!("this kernel mounts nothing inside a detached tree: using a mount namespace");
            scratch = Some(Scratch::enter(root.as_fd())?);
            attached = attach(root.as_fd(), piece.as_fd(), step);
        }
        attached.map_err(|errno| {
            Error::errno(Class::Mount, format!("mount {} of the new root", step.place()), errno)
        })?;
    }
    match scratch {
        None => Ok(root),
        Some(scratch) => scratch.leave_with_copy(root.as_fd()),
    }
}

fn attach(root: BorrowedFd<'_>, piece: BorrowedFd<'_>, step: &Step) -> rustix::io::Result<()> {
    // The stateroot's var may be a link; beneath the root it may lead anywhere.
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let place = lookup::open_beneath(root, &step.at, flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(piece, c"", &place, c"", flags)
}

/// A mount namespace of our own. Dropping it leads back to where we were.
struct Scratch {
    /// The namespace we came from, and its root directory as we saw it; `setns` would give us the
    /// namespace's.
    home: (OwnedFd, OwnedFd),
    away: bool,
}

impl Scratch {
    /// Enters a new namespace, whose root is covered by the tree with the detached `root`.
    fn enter(root: BorrowedFd<'_>) -> Result<Scratch> {
        let fail = |operation: &str, errno| Error::errno(Class::Mount, operation, errno);
        let open = |path: &CStr, flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let what = "open the mount namespace /proc/self/ns/mnt";
        let namespace = open(c"/proc/self/ns/mnt", OFlags::RDONLY).map_err(|errno| fail(what, errno))?;
        let directory =
            open(c"/", OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| fail("open /", errno))?;
        syscall::unshare_mounts()
            .map_err(|errno| fail("make a mount namespace to assemble the new root in", errno))?;
        let scratch = Scratch { home: (namespace, directory), away: true };

        // The copies of the mounts outside are in the same peer groups as these; without this they
        // would see what we mount.
        let private = Attributes { propagation: Some(Propagation::Private), readonly: None };
        let own_root = open(c"/", OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| fail("open /", errno))?;
        syscall::mount_setattr(&own_root, true, private)
            .map_err(|errno| fail("make the mounts of our own namespace private", errno))?;
        rustix::mount::move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| fail("attach the new root in our own namespace", errno))?;
        Ok(scratch)
    }

    /// Takes a detached copy of the assembled tree home.
    fn leave_with_copy(mut self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        let fail = |operation: &str, errno| Error::errno(Class::Mount, operation, errno);
        let tree = private_tree(root).map_err(|errno| fail("clone the assembled root", errno))?;
        self.go_home().map_err(|errno| fail("return to the mount namespace of the caller", errno))?;
        Ok(tree)
    }

    fn go_home(&mut self) -> rustix::io::Result<()> {
        rustix::thread::move_into_link_name_space(self.home.0.as_fd(), Some(LinkNameSpaceType::Mount))?;
        self.away = false;
        rustix::process::fchdir(&self.home.1)?;
        rustix::process::chroot(c".")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.away {
            return;
        }
        if let Err(errno) = self.go_home() {
            log::warn!("return to the mount namespace of the caller: {}", crate::error::describe(errno));
        }
    }
}
