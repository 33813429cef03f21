//! The block devices of the machine, and what is on them.
//!
//! The kernel lists them in `/sys/class/block`, and devtmpfs has the nodes. Reading can only wait for as long as
//! the kernel needs to give up on a device: there is no way to read a disk without waiting, and none is known
//! that answers never. So no more is read than the question needs.

use super::bytes::{decimal, number};
use super::partition_table::{self, Identity, Table, mbr_partition};
use super::superblock::{self, Superblock};
use crate::lookup;
use alloc::ffi::CString;
use alloc::vec::Vec;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Where the kernel tells about devices.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// `/sys/class/block`
    pub class: &'a [u8],
    /// `/dev`
    pub nodes: &'a [u8],
}

/// Those of a running system.
pub const PLACES: Places<'_> = Places { class: b"/sys/class/block", nodes: b"/dev" };

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name, as in `/sys/class/block`.
    pub name: Vec<u8>,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Its size in units of 512 bytes, whatever its sectors are.
    pub sectors: u64,
    /// The disk that it is a partition of; of a disk, its own name.
    pub disk: Vec<u8>,
    /// The number of the partition; of a disk, 0.
    pub part: u32,
    /// By what the partition is known; `None` as long as nobody looked.
    pub identity: Option<Identity>,
    /// What is on it; `None` as long as nobody looked.
    pub content: Option<Content>,
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Something with a superblock.
    Superblock(Superblock),
    /// A disk with partitions.
    Table(Table),
    /// Nothing that is known here.
    Unknown,
    /// It could not be read.
    Unreadable(Errno),
}

/// Devices that are not looked at unless they are asked for by name: disks in memory, which nobody filled,
/// and what takes seconds to say that there is no medium in it.
const SKIPPED: [&[u8]; 4] = [b"ram", b"zram", b"sr", b"fd"];

/// A disk of more partitions has no part in the kernel (`DISK_MAX_PARTS`), and nobody has more devices.
const DEVICES_LIMIT: usize = 1 << 14;

/// A sector of RAID metadata.
const SECTOR: usize = 512;

impl Places<'_> {
    /// The devices that the kernel knows, without those that are empty: `sda2` before `sda10` before `sdb`.
    ///
    /// # Errors
    /// As `open(2)` and `getdents(2)`.
    pub fn devices(&self) -> rustix::io::Result<Vec<Device>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let class = rustix::fs::openat(CWD, path(&[self.class]).as_c_str(), flags, Mode::empty())?;
        let mut devices = Vec::new();
        for entry in Dir::new(class)?.take(DEVICES_LIMIT) {
            self.update(&mut devices, entry?.file_name().to_bytes());
        }
        Ok(devices)
    }

    /// Looks, or looks again, whether there is a device of this name.
    pub fn update(&self, devices: &mut Vec<Device>, name: &[u8]) {
        devices.retain(|device| device.name != name);
        if let Some(device) = self.device(name) {
            let place = devices.partition_point(|other| other.order() < device.order());
            devices.insert(place, device);
        }
    }

    /// What the kernel says of one device; `None` if it is gone, or empty.
    fn device(&self, name: &[u8]) -> Option<Device> {
        let uevent = self.attribute(name, b"uevent")?;
        let value = |key: &[u8]| uevent.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key));
        let part = value(b"PARTN=").and_then(decimal).unwrap_or(0);
        let disk = if part == 0 { name.to_vec() } else { self.disk(name)? };
        // The kernel tells PARTUUID since Linux 6.13, and of a label it makes ASCII, with exclamation marks for all
        // else (`utf16_le_to_7bit` in `block/partitions/efi.c`).
        let label = value(b"PARTNAME=").unwrap_or_default();
        let identity = match value(b"PARTUUID=") {
            Some(uuid) if !label.contains(&b'!') => {
                Some(Identity { uuid: uuid.to_vec(), label: label.to_vec() })
            }
            _ if part == 0 => Some(Identity::default()),
            _ => None,
        };
        Some(Device {
            name: name.to_vec(),
            number: (decimal(value(b"MAJOR=")?)?, decimal(value(b"MINOR=")?)?),
            sectors: number(&self.attribute(name, b"size")?, 10).filter(|sectors| *sectors > 0)?,
            disk,
            part,
            identity,
            content: None,
        })
    }

    /// The disk of a partition: what is before its own name in `../../devices/.../vda/vda1`.
    fn disk(&self, name: &[u8]) -> Option<Vec<u8>> {
        let link = path(&[self.class, b"/", name]);
        let link = rustix::fs::readlinkat(CWD, link.as_c_str(), Vec::new()).ok()?;
        Some(link.as_bytes().rsplit(|&byte| byte == b'/').nth(1)?.to_vec())
    }

    /// Finds out by what a partition is known, from the disk's table if need be.
    pub fn identify(&self, device: &mut Device) {
        if device.identity.is_none() {
            device.identity = Some(self.in_table(&device.disk, device.part).unwrap_or_default());
        }
    }

    fn in_table(&self, disk: &[u8], number: u32) -> Option<Identity> {
        let node = self.open(disk).ok()?;
        let start = read(&node, 0, partition_table::LENGTH).ok()?;
        match Table::find(&start, self.sector(disk))? {
            Table::Gpt(place) => {
                place.check(read(&node, place.offset, place.length).ok()?)?.partition(number)
            }
            Table::Mbr(signature) => Some(mbr_partition(signature, number)),
            Table::Damaged => None,
        }
    }

    fn sector(&self, disk: &[u8]) -> usize {
        let size = self.attribute(disk, b"queue/logical_block_size");
        size.and_then(|size| usize::try_from(number(&size, 10)?).ok()).unwrap_or(SECTOR)
    }

    /// Finds out what is on a device.
    pub fn examine(&self, device: &mut Device) {
        if device.content.is_none() {
            let content = self.content(device).unwrap_or_else(Content::Unreadable);
            device.content = Some(content);
        }
    }

    fn content(&self, device: &Device) -> rustix::io::Result<Content> {
        let node = self.open(&device.name)?;
        let start = read(&node, 0, superblock::LENGTH)?;
        for sector in superblock::raid_sectors(device.sectors) {
            let offset = sector.saturating_mul(SECTOR as u64);
            if superblock::is_raid(&read(&node, offset, SECTOR)?, sector) {
                return Ok(Content::Superblock(Superblock::of(superblock::Kind::Raid)));
            }
        }
        Ok(match (Superblock::find(&start), Table::find(&start, self.sector(&device.name))) {
            (Some(superblock), _) => Content::Superblock(superblock),
            (None, Some(table)) if device.part == 0 => Content::Table(table),
            (None, _) => Content::Unknown,
        })
    }

    fn open(&self, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let node = rustix::fs::openat(CWD, self.node(name).as_c_str(), flags, Mode::empty())?;
        // Tests have files.
        match FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode) {
            FileType::BlockDevice | FileType::RegularFile => Ok(node),
            _ => Err(Errno::NOTBLK),
        }
    }

    /// The path of a device's node: an exclamation mark in a name stands for a slash.
    pub fn node(&self, name: &[u8]) -> CString {
        let name: Vec<u8> = name.iter().map(|&byte| if byte == b'!' { b'/' } else { byte }).collect();
        path(&[self.nodes, b"/", &name])
    }

    /// Looks at every disk in every way.
    pub fn identify_all(&self, devices: &mut [Device]) {
        for device in devices.iter_mut().filter(|device| device.is_disk()) {
            self.identify(device);
            self.examine(device);
        }
    }

    /// A file of a device, without the new line at its end.
    fn attribute(&self, name: &[u8], file: &[u8]) -> Option<Vec<u8>> {
        let mut value = lookup::read(&path(&[self.class, b"/", name, b"/", file])).ok()??;
        value.truncate(value.trim_ascii_end().len());
        Some(value)
    }
}

impl Device {
    /// Whether it is worth to look at what is on it.
    pub fn is_disk(&self) -> bool {
        let skipped = |start: &&[u8]| {
            self.name.strip_prefix(*start).is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
        };
        !SKIPPED.iter().any(skipped)
    }

    /// Disks in the order in which the kernel names them, each followed by its partitions.
    fn order(&self) -> (usize, &[u8], u32) {
        (self.disk.len(), &self.disk, self.part)
    }
}

/// As many bytes as there are, up to `length`.
fn read(node: &OwnedFd, offset: u64, length: usize) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::retry_on_intr(|| rustix::io::pread(node, &mut *rest, offset + filled as u64))? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Names that the kernel gives have no NUL in them.
fn path(parts: &[&[u8]]) -> CString {
    CString::new(parts.concat()).unwrap_or_default()
}
