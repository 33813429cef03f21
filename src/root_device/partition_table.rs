//! Partition tables: by which UUID and label a partition goes.
//!
//! The kernel has parsed the table and made the partitions; here it is read again for what the kernel does not tell
//! ([`super::device`]). So a table is taken for valid when the kernel does (`block/partitions/efi.c`,
//! `block/partitions/msdos.c`). A GPT that is damaged is one: the backup at the end of the disk is
//! used by the kernel only if asked to, by the argument `gpt`, and then it says the UUIDs itself (Linux 6.13).

use super::bytes::{IEEE, array, crc32, is, le32, le64, utf16, uuid};
use alloc::vec::Vec;

/// How many bytes from the start of a disk [`Table::find`] looks at: two sectors of up to 4096 bytes.
pub const LENGTH: usize = 2 * 4096;

/// The most bytes of entries that are read. The specification wants room for 128, and 16 KiB.
const ENTRIES_LIMIT: u64 = 1 << 20;

/// `sizeof(gpt_entry)`; other sizes the specification allows and the kernel refuses.
const ENTRY: usize = 128;

/// What the first sectors of a disk say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A GPT, and where its entries are.
    Gpt(Place),
    /// There ought to be a GPT, and its header is damaged.
    Damaged,
    /// An MBR with this disk signature.
    Mbr(u32),
}

/// Where the entries of a GPT are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first byte on the disk.
    pub offset: u64,
    /// How many bytes.
    pub length: usize,
    /// Their checksum.
    sum: u32,
}

/// The entries of a GPT, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries(Vec<u8>);

/// By what a partition is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `PARTUUID`, as text in lower case.
    pub uuid: Vec<u8>,
    /// `PARTLABEL`, in UTF-8; empty if there is none.
    pub label: Vec<u8>,
}

impl Table {
    /// Looks at the first bytes of a disk with logical sectors of `sector` bytes.
    pub fn find(start: &[u8], sector: usize) -> Option<Table> {
        const RECORDS: usize = 446;
        if !is(start, 510, b"\x55\xaa") {
            return None;
        }
        let records = || (0..4).filter_map(|record| start.get(RECORDS + 16 * record..)?.first_chunk::<16>());
        // The record of type 0xee that protects the GPT, and covers the disk from sector 1.
        if records().any(|record| record[4] == 0xee && le32(record, 8) == Some(1)) {
            return Some(header(start, sector).map_or(Table::Damaged, Table::Gpt));
        }
        // A boot sector without partitions ends in the same two bytes.
        let plausible =
            records().all(|record| record[0] & 0x7f == 0) && records().any(|record| record[4] != 0);
        plausible.then(|| le32(start, 440).map(Table::Mbr))?
    }
}

/// The header in sector 1, `gpt_header` of `block/partitions/efi.h`.
fn header(start: &[u8], sector: usize) -> Option<Place> {
    const SIZE: usize = 92;
    let header = start.get(sector..sector.checked_mul(2)?)?;
    let size = usize::try_from(le32(header, 12)?).ok()?;
    if !is(header, 0, b"EFI PART") || size < SIZE || le64(header, 24)? != 1 {
        return None;
    }
    // The sum is made as if its own place were empty.
    let sum = crc32(IEEE, crc32(IEEE, !0, header.get(..16)?), &[0; 4]);
    if le32(header, 16)? != !crc32(IEEE, sum, header.get(20..size)?) {
        return None;
    }
    let length = u64::from(le32(header, 80)?) * ENTRY as u64;
    if le32(header, 84)? != ENTRY as u32 || length == 0 || length > ENTRIES_LIMIT {
        return None;
    }
    Some(Place {
        offset: le64(header, 72)?.checked_mul(sector as u64)?,
        length: usize::try_from(length).ok()?,
        sum: le32(header, 88)?,
    })
}

impl Place {
    /// The bytes that were read there, if they are the entries.
    pub fn check(&self, bytes: Vec<u8>) -> Option<Entries> {
        (bytes.len() == self.length && !crc32(IEEE, !0, &bytes) == self.sum).then_some(Entries(bytes))
    }
}

impl Entries {
    /// The partition of this number; `None` if there is none.
    pub fn partition(&self, number: u32) -> Option<Identity> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let entry = self.0.chunks_exact(ENTRY).nth(index)?;
        let is_used = array::<16>(entry, 0)? != [0; 16];
        is_used
            .then(|| Some(Identity { uuid: uuid(guid(array(entry, 16)?)), label: utf16(entry, 56, 72)? }))?
    }
}

/// The first three fields of a GUID are little-endian.
fn guid([a, b, c, d, e, f, g, h, rest @ ..]: [u8; 16]) -> [u8; 16] {
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// The partition of this number of an MBR with this disk signature. Logical partitions have theirs by number too.
pub fn mbr_partition(signature: u32, number: u32) -> Identity {
    Identity { uuid: format!("{signature:08x}-{number:02x}").into_bytes(), label: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GPT of two entries, as `sfdisk` writes it with sectors of this size.
    fn disk(sector: usize) -> Vec<u8> {
        let mut disk = vec![0; 2 * sector + 2 * ENTRY];
        disk[446 + 4] = 0xee;
        disk[446 + 8] = 1;
        disk[510..512].copy_from_slice(b"\x55\xaa");
        let entry = &mut disk[2 * sector + ENTRY..];
        entry[0] = 1;
        entry[16..32].copy_from_slice(&(0..16).collect::<Vec<u8>>());
        let label: Vec<u8> = "Größe 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        entry[56..56 + label.len()].copy_from_slice(&label);
        let header = &mut disk[sector..];
        header[..8].copy_from_slice(b"EFI PART");
        for (at, value) in [(12, 92), (24, 1), (72, 2), (80, 2), (84, 128)] {
            header[at] = value;
        }
        sum(disk, sector)
    }

    fn sum(mut disk: Vec<u8>, sector: usize) -> Vec<u8> {
        let entries = !crc32(IEEE, !0, &disk[2 * sector..]);
        disk[sector + 88..sector + 92].copy_from_slice(&entries.to_le_bytes());
        disk[sector + 16..sector + 20].fill(0);
        let header = !crc32(IEEE, !0, &disk[sector..sector + 92]);
        disk[sector + 16..sector + 20].copy_from_slice(&header.to_le_bytes());
        disk
    }

    fn identity(disk: &[u8], sector: usize, number: u32) -> Option<Identity> {
        let Some(Table::Gpt(place)) = Table::find(disk, sector) else { return None };
        let offset = usize::try_from(place.offset).unwrap();
        place.check(disk[offset..offset + place.length].to_vec())?.partition(number)
    }

    #[test]
    fn gpt_with_small_and_large_sectors() {
        for sector in [512, 4096] {
            let disk = disk(sector);
            let expected = Identity {
                uuid: b"03020100-0504-0706-0809-0a0b0c0d0e0f".to_vec(),
                label: "Größe 1".into(),
            };
            assert_eq!(identity(&disk, sector, 2), Some(expected));
            for none in [0, 1, 3, u32::MAX] {
                assert_eq!(identity(&disk, sector, none), None, "{none}");
            }
        }
        assert_eq!(Table::find(&disk(512), 4096), Some(Table::Damaged));
        assert_eq!(Table::find(&disk(512), usize::MAX), Some(Table::Damaged));
    }

    #[test]
    fn every_change_of_a_gpt_is_noticed() {
        let disk = disk(512);
        // Sums, and what they are made of.
        for at in (512..512 + 92).chain(1024..disk.len()) {
            let mut damaged = disk.clone();
            damaged[at] ^= 1;
            assert_eq!(identity(&damaged, 512, 2), None, "{at}");
        }
    }

    #[test]
    fn hostile_numbers_with_the_right_sum() {
        for (at, value) in
            [(12, 0), (12, 0xffff_ffff), (80, 0), (80, 0x2001), (80, 0xffff_ffff), (84, 127), (84, 256)]
        {
            let mut disk = disk(512);
            disk[512 + at..512 + at + 4].copy_from_slice(&u32::to_le_bytes(value));
            assert_eq!(Table::find(&sum(disk, 512), 512), Some(Table::Damaged), "{at}: {value}");
        }
        let mut disk = disk(512);
        disk[512 + 72..512 + 80].fill(0xff);
        assert_eq!(Table::find(&sum(disk, 512), 512), Some(Table::Damaged));
        // The backup, copied to the place of the header.
        let mut disk = super::tests::disk(512);
        disk[512 + 24] = 99;
        assert_eq!(Table::find(&sum(disk, 512), 512), Some(Table::Damaged));
    }

    #[test]
    fn mbr() {
        let mut disk = vec![0; 512];
        disk[440..444].copy_from_slice(&[4, 3, 2, 1]);
        disk[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(Table::find(&disk, 512), None, "no partition");
        disk[446 + 4] = 0x83;
        assert_eq!(Table::find(&disk, 512), Some(Table::Mbr(0x0102_0304)));
        assert_eq!(Table::find(&disk[..511], 512), None);
        assert_eq!(mbr_partition(0x0102_0304, 5).uuid, b"01020304-05");
        disk[446 + 16] = 1;
        assert_eq!(Table::find(&disk, 512), None, "a boot sector");
    }
}
