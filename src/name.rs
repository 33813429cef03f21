//! Names of deployments.

use crate::error::printable;
use alloc::string::String;
use alloc::vec::Vec;

/// The name of a deployment: `ostree/deploy/STATEROOT/deploy/CHECKSUM.SERIAL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The stateroot, which deployments that share a `/var` have in common.
    pub stateroot: Vec<u8>,
    /// The directory's name: the commit's checksum and a serial number.
    pub directory: Vec<u8>,
}

impl Name {
    /// Takes the deployment's path below the physical root apart.
    pub fn from_path(path: &[u8]) -> Option<Name> {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        match parts[..] {
            [b"ostree", b"deploy", stateroot, b"deploy", directory] => {
                Some(Name { stateroot: stateroot.to_vec(), directory: directory.to_vec() })
            }
            _ => None,
        }
    }

    /// The checksum of the commit, if the directory is called after one: 64 hexadecimal digits.
    pub fn checksum(&self) -> Option<String> {
        let checksum = self.directory.split(|&byte| byte == b'.').next()?;
        let digits = checksum.len() == 64 && checksum.iter().all(u8::is_ascii_hexdigit);
        digits.then(|| printable(checksum))
    }

    /// The path below the physical root, without a leading slash.
    pub fn path(&self) -> Vec<u8> {
        [b"ostree/deploy/", &self.stateroot[..], b"/deploy/", &self.directory].concat()
    }

    /// The path of the stateroot's `var` below the physical root, without a leading slash.
    pub fn var_path(&self) -> Vec<u8> {
        [b"ostree/deploy/", &self.stateroot[..], b"/var"].concat()
    }
}

impl core::fmt::Display for Name {
    /// For people: the stateroot, and the checksum no longer than needed to recognise it.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let dot = self.directory.iter().rposition(|&byte| byte == b'.').unwrap_or(self.directory.len());
        let (checksum, serial) = self.directory.split_at(dot);
        let checksum = &checksum[..checksum.len().min(12)];
        write!(f, "{} {}{}", self.stateroot.escape_ascii(), checksum.escape_ascii(), serial.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_paths_and_go_back() {
        let path = b"ostree/deploy/debian/deploy/0123456789abcdef.0";
        let name = Name::from_path(path).unwrap();
        assert_eq!(name.path(), path);
        assert_eq!(name.var_path(), b"ostree/deploy/debian/var");
        assert_eq!(name.to_string(), "debian 0123456789ab.0");
        assert_eq!(name.checksum(), None);
        let checksum = "0123456789abcdef".repeat(4);
        let whole = Name { directory: format!("{checksum}.12").into(), ..name };
        assert_eq!(whole.checksum(), Some(checksum));
    }

    #[test]
    fn other_paths_are_no_deployments() {
        for path in [
            "",
            "ostree/deploy/debian/deploy",
            "ostree/deploy/debian/var/x",
            "ostree/deploy/d/deploy/x/usr",
            "usr",
        ] {
            assert_eq!(Name::from_path(path.as_bytes()), None, "{path}");
        }
    }
}
