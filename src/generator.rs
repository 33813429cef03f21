//! What the new system's own generator mounts after the switch to the new root: `/var`, `/boot`.
//!
//! systemd runs the deployment's `ostree-system-generator`, which makes a `var.mount` (every
//! version, unless `/etc/fstab` has a `/var`) and, since libostree 2026.1 (commit a88e66ea), a `boot.mount` and what keeps
//! mounts over a soft-reboot. Nothing on the disk says which version it is, but the code lives in
//! `libostree-1.so.1`, and a library that makes `boot.mount` contains the name of the link that
//! pulls it in.

use crate::error::describe;
use crate::lookup;
use alloc::vec::Vec;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// The generator, where systemd looks for it.
const GENERATOR: &[u8] = b"usr/lib/systemd/system-generators/ostree-system-generator";

/// A link to it, where it is what the initramfs starts: it may be installed where another is init.
const INIT: &[u8] = b"usr/sbin/init";

/// The administrator's place for generators, in `/etc`: one of this name replaces or masks the other.
const OVERRIDE: &str = "systemd/system-generators/ostree-system-generator";

/// Without systemd nobody runs the generator.
const SYSTEMD: &[u8] = b"usr/lib/systemd/systemd";

/// Made by the generator in the same breath as `boot.mount`.
const BOOT_MOUNT_LINK: &[u8] = b"local-fs.target.requires/boot.mount";

/// The most bytes of the library that are searched.
const SEARCH_LIMIT: u64 = 16 << 20;

/// What will be `/etc`.
#[derive(Clone, Copy, Debug)]
pub struct Etc<'a> {
    /// The directory it is in.
    pub of: BorrowedFd<'a>,
    /// Its path there.
    pub path: &'static str,
}

impl Etc<'_> {
    /// What is in it.
    ///
    /// # Errors
    /// As [`lookup::find_beneath`].
    pub fn find(&self, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
        lookup::find_beneath(self.of, format!("{}/{path}", self.path).as_bytes())
    }

    /// The contents of a file in it; `None` if there is none.
    ///
    /// # Errors
    /// As [`lookup::read_beneath`].
    pub fn read(&self, path: &str) -> rustix::io::Result<Option<Vec<u8>>> {
        lookup::read_beneath(self.of, format!("{}/{path}", self.path).as_bytes(), lookup::SIZE_LIMIT)
    }
}

/// What the new system mounts by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generator {
    /// It has systemd.
    pub systemd: bool,
    /// And an `ostree-system-generator`.
    pub runs: bool,
    /// That generator is known to make a `boot.mount`, and what keeps mounts over a soft-reboot.
    pub recent: bool,
}

impl Generator {
    /// Whether it keeps mounts over a soft-reboot; `acts`: it finds something to do.
    pub fn keeps_mounts(&self, acts: bool) -> bool {
        self.recent && acts
    }

    /// Looks into the root of the new system and what will be its `/etc`; `boot`: also who mounts
    /// `/boot`. What cannot be read is taken as not there.
    ///
    /// What was opened for that goes to `open`.
    pub fn of(root: BorrowedFd<'_>, etc: &Etc<'_>, boot: bool, open: &mut Vec<OwnedFd>) -> Generator {
        let mut is_there = |path: &[u8], found| {
            let found = or_log(path, found).flatten();
            let is_there = found.is_some();
            open.extend(found);
            is_there
        };
        let systemd = is_there(SYSTEMD, lookup::find_beneath(root, SYSTEMD));
        let runs = systemd
            && is_there(GENERATOR, lookup::find_beneath(root, GENERATOR))
            && !is_there(OVERRIDE.as_bytes(), etc.find(OVERRIDE));
        Generator { systemd, runs, recent: boot && runs && makes_boot_mount(root, open) }
    }
}

/// Whether init is systemd.
pub fn is_init(root: BorrowedFd<'_>, open: &mut Vec<OwnedFd>) -> bool {
    let Some(init) = or_log(INIT, lookup::find_beneath(root, INIT)).flatten() else { return false };
    let target = rustix::fs::readlinkat(&init, c"", Vec::new());
    open.push(init);
    target.is_ok_and(|target| target.to_bytes().ends_with(b"/systemd"))
}

fn makes_boot_mount(root: BorrowedFd<'_>, open: &mut Vec<OwnedFd>) -> bool {
    // Debian's multiarch directory (of the architectures called alike there), lib64, lib. The
    // deployment is of our own architecture.
    let multiarch = concat!("usr/lib/", env!("TARGET_ARCHITECTURE"), "-linux-gnu/libostree-1.so.1");
    let paths = [multiarch.as_bytes(), b"usr/lib64/libostree-1.so.1", b"usr/lib/libostree-1.so.1"];
    let library = paths.into_iter().find_map(|path| match lookup::open_for_reading(root, path) {
        Err(Errno::NOENT) => None,
        file => Some((path, file)),
    });
    let Some((path, file)) = library else { return false };
    let found = file.and_then(|file| {
        let found = contains(&file, BOOT_MOUNT_LINK);
        open.push(file);
        found
    });
    or_log(path, found).unwrap_or(false)
}

/// Whether the constants of a library contain the text. They are in its segments that are neither executable nor
/// writable, mostly the last of them; what is no library of that kind is searched from its beginning to its end.
fn contains(file: &OwnedFd, needle: &[u8]) -> rustix::io::Result<bool> {
    let mut start = Vec::with_capacity(1 << 10);
    lookup::read_at(file, &mut start, 0)?;
    let mut segments = read_only_segments(&start);
    if segments.is_empty() {
        segments.push(Segment { offset: 0, size: SEARCH_LIMIT });
    }
    for segment in segments.into_iter().rev() {
        if segment.contains(file, needle)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A piece of a file, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    size: u64,
}

impl Segment {
    /// How much is read at once.
    const PIECE: usize = 1 << 16;

    fn contains(&self, file: &OwnedFd, needle: &[u8]) -> rustix::io::Result<bool> {
        let size = self.size.min(SEARCH_LIMIT);
        let room = usize::try_from(size).unwrap_or(Segment::PIECE).min(Segment::PIECE);
        let mut buffer = Vec::with_capacity(room);
        let mut at = 0;
        while at < size {
            lookup::read_at(file, &mut buffer, self.offset.saturating_add(at))?;
            if find(&buffer, needle) {
                return Ok(true);
            }
            let count = buffer.len();
            if count < room {
                break;
            }
            // The needle may straddle two reads.
            at += (count - (needle.len() - 1).min(count - 1)) as u64;
        }
        Ok(false)
    }
}

/// The segments of a 64-bit ELF file in this machine's byte order that are loaded neither executable nor writable
/// (`elf(5)`); none if the start of the file does not tell.
fn read_only_segments(start: &[u8]) -> Vec<Segment> {
    /// `e_ident`: magic number, ELFCLASS64, ELFDATA2LSB.
    const LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    /// `sizeof(Elf64_Phdr)`
    const ENTRY: usize = 56;
    const PT_LOAD: u64 = 1;
    const PF_X: u64 = 1;
    const PF_W: u64 = 2;
    /// Where the fields are, and how many bytes they have.
    fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let mut number = [0; 8];
        number[..size].copy_from_slice(bytes.get(at..at + size)?);
        Some(u64::from_le_bytes(number))
    }
    let table = || {
        let start = start.strip_prefix(LITTLE_ENDIAN).map(|_| start)?;
        let (offset, count) = (usize::try_from(number(start, 32, 8)?).ok()?, number(start, 56, 2)?);
        let size = usize::try_from(count).ok()?.checked_mul(ENTRY)?;
        Some(start.get(offset..offset.checked_add(size)?)?.chunks_exact(ENTRY))
    };
    let segment = |entry: &[u8]| {
        let (kind, flags) = (number(entry, 0, 4)?, number(entry, 4, 4)?);
        let segment = Segment { offset: number(entry, 8, 8)?, size: number(entry, 32, 8)? };
        (kind == PT_LOAD && flags & (PF_X | PF_W) == 0).then_some(segment)
    };
    table().into_iter().flatten().filter_map(segment).collect()
}

/// Boyer-Moore-Horspool, which looks at about one byte in `needle.len()`.
fn find(haystack: &[u8], needle: &[u8]) -> bool {
    let last = needle.len() - 1;
    let mut skip = [needle.len(); 256];
    for (index, &byte) in needle[..last].iter().enumerate() {
        skip[usize::from(byte)] = last - index;
    }
    let mut at = 0;
    while let Some(&byte) = haystack.get(at + last) {
        if byte == needle[last] && haystack.get(at..=at + last) == Some(needle) {
            return true;
        }
        at += skip[usize::from(byte)];
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
        file
    }

    #[test]
    fn finds_a_needle_that_straddles_two_reads() {
        const PIECE: usize = Segment::PIECE;
        for at in [0, 65_500, PIECE - 6, PIECE - 5, PIECE - 1, PIECE, 2 * PIECE - 6, 2 * PIECE + 1] {
            let mut bytes = vec![b'x'; 2 * PIECE + 10];
            bytes[at..at + 6].copy_from_slice(b"needle");
            assert_eq!(contains(&file(&bytes), b"needle"), Ok(true), "{at}");
        }
        assert_eq!(contains(&file(b"needl"), b"needle"), Ok(false));
        assert_eq!(contains(&file(b""), b"needle"), Ok(false));
    }

    #[test]
    fn a_library_is_searched_where_its_constants_are() {
        // The file header, and two segments: to be executed, and to be read.
        let mut library = vec![0; 64 + 2 * 56];
        library[..6].copy_from_slice(b"\x7fELF\x02\x01");
        library[32] = 64;
        library[56] = 2;
        for (entry, flags, offset) in [(64, 5, 0x200_u16), (64 + 56, 4, 0x300)] {
            (library[entry], library[entry + 4]) = (1, flags);
            library[entry + 8..entry + 10].copy_from_slice(&offset.to_le_bytes());
            library[entry + 33] = 1;
        }
        assert_eq!(read_only_segments(&library), [Segment { offset: 0x300, size: 0x100 }]);
        library.resize(0x400, 0);
        library[0x200..0x206].copy_from_slice(b"needle");
        assert_eq!(contains(&file(&library), b"needle"), Ok(false));
        library[0x3fa..].copy_from_slice(b"needle");
        assert_eq!(contains(&file(&library), b"needle"), Ok(true));
        // Whatever is cut off, or out of its bounds.
        for length in 0..library.len() {
            let _ = contains(&file(&library[..length]), b"needle");
        }
        library[32..40].fill(255);
        assert_eq!(contains(&file(&library), b"needle"), Ok(true));
    }

    #[test]
    fn a_search_ends() {
        let sparse = rustix::fs::memfd_create("library", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&sparse, 1 << 40).unwrap();
        assert_eq!(contains(&sparse, b"needle"), Ok(false));
    }
}
