//! A mount that is attached nowhere, and what is open because of it.

use crate::lookup;
use alloc::vec::Vec;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Dropped, all of it is closed, so that the kernel gives up the file systems: tried again another way, a layer must not
/// be in use. When the mount is where it belongs, it is [left open](Detached::leave_open).
#[derive(Debug)]
pub struct Detached {
    mount: OwnedFd,
    besides: Vec<OwnedFd>,
}

impl Detached {
    /// With this, which was needed to make it.
    pub fn with(mut self, file: OwnedFd) -> Detached {
        self.besides.push(file);
        self
    }

    /// Takes a mount that is part of this one now.
    pub fn take(&mut self, part: Detached) {
        self.besides.push(part.mount);
        self.besides.extend(part.besides);
    }

    /// Leaves it open until the process ends.
    pub fn leave_open(self) {
        lookup::leave_open(self.mount);
        self.besides.into_iter().for_each(lookup::leave_open);
    }
}

impl From<OwnedFd> for Detached {
    fn from(mount: OwnedFd) -> Detached {
        Detached { mount, besides: Vec::new() }
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}
