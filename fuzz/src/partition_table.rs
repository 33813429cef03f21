//! A disk with any partition table.
//!
//! The first byte of the input says how large its sectors are, and whether the checksums are made right, which no
//! fuzzer would guess.

use prepare_root::root_device::partition_table::Table;

/// One input.
pub fn run(bytes: &[u8]) {
    let Some((form, disk)) = bytes.split_first() else { return };
    let sector = if form & 1 == 0 { 512 } else { 1024 };
    let mut disk = disk.to_vec();
    if form & 2 != 0 {
        let _ = sum(&mut disk, sector);
    }
    let Some(Table::Gpt(place)) = Table::find(&disk, sector) else { return };
    assert!(place.length > 0 && place.length <= 1 << 20);
    let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
    let end = offset.saturating_add(place.length);
    let read = disk.get(offset..end.min(disk.len())).unwrap_or_default().to_vec();
    let is_whole = read.len() == place.length;
    let Some(entries) = place.check(read) else { return };
    assert!(is_whole);
    for number in 0..=u32::try_from(place.length / 128).expect("a megabyte") + 1 {
        if let Some(identity) = entries.partition(number) {
            assert!(number > 0 && identity.uuid.len() == 36);
            assert!(str::from_utf8(&identity.label).is_ok() && !identity.label.contains(&0));
        }
    }
}

fn sum(disk: &mut [u8], sector: usize) -> Option<()> {
    let number = |disk: &[u8], at: usize| {
        disk.get(sector + at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize)
    };
    let start = number(disk, 72)?.checked_mul(sector)?;
    let entries = disk.get(start..start.checked_add(number(disk, 80)?.checked_mul(128)?)?)?;
    let entries = crc32(entries).to_le_bytes();
    disk.get_mut(sector + 88..sector + 92)?.copy_from_slice(&entries);
    disk.get_mut(sector + 16..sector + 20)?.fill(0);
    let header = disk.get(sector..sector.checked_add(number(disk, 12)?)?)?;
    let header = crc32(header).to_le_bytes();
    disk.get_mut(sector + 16..sector + 20)?.copy_from_slice(&header);
    Some(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
