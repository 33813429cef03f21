//! What the new system's own generator mounts after the switch to the new root: `/var`, `/boot`.
//!
//! systemd runs the deployment's `ostree-system-generator`, which makes a `var.mount` (every
//! version, unless `/etc/fstab` has a `/var`) and a `boot.mount` (libostree 2026, found by trying:
//! trixie's 2025.2 makes none). Nothing on the disk says which version it is, but the code lives in
//! `libostree-1.so.1`, and a library that makes `boot.mount` contains the name of the link that
//! pulls it in.

use crate::error::describe;
use crate::lookup;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The generator, where systemd looks for it.
const GENERATOR: &[u8] = b"usr/lib/systemd/system-generators/ostree-system-generator";

/// The administrator's place for generators, in `/etc`: one of this name replaces or masks the other.
const OVERRIDE: &[u8] = b"systemd/system-generators/ostree-system-generator";

/// Without systemd nobody runs the generator.
const SYSTEMD: &[u8] = b"usr/lib/systemd/systemd";

/// Made by the generator in the same breath as `boot.mount`.
const BOOT_MOUNT_LINK: &[u8] = b"local-fs.target.requires/boot.mount";

/// The most bytes of the library that are searched.
const SEARCH_LIMIT: usize = 16 << 20;

/// What the new system mounts by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generator {
    /// It has systemd and an `ostree-system-generator`.
    pub runs: bool,
    /// That generator makes a `boot.mount`.
    pub mounts_boot: bool,
}

impl Generator {
    /// Looks into the root of the new system and what will be its `/etc`; `boot`: also who mounts
    /// `/boot`. What cannot be read is taken as not there.
    pub fn of(root: BorrowedFd<'_>, etc: BorrowedFd<'_>, boot: bool) -> Generator {
        let there = |directory, path: &[u8]| {
            or_log(path, lookup::kind_beneath(directory, path, OFlags::NOFOLLOW)).flatten().is_some()
        };
        let runs = there(root, GENERATOR) && there(root, SYSTEMD) && !there(etc, OVERRIDE);
        Generator { runs, mounts_boot: boot && runs && makes_boot_mount(root) }
    }
}

fn makes_boot_mount(root: BorrowedFd<'_>) -> bool {
    // Debian's multiarch directory (of the architectures called alike there), lib64, lib. The
    // deployment is of our own architecture.
    let multiarch = concat!("usr/lib/", env!("TARGET_ARCHITECTURE"), "-linux-gnu/libostree-1.so.1");
    let paths = [multiarch.as_bytes(), b"usr/lib64/libostree-1.so.1", b"usr/lib/libostree-1.so.1"];
    let library = paths.into_iter().find_map(|path| match lookup::open_file_beneath(root, path) {
        Err(Errno::NOENT) => None,
        file => Some((path, file)),
    });
    let Some((path, file)) = library else { return false };
    or_log(path, file.and_then(|file| contains(&file, BOOT_MOUNT_LINK))).unwrap_or(false)
}

fn contains(file: &OwnedFd, needle: &[u8]) -> rustix::io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let mut kept = 0;
    for _ in 0..SEARCH_LIMIT / buffer.len() {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer[kept..]))?;
        let filled = kept + count;
        if count == 0 || find(&buffer[..filled], needle) {
            return Ok(count != 0);
        }
        // The needle may straddle two reads.
        kept = filled.min(needle.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
    Ok(false)
}

/// Boyer-Moore-Horspool, which looks at about one byte in `needle.len()`.
fn find(haystack: &[u8], needle: &[u8]) -> bool {
    let last = needle.len() - 1;
    let mut skip = [needle.len(); 256];
    for (index, &byte) in needle[..last].iter().enumerate() {
        skip[usize::from(byte)] = last - index;
    }
    let mut at = 0;
    while let Some(window) = haystack.get(at..at + needle.len()) {
        if window == needle {
            return true;
        }
        at += skip[usize::from(window[last])];
    }
    false
}

/// What was read; what cannot be read is logged.
pub fn or_log<T>(path: &[u8], result: rustix::io::Result<T>) -> Option<T> {
    result
        .map_err(|errno| log::warn!("read {} of the deployment: {}", path.escape_ascii(), describe(errno)))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_needle_wherever_it_is() {
        let needle = b"abcab";
        for at in 0..20 {
            let mut haystack = vec![b'a'; 20];
            haystack.splice(at..at, needle.iter().copied());
            assert!(find(&haystack, needle), "{at}");
        }
        assert!(!find(b"abcaabcbab", needle));
        assert!(!find(b"abca", needle));
    }

    /// A file without a name.
    fn file(bytes: &[u8]) -> OwnedFd {
        let file = rustix::fs::memfd_create("library", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        lookup::write_all(&file, bytes).unwrap();
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
        file
    }

    #[test]
    fn finds_a_needle_that_straddles_two_reads() {
        for at in [0, 65_500, 65_535, 65_536, 131_060] {
            let mut bytes = vec![b'x'; 140_000];
            bytes[at..at + 6].copy_from_slice(b"needle");
            assert_eq!(contains(&file(&bytes), b"needle"), Ok(true), "{at}");
        }
        assert_eq!(contains(&file(b"needl"), b"needle"), Ok(false));
    }

    #[test]
    fn a_search_ends() {
        let endless = file(b"");
        rustix::fs::ftruncate(&endless, 1 << 40).unwrap();
        assert_eq!(contains(&endless, b"needle"), Ok(false));
    }
}
