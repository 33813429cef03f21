//! Detached clones of mounts.

use crate::syscall::{self, Attributes, Propagation};
use rustix::fd::{AsFd, OwnedFd};
use rustix::mount::OpenTreeFlags;

/// Clones the mount that an open directory is in, with that directory as its root, and the mounts below
/// it. In a peer group the clone is a member too: see [`make_private`].
pub fn tree(directory: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(directory, c"", flags)
}

/// Makes a clone, and the mounts below it, private, so that nothing we mount in it shows up elsewhere: under
/// systemd every mount of the initramfs is shared, and a clone of a shared mount is its peer.
pub fn make_private(tree: impl AsFd) -> rustix::io::Result<()> {
    syscall::mount_setattr(tree, true, Attributes { readonly: None, propagation: Some(Propagation::Private) })
}

/// A private clone.
pub fn private_tree(directory: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let tree = tree(directory)?;
    make_private(&tree)?;
    Ok(tree)
}
