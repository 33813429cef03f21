//! A file system that is about to be mounted: `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.

use super::detached::Detached;
use crate::error::{Class, Error, Result, describe};
use alloc::ffi::CString;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// The file system, and for errors what it is going to be.
#[derive(Debug)]
pub struct Context {
    handle: OwnedFd,
    what: String,
}

impl Context {
    /// Begins with a file system of that type; `what`: "the composefs image", "an overlay for /etc".
    ///
    /// # Errors
    /// [`Class::Unsupported`] if the kernel has none of the type; [`Class::Mount`].
    pub fn open(kind: &CStr, what: String) -> Result<Context> {
        match rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(handle) => Ok(Context { handle, what }),
            Err(errno) => {
                let operation = format!("mount {what}");
                if errno != Errno::NODEV {
                    return Err(Error::errno(Class::Mount, operation, errno));
                }
                let kind = kind.to_string_lossy();
                let found = format!("the kernel has no {kind} file system (ENODEV)");
                Err(Error::found(Class::Unsupported, operation, found).hint(format!(
                    "rebuild the initramfs with the kernel module {kind}, or take a kernel that has it built in"
                )))
            }
        }
    }

    /// Sets an option that is on or off.
    pub fn flag(&self, key: &CStr) -> rustix::io::Result<()> {
        rustix::mount::fsconfig_set_flag(&self.handle, key)
    }

    /// Sets an option.
    pub fn string(&self, key: &CStr, value: &CStr) -> rustix::io::Result<()> {
        rustix::mount::fsconfig_set_string(&self.handle, key, value)
    }

    /// Sets an option to an open file.
    pub fn file(&self, key: &CStr, value: BorrowedFd<'_>) -> rustix::io::Result<()> {
        rustix::mount::fsconfig_set_fd(&self.handle, key, value)
    }

    /// Reads the file system.
    pub fn create(&self) -> rustix::io::Result<()> {
        rustix::mount::fsconfig_create(&self.handle)
    }

    /// The mount: detached, private, with `relatime`.
    ///
    /// # Errors
    /// [`Class::Mount`]
    pub fn mount(self, readonly: bool) -> Result<Detached> {
        let mut attributes = MountAttrFlags::MOUNT_ATTR_RELATIME;
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, readonly);
        let mount = self.mount_with(attributes)?;
        Ok(Detached::from(mount).with(self.handle))
    }

    /// The mount: detached, and private, as every mount begins.
    ///
    /// # Errors
    /// [`Class::Mount`]
    pub fn mount_with(&self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        rustix::mount::fsmount(&self.handle, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.error(errno))
    }

    /// The error, with what the kernel says about it.
    pub fn error(&self, errno: Errno) -> Error {
        let said = self.messages();
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        Error::found(Class::Mount, format!("mount {}", self.what), format!("{}{said}", describe(errno)))
    }

    /// What the kernel wrote to the context's log, `fsopen(2)`: messages like "e overlay: …", one a
    /// read, ENODATA at the end.
    fn messages(&self) -> String {
        let mut messages = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = rustix::io::read(&self.handle, &mut buffer) {
            messages.push(buffer[..count].trim_ascii().escape_ascii().to_string());
        }
        messages.join("; ")
    }
}

/// A string that is to be an option. Ours have no NUL in them.
pub fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}
