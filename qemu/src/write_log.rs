//! The log that QEMU's `blklogwrites` keeps of everything written to a disk.
//!
//! The format is that of Linux' dm-log-writes (`drivers/md/dm-log-writes.c`, and
//! `Documentation/admin-guide/device-mapper/log-writes.rst`), as QEMU's `block/blklogwrites.c` writes it; all numbers are
//! little-endian. The first sector of the log has a magic number, the version and the number of entries (64 bits each)
//! and the size of its sectors (32 bits). An entry is a sector with four numbers of 64 bits: where on the disk, how many
//! sectors, flags, and a length that only marks have; what was written follows. QEMU adds an entry when the
//! disk has done it. So what comes before a flush is on the disk when the flush is done; what comes after it may be lost
//! with the power, until the next.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;

/// The smallest sector; a text begins at one.
const SECTOR: usize = 512;

/// How much is in memory at once.
const PIECE: u64 = 1 << 20;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something was written.
    Write {
        /// Where on the disk, in bytes.
        at: u64,
        /// How much.
        length: u64,
        /// Where in the log it is.
        data: u64,
    },
    /// The disk wrote down what it had in its cache.
    Flush,
}

impl Entry {
    /// Where on the disk it wrote.
    pub fn address(&self) -> Option<u64> {
        match self {
            Self::Write { at, .. } => Some(*at),
            Self::Flush => None,
        }
    }
}

/// A log.
#[derive(Debug)]
pub struct WriteLog {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads which entries there are, for a disk of this size.
    pub fn open(path: &Path, disk: u64) -> Result<Self> {
        let read = || -> Result<(File, Vec<Entry>)> {
            let file = File::open(path)?;
            let entries = entries(&file, file.metadata()?.len(), disk)?;
            Ok((file, entries))
        };
        let (file, entries) = read().with_context(|| format!("read the log of writes {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// The entries in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first entry that wrote this text, at the start of a sector.
    pub fn find(&self, text: &str) -> Result<Option<usize>> {
        for (index, entry) in self.entries.iter().enumerate() {
            let mut found = false;
            self.pieces(entry, |_, piece| {
                found |= piece.chunks(SECTOR).any(|sector| sector.starts_with(text.as_bytes()));
                Ok(())
            })?;
            if found {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Writes to the image of a disk what some of the entries wrote, in the order given.
    pub fn apply(&self, entries: &[Entry], image: &Path) -> Result<()> {
        let disk = File::options().write(true).open(image);
        let disk = disk.with_context(|| format!("open {}", image.display()))?;
        let write = |at, piece: &[u8]| {
            disk.write_all_at(piece, at).with_context(|| format!("write to {}", image.display()))
        };
        entries.iter().try_for_each(|entry| self.pieces(entry, write))
    }

    /// Gives what an entry wrote, and where, piece by piece.
    fn pieces(&self, entry: &Entry, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let Entry::Write { at, length, data } = *entry else { return Ok(()) };
        let mut buffer = Vec::new();
        for start in (0..length).step_by(PIECE as usize) {
            buffer.resize(PIECE.min(length - start) as usize, 0);
            let read = self.file.read_exact_at(&mut buffer, data + start);
            read.with_context(|| format!("read the log of writes {}", self.path.display()))?;
            take(at + start, &buffer)?;
        }
        Ok(())
    }
}

/// The entries of a log of this length, whose data is in it and goes to a disk of this size.
fn entries(file: &File, length: u64, disk: u64) -> Result<Vec<Entry>> {
    let [magic, version, count, size] = numbers(file, 0).context("read the superblock")?;
    ensure!(magic == MAGIC && version == VERSION, "its magic number is {magic:#x}, its version {version}");
    let sector = size & u64::from(u32::MAX);
    ensure!(sector.is_power_of_two() && sector >= SECTOR as u64, "its sectors have {sector} bytes");
    let mut entries = Vec::new();
    let mut here = sector;
    for number in 0..count {
        let [at, sectors, flags, _] = numbers(file, here).with_context(|| format!("read entry {number}"))?;
        let data = here + sector;
        let range = |start: u64, end: u64| {
            sectors
                .checked_mul(sector)
                .filter(|length| start.checked_add(*length).is_some_and(|to| to <= end))
        };
        match flags {
            FLUSH if sectors == 0 => entries.push(Entry::Flush),
            0 => {
                let at = at.checked_mul(sector).filter(|at| range(*at, disk).is_some());
                let at = at.with_context(|| format!("entry {number}: it ends outside of the disk"))?;
                let length = range(data, length)
                    .with_context(|| format!("entry {number}: it ends outside of the log"))?;
                entries.push(Entry::Write { at, length, data });
            }
            // A discard, for one: it is not said what is on the disk afterwards.
            _ => anyhow::bail!(
                "entry {number}: it has flags {flags:#x} and {sectors} sectors; only writes and flushes can be replayed"
            ),
        }
        here = data + sectors * sector;
    }
    Ok(entries)
}

/// Four numbers.
fn numbers(file: &File, at: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, at)?;
    let (numbers, _) = bytes.as_chunks::<8>();
    Ok([0, 1, 2, 3].map(|number| u64::from_le_bytes(numbers[number])))
}

#[cfg(test)]
mod tests {
    use super::{Entry, MAGIC, WriteLog};
    use std::fs;
    use std::path::PathBuf;

    /// A file of its own, gone with the value.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, contents: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("write-log-{}-{name}", std::process::id()));
            fs::write(&path, contents).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// A sector that begins with these numbers.
    fn sector(numbers: [u64; 4]) -> Vec<u8> {
        let mut sector = numbers.map(u64::to_le_bytes).concat();
        sector.resize(512, 0);
        sector
    }

    /// A log with these entries, each with its data.
    fn log(entries: &[([u64; 4], &[u8])]) -> Vec<u8> {
        let mut log = sector([MAGIC, 1, entries.len() as u64, 512]);
        for (numbers, data) in entries {
            log.extend(sector(*numbers));
            log.extend_from_slice(data);
        }
        log
    }

    /// What is wrong with a log, for a disk of four sectors.
    fn refused(name: &str, log: &[u8]) -> String {
        let log = Scratch::new(name, log);
        format!("{:#}", WriteLog::open(&log.0, 2048).unwrap_err())
    }

    const FLUSH: ([u64; 4], &[u8]) = ([0, 0, 1, 0], &[]);

    #[test]
    fn what_was_written_is_written_again() {
        let (mut a, b) = ([b'a'; 1024], [b'b'; 512]);
        a[512..516].copy_from_slice(b"mark");
        let file = Scratch::new("whole", &log(&[([1, 2, 0, 0], &a), FLUSH, ([2, 1, 0, 0], &b)]));
        let log = WriteLog::open(&file.0, 2048).unwrap();
        let write = |at, length, data| Entry::Write { at, length, data };
        assert_eq!(log.entries(), [write(512, 1024, 1024), Entry::Flush, write(1024, 512, 3072)]);
        assert_eq!(log.find("mark").unwrap(), Some(0));
        assert_eq!(log.find("bb").unwrap(), Some(2));
        assert_eq!(log.find("ark").unwrap(), None);

        let disk = Scratch::new("disk", &[0; 2048]);
        log.apply(&log.entries()[..2], &disk.0).unwrap();
        assert_eq!(fs::read(&disk.0).unwrap(), [&[0; 512][..], &a, &[0; 512]].concat());
        log.apply(&log.entries()[2..], &disk.0).unwrap();
        assert_eq!(fs::read(&disk.0).unwrap(), [&[0; 512], &a[..512], &b, &[0; 512]].concat());
    }

    #[test]
    fn what_is_not_a_log_is_refused() {
        assert!(refused("empty", &[]).contains("superblock"));
        assert!(refused("magic", &sector([1, 1, 0, 512])).contains("magic number is 0x1"));
        assert!(refused("version", &sector([MAGIC, 2, 0, 512])).contains("its version 2"));
        for size in [0, 500, 256] {
            assert!(refused("sectors", &sector([MAGIC, 1, 0, size])).contains("sectors have"), "{size}");
        }
        assert!(refused("entries", &sector([MAGIC, 1, 1, 512])).contains("read entry 0"));
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let data = [0; 512];
        for (at, count) in [(4, 1), (3, 2), (u64::MAX, 1), (0, u64::MAX), (u64::MAX / 512, 1)] {
            let why = refused("disk", &log(&[FLUSH, ([at, count, 0, 0], &data)]));
            assert!(why.contains("entry 1: it ends outside of the disk"), "{at} {count}: {why}");
        }
        let why = refused("cut", &log(&[([0, 2, 0, 0], &data)]));
        assert!(why.contains("entry 0: it ends outside of the log"), "{why}");
    }

    #[test]
    fn only_writes_and_flushes_can_be_replayed() {
        for flags in [2, 4, 8, 5] {
            let why = refused("flags", &log(&[([0, 1, flags, 0], &[0; 512])]));
            assert!(why.contains("can be replayed"), "{flags}: {why}");
        }
    }
}
