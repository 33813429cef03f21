//! Detached clones of mounts.

use crate::syscall::{self, Attributes, Propagation};
use rustix::fd::{AsFd, OwnedFd};
use rustix::mount::OpenTreeFlags;

/// Clones the mount that the open directory is in, with that directory as its root, and the mounts
/// below it: private, so that nothing we mount in it shows up elsewhere (under systemd every mount of
/// the initramfs is shared). `readonly` sets or lifts the option of the first, `None` leaves it;
/// others, like `nosuid`, stay, and those of the mounts below all do.
pub fn private_tree(directory: impl AsFd, readonly: Option<bool>) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let clone = rustix::mount::open_tree(directory, c"", flags)?;
    let private = Attributes { readonly: None, propagation: Some(Propagation::Private) };
    syscall::mount_setattr(&clone, true, private)?;
    if readonly.is_some() {
        syscall::mount_setattr(&clone, false, Attributes { readonly, propagation: None })?;
    }
    Ok(clone)
}
