//! Detached clones of mounts.

use crate::syscall::{self, Attributes, Propagation};
use rustix::fd::{AsFd, OwnedFd};
use rustix::mount::OpenTreeFlags;

/// Clones the mount that the open directory is in, with that directory as its root: private, so that
/// nothing we mount in it shows up elsewhere (under systemd every mount of the initramfs is shared).
/// `readonly` sets or lifts the option, `None` leaves it; others, like `nosuid`, stay.
pub fn private_mount(directory: impl AsFd, readonly: Option<bool>) -> rustix::io::Result<OwnedFd> {
    private_clone(directory, readonly, false)
}

/// Clones the whole tree of mounts at `mount`, private.
pub fn private_tree(mount: impl AsFd) -> rustix::io::Result<OwnedFd> {
    private_clone(mount, None, true)
}

fn private_clone(source: impl AsFd, readonly: Option<bool>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let clone = rustix::mount::open_tree(source, c"", flags)?;
    let attributes = Attributes { readonly, propagation: Some(Propagation::Private) };
    syscall::mount_setattr(&clone, true, attributes)?;
    Ok(clone)
}
