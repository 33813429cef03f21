//! Memory as a file system: tmpfs.

use super::context::{Context, c_string};
use super::detached::Detached;
use crate::config::Transient;
use crate::error::{Class, Error, Result, describe};
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::ffi::CStr;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags};

/// Mounts an empty tmpfs, detached and private; `mode`: of its root directory, octal.
///
/// # Errors
/// [`Class::Unsupported`], [`Class::Mount`]
pub fn mount(transient: &Transient, mode: &CStr, what: String) -> Result<Detached> {
    let context = Context::open(c"tmpfs", what)?;
    let configure = || {
        context.string(c"source", c"tmpfs")?;
        context.string(c"mode", mode)?;
        if let Some(size) = &transient.size {
            context.string(c"size", &c_string(size.clone()))?;
        }
        context.create()
    };
    configure().map_err(|errno| context.error(errno))?;
    context.mount(false)
}

/// A mount at a path that others can see. Dropped without [`keep`](Attached::keep), it is taken off.
#[derive(Debug)]
pub struct Attached {
    path: Option<String>,
}

impl Attached {
    /// Attaches the mount.
    ///
    /// # Errors
    /// [`Class::Mount`]
    pub fn at(path: &str, mount: Detached) -> Result<Attached> {
        rustix::mount::move_mount(&mount, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| Error::errno(Class::Mount, format!("mount a tmpfs on {path}"), errno))?;
        Ok(Attached { path: Some(path.to_owned()) })
    }

    /// It stays.
    pub fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        if let Err(errno) = rustix::mount::unmount(path.as_str(), UnmountFlags::DETACH) {
            log::warn!("take {path} off again: {}", describe(errno));
        }
    }
}
