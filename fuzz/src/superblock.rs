//! A device with any contents.
//!
//! The input is the number of a place where superblocks are, and what is there.

use prepare_root::root_device::superblock::{self, Kind, Superblock};

/// Where superblocks are, and the magic number of swap ends.
const PLACES: [usize; 8] = [0, 512, 1024, 4086, 4096, 5120, 0x8001, 64 << 10];

/// One input.
pub fn run(bytes: &[u8]) {
    let Some((place, contents)) = bytes.split_first() else { return };
    let at = PLACES[usize::from(*place) % PLACES.len()];
    let mut start = vec![0; superblock::LENGTH];
    let room = &mut start[at..];
    let length = contents.len().min(room.len());
    room[..length].copy_from_slice(&contents[..length]);
    if let Some(found) = Superblock::find(&start) {
        assert!(!found.label.contains(&0) && !found.uuid.contains(&0));
        assert!(
            found.kind.bootable()
                || found.kind.container().is_some()
                || !found.damaged
                || found.kind == Kind::Journal
        );
        if found.kind.bootable() {
            assert_eq!(found.uuid.len(), 36);
        }
    }
    // A device that ends there.
    let _ = Superblock::find(&start[..at + length]);
    for sector in superblock::raid_sectors(contents.len() as u64) {
        let _ = superblock::is_raid(contents, sector);
    }
}
