//! Boot links: `ostree/boot.N/STATEROOT/BOOTCSUM/SERIAL`, what `ostree=` names.
//!
//! OSTree writes every set of links anew under another boot version: `boot.0` and `boot.1` take turns, and
//! each is a link to `boot.0.0`, `boot.0.1` and so on
//! (<https://ostreedev.github.io/ostree/atomic-upgrades/>). The bootcsum is the checksum of kernel and
//! initramfs; deployments with the same one boot with the same kernel.

use alloc::vec::Vec;
use core::fmt;

/// The directories with boot links that a physical root may have, below `ostree`.
pub const VERSIONS: [&str; 6] = ["boot.0", "boot.1", "boot.0.0", "boot.0.1", "boot.1.0", "boot.1.1"];

/// The parts of a boot link's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootLink {
    /// The directory below `ostree`: `boot.N` or `boot.N.N`.
    pub version: Vec<u8>,
    /// The stateroot.
    pub stateroot: Vec<u8>,
    /// The checksum of kernel and initramfs.
    pub bootcsum: Vec<u8>,
    /// The number among the deployments with these; each deploy gives them anew.
    pub serial: Vec<u8>,
}

impl BootLink {
    /// Takes the path below the physical root apart; nothing if it has another form.
    pub fn parse(path: &[u8]) -> Option<BootLink> {
        let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let (first, version) = (parts.next()?, parts.next()?);
        let (stateroot, bootcsum, serial) = (parts.next()?, parts.next()?, parts.next()?);
        let known = version.strip_prefix(b"boot.").is_some_and(|number| {
            !number.is_empty() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        });
        let plain = [stateroot, bootcsum, serial].iter().all(|part| *part != b"..");
        if first != b"ostree" || !known || !plain || parts.next().is_some() {
            return None;
        }
        Some(BootLink {
            version: version.to_vec(),
            stateroot: stateroot.to_vec(),
            bootcsum: bootcsum.to_vec(),
            serial: serial.to_vec(),
        })
    }

    /// The path below the physical root, without a leading slash.
    pub fn path(&self) -> Vec<u8> {
        [b"ostree", &self.version[..], &self.stateroot, &self.bootcsum, &self.serial].join(&b'/')
    }

    /// The links that differ only in the boot version.
    pub fn under_other_versions(&self) -> impl Iterator<Item = BootLink> {
        VERSIONS
            .iter()
            .filter(|version| version.as_bytes() != self.version)
            .map(|version| BootLink { version: version.as_bytes().to_vec(), ..self.clone() })
    }
}

impl fmt::Display for BootLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_and_put_together() {
        let link = BootLink::parse(b"ostree/boot.1.0/debian/c0ffee/3").unwrap();
        assert_eq!(link.path(), b"ostree/boot.1.0/debian/c0ffee/3");
        assert_eq!(BootLink::parse(b"//ostree/./boot.1.0//debian/c0ffee/3/"), Some(link.clone()));
        assert_eq!(link.under_other_versions().count(), 5);
        assert!(link.under_other_versions().all(|other| other.version != link.version));
        assert_eq!(link.to_string(), "/ostree/boot.1.0/debian/c0ffee/3");
    }

    #[test]
    fn other_paths_are_no_boot_links() {
        for path in [
            "",
            "ostree/boot.x/d/c/0",
            "ostree/boot./d/c/0",
            "ostree/boot.1/d/c",
            "ostree/boot.1/d/c/0/x",
            "usr/boot.1/d/c/0",
            "ostree/boot.1/../c/0",
            "ostree/boot.1/d/../0",
        ] {
            assert_eq!(BootLink::parse(path.as_bytes()), None, "{path}");
        }
    }
}
