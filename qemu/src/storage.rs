//! How a disk is laid out.

/// What is on a disk, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The root's file system.
    pub filesystem: Filesystem,
}

/// A file system for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// ext4, Debian's default.
    Ext4,
}

impl Storage {
    /// One file system on the whole disk, without partitions.
    pub const PLAIN: Self = Self { filesystem: Filesystem::Ext4 };

    /// What `tree/disk.sh` is told in its environment; part of a disk's key.
    pub fn variables(self) -> [(&'static str, &'static str); 1] {
        [("FILESYSTEM", self.filesystem.name())]
    }
}

impl Filesystem {
    /// Its name in `tree/disk.sh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
        }
    }
}
