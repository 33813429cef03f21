//! An overlay: a writable layer over a directory.

use super::syscall::{self, Attributes, Propagation};
use crate::error::{Class, Error, Result, describe};
use crate::lookup;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::{CStr, CString};

/// Mounts, detached and private, an overlay of `writable`'s `upper` over `lower`, to go to `place`.
///
/// The layers are named through `/proc/self/fd` or by path: layers by handle need Linux 6.13, and
/// nothing is won by them here, where `lower` is an open directory of an attached mount.
///
/// # Errors
/// [`Class::Unsupported`] if the kernel has no overlayfs; [`Class::Mount`], with what the kernel says.
pub fn mount(lower: BorrowedFd<'_>, writable: &str, place: &str) -> Result<OwnedFd> {
    let operation = || format!("mount an overlay for {place}");
    let context =
        rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
            Errno::NODEV => Error::found(
                Class::Unsupported,
                operation(),
                "the kernel has no overlay file system (ENODEV)",
            )
            .hint("rebuild the initramfs with the kernel module overlay"),
            _ => Error::errno(Class::Mount, operation(), errno),
        })?;
    create(&context, lower, writable).map_err(|errno| {
        let said = kernel_messages(&context);
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        Error::found(Class::Mount, operation(), format!("{}{said}", describe(errno)))
    })
}

fn create(context: &OwnedFd, lower: BorrowedFd<'_>, writable: &str) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount};
    let set = |key: &CStr, value: &CStr| fsconfig_set_string(context, key, value);
    let below = |name| CString::new(format!("{writable}/{name}")).unwrap_or_default();
    set(c"source", c"overlay")?;
    set(c"lowerdir", &lookup::descriptor_path(lower))?;
    set(c"upperdir", &below("upper"))?;
    set(c"workdir", &below("work"))?;
    fsconfig_create(context)?;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RELATIME)?;
    syscall::mount_setattr(
        &mount,
        true,
        Attributes { readonly: None, propagation: Some(Propagation::Private) },
    )?;
    Ok(mount)
}

/// What the kernel wrote to the context's log, `fsopen(2)`: messages like "e overlay: …", one a
/// read, ENODATA at the end.
fn kernel_messages(context: &OwnedFd) -> String {
    let mut messages = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = rustix::io::read(context, &mut buffer) {
        messages.push(buffer[..count].trim_ascii().escape_ascii().to_string());
    }
    messages.join("; ")
}
