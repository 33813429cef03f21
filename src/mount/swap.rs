//! Putting the assembled tree in place of the physical root.
//!
//! With `MOVE_MOUNT_BENEATH` the tree goes under the mount that is to disappear, and there is no
//! instant in which the place is empty. Where the kernel refuses that, the old mount is taken off
//! first; should the new one then not go on, a copy of the old one, made before, is put back.

use super::clone::private_tree;
use crate::error::{Class, Error, Result, describe};
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use crate::plan::{self, Plan};
use crate::syscall::{self, Attributes, Propagation};
use crate::sysroot::Sysroot;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};
use std::ffi::OsStr;

/// Puts the detached `tree` where `sysroot` is mounted.
///
/// # Errors
/// [`Class::Mount`]: the physical root is mounted as before. [`Class::Undo`]: it is not.
pub fn swap(tree: &OwnedFd, sysroot: &Sysroot, kernel: Kernel) -> Result<()> {
    if kernel.has(Ability::Beneath) {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_BENEATH;
        match rustix::mount::move_mount(tree, c"", sysroot.handle(), c"", flags) {
            Ok(()) => return uncover(sysroot),
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

/// Takes the old mount off the new one.
fn uncover(sysroot: &Sysroot) -> Result<()> {
    detach(sysroot.handle()).map_err(|errno| {
        Error::errno(Class::Undo, format!("detach {sysroot} from above the new root"), errno).hint(
            "reboot: the physical root is still what is seen there, but the new root is hidden beneath it",
        )
    })
}

/// Takes the old mount off and puts the new one on.
fn replace(tree: &OwnedFd, sysroot: &Sysroot) -> Result<()> {
    let fail = |operation: &str, errno| Error::errno(Class::Mount, format!("{operation} {sysroot}"), errno);
    let Some(name) = sysroot.path.file_name() else { return Err(fail("replace", Errno::INVAL)) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(sysroot.handle(), c"..", flags, Mode::empty())
        .map_err(|errno| fail("open the directory of", errno))?;
    // Private: in the same peer group, it would lose its submounts together with the original.
    let old = private_tree(sysroot.handle()).map_err(|errno| fail("keep a copy of", errno))?;
    detach(sysroot.handle()).map_err(|errno| fail("detach", errno))?;
    let Err(errno) = put(tree, &parent, name) else { return Ok(()) };
    match put(&old, &parent, name) {
        Ok(()) => Err(fail("mount the new root at", errno)),
        Err(again) => {
            let found = format!("{}; putting the physical root back: {}", describe(errno), describe(again));
            Err(Error::found(Class::Undo, format!("mount the new root at {sysroot}"), found).hint(format!(
                "nothing is mounted at {sysroot} now: mount the root file system there and run this again"
            )))
        }
    }
}

fn put(tree: &OwnedFd, parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    rustix::mount::move_mount(tree, c"", parent, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Detaches a mount that nothing covers. (The call follows the path to the topmost mount there;
/// with the handle of a covered one it would take the cover off.)
fn detach(mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::mount::unmount(lookup::descriptor_path(mount).as_c_str(), UnmountFlags::DETACH)
}

/// Gives every mount of the new root its propagation: attached below a shared mount, all became shared.
/// The new root is in place; a failure here is logged and does not fail the boot.
pub fn settle_propagation(tree: &OwnedFd, plan: &Plan) {
    let set = |mount: BorrowedFd<'_>, recursive, propagation, place: &str| {
        let attributes = Attributes { readonly: None, propagation: Some(propagation) };
        if let Err(errno) = syscall::mount_setattr(mount, recursive, attributes) {
            log::warn!("set the propagation of {place}: {}", describe(errno));
        }
    };
    set(tree.as_fd(), true, Propagation::Private, "the new root");
    for step in plan.steps.iter().filter(|step| step.propagation == plan::Propagation::Shared) {
        match lookup::open_beneath(tree.as_fd(), &step.at, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(mount) => set(mount.as_fd(), false, Propagation::Shared, &step.place()),
            Err(errno) => log::warn!("set the propagation of {}: {}", step.place(), describe(errno)),
        }
    }
}
