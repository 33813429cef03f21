//! One mount of the plan: a detached clone of the mount its source directory is in.

use super::syscall::{self, Attributes, Propagation};
use super::{Disk, overlay};
use crate::error::{Class, Error, Result};
use crate::lookup;
use crate::plan::{Access, Source, Step};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

/// Clones the source of `step`: private, so that nothing we mount in it shows up elsewhere (under
/// systemd every mount of the initramfs is shared), and with the access the plan gives. Options
/// like `nosuid` stay.
///
/// # Errors
/// [`Class::Incomplete`] if the directory is not there; [`Class::Mount`].
pub fn clone(step: &Step, disk: &Disk<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let source = match &step.source {
        Source::Deployment(path) | Source::TransientOver(path) => {
            lookup::open_beneath(disk.deployment.handle(), path.as_bytes(), flags | OFlags::NOFOLLOW)
        }
        Source::Physical(path) => lookup::open_beneath(disk.sysroot.handle(), path, flags),
    };
    let source = source.map_err(|errno| {
        let class =
            if matches!(errno, Errno::NOENT | Errno::NOTDIR) { Class::Incomplete } else { Class::Mount };
        Error::errno(class, format!("open {} for {}", step.source_text(), step.place()), errno)
            .hint("choose another boot entry, or check the file system")
    })?;
    if let (Source::TransientOver(_), Some(etc)) = (&step.source, disk.transient_etc) {
        return overlay::mount(source.as_fd(), &etc.path, &step.place());
    }
    let readonly = match step.access {
        Access::Inherited => None,
        Access::ReadOnly => Some(true),
        Access::Writable => Some(false),
    };
    private_clone(&source, readonly, false)
        .map_err(|errno| Error::errno(Class::Mount, format!("clone the mount for {}", step.place()), errno))
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
