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
    /// The bytes of the file. `transient_etc` is the directory with the writable layer of a
    /// transient `/etc`.
    pub fn serialise(&self, transient_etc: Option<&str>) -> Vec<u8> {
        let entries = [
            ("backing-root-device-inode", Value::Pair(self.device, self.inode)),
            ("root.transient", Value::Bool(false)),
            ("root.transient-ro", Value::Bool(false)),
            ("sysroot-ro", Value::Bool(self.sysroot_readonly)),
        ];
        let transient_etc = transient_etc.map(|path| ("transient-etc", Value::Str(path.into())));
        gvariant::dictionary(entries.into_iter().chain(transient_etc))
    }
}
