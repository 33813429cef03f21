//! What is on a device: the superblocks of file systems, and of what is no file system.
//!
//! Where formats can lie over each other, the order of [`Superblock::find`] decides. What was made last is what
//! counts: the programs that make the others clear the beginning of the device, but `mkfs.ext4 -E nodiscard
//! -O ^resize_inode` leaves the superblock of a btrfs, so btrfs comes after ext4. (udev makes no links for such a device.)
//! LUKS, LVM and RAID come first: what they hold may lie open at its usual place.

use super::bytes::{CASTAGNOLI, array, be16, be32, crc32, is, le16, le32, le64, text, utf16, uuid};
use alloc::vec::Vec;

/// How many bytes from the start of a device are looked at: to the end of btrfs' superblock.
pub const LENGTH: usize = BTRFS + 4096;

/// `BTRFS_SUPER_INFO_OFFSET` of `fs/btrfs/fs.h`
const BTRFS: usize = 64 << 10;

/// What is on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext2, ext3 and ext4: the driver ext4 mounts all of them.
    Ext4,
    /// XFS
    Xfs,
    /// btrfs
    Btrfs,
    /// F2FS
    F2fs,
    /// EROFS
    Erofs,
    /// The journal of an ext4 on another device.
    Journal,
    /// Encrypted, LUKS 1 or 2.
    Luks,
    /// A physical volume of LVM.
    Lvm,
    /// A member of an MD RAID.
    Raid,
    /// A member of a ZFS pool.
    Zfs,
    /// Swap space, or the image of a hibernated system.
    Swap,
    /// FAT
    Vfat,
    /// A CD.
    Iso9660,
    /// Squashfs
    Squashfs,
}

impl Kind {
    /// Its name. Of a file system that can be the root it is that of the kernel's driver, of what is none
    /// the one that `blkid` and `lsblk` print.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::F2fs => "f2fs",
            Kind::Erofs => "erofs",
            Kind::Journal => "jbd",
            Kind::Luks => "crypto_LUKS",
            Kind::Lvm => "LVM2_member",
            Kind::Raid => "linux_raid_member",
            Kind::Zfs => "zfs_member",
            Kind::Swap => "swap",
            Kind::Vfat => "vfat",
            Kind::Iso9660 => "iso9660",
            Kind::Squashfs => "squashfs",
        }
    }

    /// Whether the physical root can be on it without anything set up before.
    pub fn bootable(self) -> bool {
        matches!(self, Kind::Ext4 | Kind::Xfs | Kind::Btrfs | Kind::F2fs | Kind::Erofs)
    }

    /// What would have to be set up before there is a device with a file system.
    pub fn container(self) -> Option<&'static str> {
        match self {
            Kind::Luks => Some("encrypted with LUKS"),
            Kind::Lvm => Some("a physical volume of LVM"),
            Kind::Raid => Some("a member of a RAID array"),
            Kind::Zfs => Some("a member of a ZFS pool"),
            _ => None,
        }
    }
}

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// What it is the superblock of.
    pub kind: Kind,
    /// Bytes as they are on the disk (of F2FS, in UTF-8), without NUL; empty if there are none.
    pub label: Vec<u8>,
    /// As text, lower case; empty if there is none, or it is nothing that `root=UUID=` could mean.
    pub uuid: Vec<u8>,
    /// The kernel will refuse it: its checksum is wrong, or what it says is impossible.
    pub damaged: bool,
    /// How many devices the file system is spread over.
    pub devices: u64,
}

impl Superblock {
    /// Recognises the first [`LENGTH`] bytes of a device (fewer, of a smaller one).
    pub fn find(start: &[u8]) -> Option<Superblock> {
        type Probe = fn(&[u8]) -> Option<Superblock>;
        const PROBES: [Probe; 13] = [
            luks,
            lvm,
            raid_at_the_start,
            ext4,
            f2fs,
            erofs,
            xfs,
            btrfs,
            // The rest is what one may wonder about in a list of devices.
            swap,
            squashfs,
            zfs,
            iso9660,
            vfat,
        ];
        PROBES.iter().find_map(|probe| probe(start))
    }

    /// What has no name, and no damage that is known.
    pub fn of(kind: Kind) -> Superblock {
        Superblock { kind, label: Vec::new(), uuid: Vec::new(), damaged: false, devices: 1 }
    }
}

/// `struct ext4_super_block` of `fs/ext4/ext4.h`, at 1024.
fn ext4(start: &[u8]) -> Option<Superblock> {
    const FEATURE_INCOMPAT_JOURNAL_DEV: u32 = 8;
    const FEATURE_RO_COMPAT_METADATA_CSUM: u32 = 0x400;
    let superblock = start.get(1024..2048)?;
    // The magic number has only 16 bits: s_inodes_count, s_log_block_size and s_rev_level must be possible too.
    let possible = le32(superblock, 0)? != 0 && le32(superblock, 0x18)? <= 6 && le32(superblock, 0x4c)? <= 1;
    if le16(superblock, 0x38)? != 0xef53 || !(possible || is_journal(superblock)?) {
        return None;
    }
    let is_summed = le32(superblock, 0x64)? & FEATURE_RO_COMPAT_METADATA_CSUM != 0;
    let sum = crc32(CASTAGNOLI, !0, superblock.get(..0x3fc)?);
    return Some(Superblock {
        kind: if is_journal(superblock)? { Kind::Journal } else { Kind::Ext4 },
        label: text(superblock, 0x78, 16)?,
        uuid: uuid(array(superblock, 0x68)?),
        damaged: is_summed && le32(superblock, 0x3fc)? != sum,
        devices: 1,
    });

    fn is_journal(superblock: &[u8]) -> Option<bool> {
        Some(le32(superblock, 0x60)? & FEATURE_INCOMPAT_JOURNAL_DEV != 0)
    }
}

/// `struct xfs_dsb` of `fs/xfs/libxfs/xfs_format.h`, big-endian, in the first sector.
fn xfs(start: &[u8]) -> Option<Superblock> {
    if !is(start, 0, b"XFSB") {
        return None;
    }
    let sound = || {
        let block_size = be32(start, 4)?;
        let sector_size = be16(start, 102)?;
        let is_possible = block_size.is_power_of_two()
            && (512..=1 << 16).contains(&block_size)
            && sector_size.is_power_of_two()
            && (512..=1 << 15).contains(&sector_size);
        match be16(start, 100)? & 15 {
            4 => Some(is_possible),
            // The sum is little-endian, and made as if its place were empty.
            5 => {
                let sum = crc32(CASTAGNOLI, !0, start.get(..224)?);
                let sum = crc32(CASTAGNOLI, sum, &[0; 4]);
                let sum = crc32(CASTAGNOLI, sum, start.get(228..usize::from(sector_size))?);
                Some(is_possible && le32(start, 224)? == !sum)
            }
            _ => Some(false),
        }
    };
    Some(Superblock {
        kind: Kind::Xfs,
        label: text(start, 108, 12)?,
        uuid: uuid(array(start, 32)?),
        damaged: sound() != Some(true),
        devices: 1,
    })
}

/// `struct btrfs_super_block` of `include/uapi/linux/btrfs_tree.h`.
fn btrfs(start: &[u8]) -> Option<Superblock> {
    const CSUM_TYPE_CRC32: u16 = 0;
    let superblock = start.get(BTRFS..BTRFS + 4096)?;
    if !is(superblock, 64, b"_BHRfS_M") {
        return None;
    }
    // The kernel checks the sums of the other types; the code for them would be larger than this file.
    let is_summed = le16(superblock, 0xc4)? == CSUM_TYPE_CRC32;
    let sum = !crc32(CASTAGNOLI, !0, superblock.get(32..)?);
    let wrong = (is_summed && le32(superblock, 0)? != sum) || le64(superblock, 48)? != BTRFS as u64;
    Some(Superblock {
        kind: Kind::Btrfs,
        label: text(superblock, 0x12b, 256)?,
        uuid: uuid(array(superblock, 32)?),
        damaged: wrong,
        devices: le64(superblock, 0x88)?,
    })
}

/// `struct f2fs_super_block` of `include/linux/f2fs_fs.h`, at 1024 and again at 5120. A sum is not
/// checked: the kernel takes the other copy if one is wrong.
fn f2fs(start: &[u8]) -> Option<Superblock> {
    let superblock = [1024, 5120].iter().find_map(|&at| {
        let superblock = start.get(at..)?;
        let log_block_size = le32(superblock, 16)?;
        (le32(superblock, 0)? == 0xf2f5_2010 && (12..=16).contains(&log_block_size)).then_some(superblock)
    })?;
    Some(Superblock {
        label: utf16(superblock, 124, 1024)?,
        uuid: uuid(array(superblock, 108)?),
        ..Superblock::of(Kind::F2fs)
    })
}

/// `struct erofs_super_block` of `fs/erofs/erofs_fs.h`, at 1024.
fn erofs(start: &[u8]) -> Option<Superblock> {
    const FEATURE_COMPAT_SB_CHKSUM: u32 = 1;
    let superblock = start.get(1024..)?;
    if le32(superblock, 0)? != 0xe0f5_e1e2 {
        return None;
    }
    // The sum is made to the end of the block in which the superblock is, as if its own place were empty.
    let sound = || {
        let log_block_size = array::<1>(superblock, 12)?[0];
        if !(9..=16).contains(&log_block_size) {
            return Some(false);
        }
        if le32(superblock, 8)? & FEATURE_COMPAT_SB_CHKSUM == 0 {
            return Some(true);
        }
        let block = 1 << log_block_size;
        let length = if block > 1024 { block - 1024 } else { block };
        let sum = crc32(CASTAGNOLI, !0, superblock.get(..4)?);
        let sum = crc32(CASTAGNOLI, sum, &[0; 4]);
        Some(le32(superblock, 4)? == crc32(CASTAGNOLI, sum, superblock.get(8..length)?))
    };
    Some(Superblock {
        kind: Kind::Erofs,
        label: text(superblock, 64, 16)?,
        uuid: uuid(array(superblock, 48)?),
        damaged: sound() != Some(true),
        devices: 1,
    })
}

/// LUKS 1 and 2 have magic number, version and UUID in common: section 2.3 of
/// <https://gitlab.com/cryptsetup/LUKS2-docs>.
fn luks(start: &[u8]) -> Option<Superblock> {
    if !is(start, 0, b"LUKS\xba\xbe") {
        return None;
    }
    let label = if be16(start, 6)? == 2 { text(start, 24, 48)? } else { Vec::new() };
    Some(Superblock { label, uuid: text(start, 168, 40)?, ..Superblock::of(Kind::Luks) })
}

/// `struct label_header` of LVM's `lib/label/label.h`, in one of the first four sectors.
fn lvm(start: &[u8]) -> Option<Superblock> {
    let found = |sector: usize| is(start, sector, b"LABELONE") && is(start, sector + 24, b"LVM2 001");
    [0, 512, 1024, 1536].into_iter().any(found).then(|| Superblock::of(Kind::Lvm))
}

/// `struct mdp_superblock_1` of `include/uapi/linux/raid/md_p.h`: version 1.1 at the start of the device, 1.2
/// four kilobytes later.
fn raid_at_the_start(start: &[u8]) -> Option<Superblock> {
    [0, 4096].iter().find_map(|&at| raid(start.get(at..)?, at as u64 / 512))
}

/// `struct mdp_superblock_1` of version 1, which knows at which sector it is.
fn raid(superblock: &[u8], sector: u64) -> Option<Superblock> {
    let found = le32(superblock, 0)? == RAID && le32(superblock, 4)? == 1 && le64(superblock, 144)? == sector;
    found.then(|| Superblock::of(Kind::Raid))
}

/// `MD_SB_MAGIC`
const RAID: u32 = 0xa92b_4efc;

/// Where the metadata of a RAID can be at the end of a device, in sectors of 512 bytes: of version 1.0, and 0.90
/// (`MD_NEW_SIZE_SECTORS` of `include/uapi/linux/raid/md_p.h`).
pub fn raid_sectors(device: u64) -> [u64; 2] {
    [device.saturating_sub(16) & !7, (device & !127).saturating_sub(128)]
}

/// Whether the sector found there is that of a RAID member. The file system of a mirror begins where its
/// members begin: mounted from one of them, that one would no longer be like the others.
pub fn is_raid(superblock: &[u8], sector: u64) -> bool {
    let is_0_90 = le32(superblock, 0) == Some(RAID) && le32(superblock, 4) == Some(0);
    is_0_90 || raid(superblock, sector).is_some()
}

/// `union swap_header` of `include/linux/swap.h`: the magic number is at the end of a page, whose size
/// depends on the processor. Hibernation has another there (`kernel/power/swap.c`).
fn swap(start: &[u8]) -> Option<Superblock> {
    let found = [4096, 16384, 65536]
        .into_iter()
        .any(|page| [b"SWAPSPACE2", b"S1SUSPEND\0"].into_iter().any(|magic| is(start, page - 10, magic)));
    if !found {
        return None;
    }
    Some(Superblock {
        label: text(start, 1052, 16)?,
        uuid: uuid(array(start, 1036)?),
        ..Superblock::of(Kind::Swap)
    })
}

/// `struct squashfs_super_block` of `fs/squashfs/squashfs_fs.h`.
fn squashfs(start: &[u8]) -> Option<Superblock> {
    is(start, 0, b"hsqs").then(|| Superblock::of(Kind::Squashfs))
}

/// The name-value list of the first label, `vdev_phys_t` of OpenZFS' `vdev_impl.h`: big-endian XDR, and the
/// first pair is the version.
fn zfs(start: &[u8]) -> Option<Superblock> {
    const LIST: usize = 16 << 10;
    let found = is(start, LIST, b"\x01\x01\0\0") && is(start, LIST + 24, b"version\0");
    found.then(|| Superblock::of(Kind::Zfs))
}

/// ECMA-119, 8.4: a volume descriptor in sector 16.
fn iso9660(start: &[u8]) -> Option<Superblock> {
    is(start, 0x8001, b"CD001").then(|| Superblock::of(Kind::Iso9660))
}

/// `struct fat_boot_sector` of `include/uapi/linux/msdos_fs.h`; without the signature at its end, firmware does
/// not read it.
fn vfat(start: &[u8]) -> Option<Superblock> {
    let found = is(start, 54, b"FAT12   ") || is(start, 54, b"FAT16   ") || is(start, 82, b"FAT32   ");
    (found && is(start, 510, b"\x55\xaa")).then(|| Superblock::of(Kind::Vfat))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where, and what is there.
    type Part<'a> = (usize, &'a [u8]);

    /// Nothing, but for these bytes.
    fn start(parts: &[Part]) -> Vec<u8> {
        let mut start = vec![0; LENGTH];
        for (at, bytes) in parts {
            start[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        start
    }

    fn kind(parts: &[Part]) -> Option<Kind> {
        Superblock::find(&start(parts)).map(|found| found.kind)
    }

    const EXT4: [Part<'static>; 2] = [(1024, &[1]), (1024 + 0x38, b"\x53\xef")];
    const LUKS: Part<'static> = (0, b"LUKS\xba\xbe\0\x02");
    const BTRFS_MAGIC: Part<'static> = (BTRFS + 64, b"_BHRfS_M");

    #[test]
    fn what_is_none() {
        assert_eq!(Superblock::find(&[]), None);
        assert_eq!(kind(&[]), None);
        // A magic number alone is in one of 65536 devices with random contents.
        assert_eq!(kind(&[EXT4[1]]), None);
        assert_eq!(kind(&[EXT4[0], EXT4[1], (1024 + 0x18, &[7])]), None);
    }

    #[test]
    fn what_was_made_last_counts() {
        assert_eq!(kind(&[EXT4[0], EXT4[1], BTRFS_MAGIC]), Some(Kind::Ext4));
        assert_eq!(kind(&[EXT4[0], EXT4[1], LUKS]), Some(Kind::Luks));
        let lvm: Part = (512, b"LABELONE");
        let name: Part = (512 + 24, b"LVM2 001");
        assert_eq!(kind(&[lvm, name, BTRFS_MAGIC]), Some(Kind::Lvm));
        assert_eq!(kind(&[lvm, BTRFS_MAGIC]), Some(Kind::Btrfs));
        assert_eq!(kind(&[(4086, b"SWAPSPACE2"), BTRFS_MAGIC]), Some(Kind::Btrfs));
    }

    #[test]
    fn a_journal_is_no_file_system() {
        let [inodes, magic] = EXT4;
        assert_eq!(kind(&[inodes, magic, (1024 + 0x60, &[8])]), Some(Kind::Journal));
    }

    #[test]
    fn members_of_a_raid() {
        let magic = RAID.to_le_bytes();
        let with = |at: usize, sector: u8| start(&[(at, &magic), (at + 4, &[1]), (at + 144, &[sector])]);
        for (at, sector, expected) in [(0, 0, true), (4096, 8, true), (4096, 0, false), (0, 8, false)] {
            let found = Superblock::find(&with(at, sector)).map(|found| found.kind);
            assert_eq!(found, expected.then_some(Kind::Raid), "{at} {sector}");
        }
        // A device of 100 MiB: mdadm has them at 102384 KiB and 102336 KiB.
        assert_eq!(raid_sectors(204_800), [204_784, 204_672]);
        assert_eq!(raid_sectors(3), [0, 0]);
        let end = with(0, 16);
        assert!(is_raid(&end, 16) && !is_raid(&end, 17));
        assert!(is_raid(&magic.iter().copied().chain([0; 4]).collect::<Vec<_>>(), 17), "0.90");
        assert!(!is_raid(&[0; 512], 0) && !is_raid(&magic, 0));
    }

    #[test]
    fn an_xfs_that_cannot_be() {
        let found = Superblock::find(&start(&[(0, b"XFSB")])).unwrap();
        assert!(found.damaged);
        // Version 4 has no sum.
        let old = start(&[(0, b"XFSB"), (4, &[0, 0, 16, 0]), (100, &[0xb4, 4]), (102, &[2, 0])]);
        assert!(!Superblock::find(&old).unwrap().damaged);
    }

    #[test]
    fn the_second_superblock_of_f2fs() {
        for at in [1024, 5120] {
            let found = kind(&[(at, &0xf2f5_2010_u32.to_le_bytes()), (at + 16, &[12])]);
            assert_eq!(found, Some(Kind::F2fs));
        }
    }

    #[test]
    fn labels_end_where_their_field_ends() {
        let long = start(&[EXT4[0], EXT4[1], (1024 + 0x78, &[b'x'; 20])]);
        assert_eq!(Superblock::find(&long).unwrap().label, [b'x'; 16]);
    }

    #[test]
    fn a_device_cut_off_anywhere() {
        let all = start(&[(0, b"XFSB"), EXT4[0], EXT4[1], BTRFS_MAGIC]);
        for end in (0..3000).chain(BTRFS..LENGTH) {
            let _ = Superblock::find(&all[..end]);
        }
    }
}
