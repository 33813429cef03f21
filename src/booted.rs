//! The contents of `/run/ostree-booted`: how the running system was prepared.
//!
//! Read by `ostree`, `ostree-remount`, `ostree-system-generator`, `rpm-ostree` and `bootc`; keys,
//! their order and types are libostree's.

use crate::gvariant::{self, Value};

/// What the running system needs to know of its preparation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booted {
    /// Device number of the deployment directory, as `st_dev` encodes it.
    pub device: u64,
    /// Inode number of the deployment directory.
    pub inode: u64,
    /// The physical root is mounted read-only.
    pub sysroot_readonly: bool,
}

impl Booted {
    /// The bytes of the file.
    pub fn serialise(&self) -> Vec<u8> {
        gvariant::dictionary([
            ("backing-root-device-inode", Value::Pair(self.device, self.inode)),
            ("root.transient", Value::Bool(false)),
            ("root.transient-ro", Value::Bool(false)),
            ("sysroot-ro", Value::Bool(self.sysroot_readonly)),
        ])
    }
}
