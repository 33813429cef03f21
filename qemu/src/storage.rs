//! How a disk is laid out.

/// What is on a disk, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The root's file system.
    pub filesystem: Filesystem,
    /// What the root's file system lies in, if not on the disk itself.
    pub container: Option<Container>,
    /// The partitions in their order, the root's among them. None: the root is the whole disk.
    pub partitions: &'static [Partition],
    /// Whether the disk became larger after it was partitioned, as it does in a cloud.
    pub enlarged: bool,
}

/// A file system for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// ext4, Debian's default.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs; the root is the subvolume that Debian's installer makes.
    Btrfs,
}

/// What only device-mapper opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// An encrypted volume, with a passphrase.
    Luks,
    /// A logical volume, `/dev/debian/root`.
    Lvm,
}

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The EFI system partition, with what starts the kernel.
    Esp(Loader),
    /// `/boot`, with kernels and boot entries.
    Boot,
    /// `/var`, in place of the stateroot's.
    Var,
    /// The root: OSTree's repository and the deployments.
    Root,
}

/// A boot loader for UEFI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// systemd-boot, with copies of kernel and boot entry beside it.
    SystemdBoot,
    /// GRUB, reading OSTree's entries; from 2.14 on it can.
    Grub,
}

impl Storage {
    /// One file system on the whole disk, without partitions.
    pub const PLAIN: Self =
        Self { filesystem: Filesystem::Ext4, container: None, partitions: &[], enlarged: false };

    /// A disk for UEFI with systemd-boot, and the root last, where it can grow.
    pub const SYSTEMD_BOOT: Self =
        Self { partitions: &[Partition::Esp(Loader::SystemdBoot), Partition::Root], ..Self::PLAIN };

    /// The same with GRUB.
    pub const GRUB: Self =
        Self { partitions: &[Partition::Esp(Loader::Grub), Partition::Root], ..Self::PLAIN };

    /// What starts the kernel, if it is on the disk.
    pub fn loader(self) -> Option<Loader> {
        self.partitions.iter().find_map(|partition| match partition {
            Partition::Esp(loader) => Some(*loader),
            _ => None,
        })
    }

    /// What scripts are told in their environment; part of a disk's key.
    pub fn variables(self) -> [(&'static str, String); 6] {
        let partitions: Vec<_> = self.partitions.iter().map(|partition| partition.name()).collect();
        // Every block of an encrypted one is copied, through the emulated processor.
        let size = if self.container.is_some() { "1G" } else { "2G" };
        [
            ("FILESYSTEM", self.filesystem.name().to_owned()),
            ("ROOT_SIZE", size.to_owned()),
            ("PARTITIONS", partitions.join(" ")),
            ("ROOT_PARTUUID", Partition::ROOT_UUID.to_owned()),
            ("LOADER", self.loader().map_or("none", Loader::name).to_owned()),
            ("ENLARGED", self.enlarged.to_string()),
        ]
    }
}

impl Filesystem {
    /// Its name in `tree/disk.sh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// How the root in it is mounted.
    pub fn mount_options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "rw",
            Self::Btrfs => "subvol=@rootfs",
        }
    }

    /// Whether its files can be sealed, by the kernels that are booted here.
    pub fn has_verity(self) -> bool {
        self != Self::Xfs
    }
}

impl Container {
    /// The header of an encrypted volume, found by this.
    pub const LUKS_UUID: &str = "6f1d1a4e-0b5c-4f0e-9d3c-2f6a0f7b8c11";

    /// What opens it, as it is typed.
    pub const PASSPHRASE: &str = "swordfish\r";

    /// What `guest/workbench.sh` is to do.
    pub fn task(self) -> String {
        match self {
            Self::Luks => format!("luks {} {}", Self::LUKS_UUID, Self::PASSPHRASE.trim_end()),
            Self::Lvm => "lvm".to_owned(),
        }
    }

    /// What it needs besides what it contains, in bytes: the default header of LUKS is the larger one.
    pub const OVERHEAD: u64 = 16 << 20;
}

impl Partition {
    /// The root's own number in the partition table, as `tree/assemble.sh` writes it.
    pub const ROOT_UUID: &str = "0d5b9c3e-7a41-4c8e-b1f6-52d3c0a9e7f4";

    /// Its name in the partition table and in the scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Esp(_) => "esp",
            Self::Boot => "boot",
            Self::Var => "var",
            Self::Root => "root",
        }
    }
}

impl Loader {
    /// Its name in the scripts, and how it names itself to the system it starts.
    pub fn name(self) -> &'static str {
        match self {
            Self::SystemdBoot => "systemd-boot",
            Self::Grub => "grub",
        }
    }
}
