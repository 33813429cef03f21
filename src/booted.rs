//! The contents of `/run/ostree-booted`: how the running system was prepared.
//!
//! Read by `ostree`, `ostree-remount`, `ostree-system-generator`, `rpm-ostree` and `bootc`; keys,
//! their order and types are libostree's.

use crate::error::{Class, Error, Result};
use crate::gvariant::{self, Value};
use crate::lookup;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

/// The file.
pub const PATH: &CStr = c"/run/ostree-booted";

/// Whether there is the file, that is, whether a run came to a good end since the machine was started.
///
/// # Errors
/// [`Class::Run`] when it cannot be told.
pub fn exists() -> Result<bool> {
    let stat = lookup::if_there(rustix::fs::stat(PATH));
    stat.map(|stat| stat.is_some()).map_err(|errno| {
        Error::errno(Class::Run, format!("look for {}", PATH.to_string_lossy()), errno).hint("reboot")
    })
}

/// What the running system needs to know of its preparation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booted {
    /// Device number of the deployment directory, as `st_dev` encodes it.
    pub device: u64,
    /// Inode number of the deployment directory.
    pub inode: u64,
    /// Changes to `/` last until reboot.
    pub root_transient: bool,
    /// And `/` is mounted read-only.
    pub root_transient_readonly: bool,
    /// The root is a composefs image; whether all its files must have fs-verity digests.
    pub composefs_verity: Option<bool>,
    /// The file with the key that made the signature, if one was demanded.
    pub signed_by: Option<String>,
    /// The physical root is mounted read-only.
    pub sysroot_readonly: bool,
}

const DEPLOYMENT: &str = "backing-root-device-inode";

impl Booted {
    /// The bytes of the file. `transient_etc` is the directory with the writable layer of a
    /// transient `/etc`.
    pub fn serialise(&self, transient_etc: Option<&str>) -> Vec<u8> {
        let mut entries = vec![
            (DEPLOYMENT, Value::Pair(self.device, self.inode)),
            ("root.transient", Value::Bool(self.root_transient)),
            ("root.transient-ro", Value::Bool(self.root_transient_readonly)),
        ];
        if let Some(path) = &self.signed_by {
            entries.push(("composefs.signed", Value::Str(path.clone())));
        }
        if let Some(verity) = self.composefs_verity {
            entries.push(("composefs", Value::Bool(true)));
            entries.push(("composefs.verity", Value::Bool(verity)));
        }
        entries.push(("sysroot-ro", Value::Bool(self.sysroot_readonly)));
        entries.extend(transient_etc.map(|path| ("transient-etc", Value::Str(path.into()))));
        gvariant::dictionary(entries)
    }
}

/// Device and inode number of the deployment that the bytes of such a file name.
pub fn deployment(bytes: &[u8]) -> Option<(u64, u64)> {
    let pair = gvariant::lookup(bytes, DEPLOYMENT, "(tt)")?;
    let (device, inode) = pair.split_at_checked(8)?;
    Some((u64::from_le_bytes(device.try_into().ok()?), u64::from_le_bytes(inode.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployment_can_be_read_back() {
        let booted = Booted {
            device: 7,
            inode: u64::MAX,
            root_transient: true,
            root_transient_readonly: false,
            composefs_verity: Some(true),
            signed_by: Some("/key".into()),
            sysroot_readonly: true,
        };
        assert_eq!(deployment(&booted.serialise(Some("/run/x"))), Some((7, u64::MAX)));
        assert_eq!(deployment(b"previous"), None);
    }
}
