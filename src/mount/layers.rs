//! The directories in memory where changes to a transient `/` and `/etc` go.

use super::memory::{self, Attached};
use super::overlay;
use crate::config::Transient;
use crate::error::{Class, Error, Result};
use crate::plan::Plan;
use crate::run::RunFiles;
use alloc::string::String;
use core::ffi::CStr;
use rustix::fd::OwnedFd;

/// The directories. Dropped without [`keep`](Layers::keep), what was mounted for them is taken off.
#[derive(Debug)]
pub struct Layers {
    root: Option<Directory>,
    etc: Option<Directory>,
}

#[derive(Debug)]
struct Directory {
    path: String,
    /// A tmpfs of its own, if its size is limited.
    mounted: Option<Attached>,
}

impl Layers {
    /// Makes what the plan needs.
    ///
    /// # Errors
    /// [`Class::Run`], [`Class::Mount`]
    pub fn make(plan: &Plan, files: &mut RunFiles) -> Result<Layers> {
        // The modes are libostree's.
        let root = match plan.transient(b"") {
            Some(transient) => {
                Some(Directory::make(files.transient_root()?, transient, c"0755", 0o700, files)?)
            }
            None => None,
        };
        let etc = match plan.transient(b"etc") {
            Some(transient) => {
                Some(Directory::make(files.transient_etc()?, transient, c"0700", 0o755, files)?)
            }
            None => None,
        };
        Ok(Layers { root, etc })
    }

    /// Opens the directory of the layer over `/` (`at` is empty) or `/etc`.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn open(&self, at: &[u8]) -> Result<OwnedFd> {
        let layer = if at.is_empty() { &self.root } else { &self.etc };
        let path = layer.as_ref().map_or("", |layer| &*layer.path);
        overlay::open_directory(path).map_err(|errno| Error::errno(Class::Run, format!("open {path}"), errno))
    }

    /// The directory with the layer over `/etc`.
    pub fn transient_etc(&self) -> Option<&str> {
        self.etc.as_ref().map(|etc| &*etc.path)
    }

    /// They stay.
    pub fn keep(self) {
        for directory in [self.root, self.etc].into_iter().flatten() {
            if let Some(mounted) = directory.mounted {
                mounted.keep();
            }
        }
    }
}

impl Directory {
    fn make(
        path: String,
        transient: &Transient,
        mode: &CStr,
        work_mode: u32,
        files: &mut RunFiles,
    ) -> Result<Directory> {
        let mounted = if transient.size.is_some() {
            let mount = memory::mount(transient, mode, format!("a tmpfs on {path}"))?;
            files.mounting(&path)?;
            Some(Attached::at(&path, mount)?)
        } else {
            None
        };
        files.layer(&path, work_mode)?;
        Ok(Directory { path, mounted })
    }
}
