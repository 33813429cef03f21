//! System calls without a safe wrapper in rustix 1.1.

#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// What `mount_setattr(2)` changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// `Some(true)` sets the mount read-only, `Some(false)` lifts that, `None` leaves it.
    pub readonly: Option<bool>,
    /// The new propagation type, if any.
    pub propagation: Option<Propagation>,
}

/// A propagation type.
#[derive(Clone, Copy, Debug)]
pub enum Propagation {
    /// `MS_PRIVATE`
    Private,
    /// `MS_SHARED`
    Shared,
}

/// Changes a mount and, with `recursive`, all mounts below it; all or none (Linux 5.12).
pub fn mount_setattr(mount: impl AsFd, recursive: bool, attributes: Attributes) -> rustix::io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: if attributes.readonly == Some(true) { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: if attributes.readonly == Some(false) { libc::MOUNT_ATTR_RDONLY } else { 0 },
        propagation: match attributes.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` a `struct mount_attr` of the size given; both live
    // until the call returns, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Gives this process a mount namespace of its own.
pub fn unshare_mounts() -> rustix::io::Result<()> {
    // SAFETY: the call is unsafe for `CLONE_FILES`, which lets file descriptors diverge between threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
