//! What a run changed so far, written down before each change: `/run/ostree/.private/unfinished`. A
//! run that comes to its end, good or bad, removes the file. One that is killed leaves it, and the
//! next reads there what is to be finished or taken back.
//!
//! A line each: `at HEX` for the place of the physical root; `directory PATH`, `file PATH`, `mount PATH` for
//! what is made, `replaced PATH` for a file of an earlier boot; `shared PLACE` for a mount of the new root;
//! `root MOUNT DEVICE INODE` for the new root, which is complete then; `back` when it is decided not to put it in place. The
//! paths are our own and have no white space.

use crate::commit::hex;
use crate::lookup;
use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};

/// The file.
pub const PATH: &CStr = c"/run/ostree/.private/unfinished";

/// Something made under `/run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// A directory.
    Directory(CString),
    /// A file or a symbolic link.
    File(CString),
    /// A mount.
    Mount(CString),
    /// A file in place of another, which is kept.
    Replaced(CString),
}

/// A mount, told from others by its number and its root directory: numbers are given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId {
    /// `STATX_MNT_ID` (Linux 5.8), which is also the first field of `mountinfo`.
    pub number: u64,
    /// Device and inode number of its root directory.
    pub root: (u64, u64),
}

impl MountId {
    const WHAT: StatxFlags = StatxFlags::MNT_ID.union(StatxFlags::INO);

    /// That of an open mount.
    ///
    /// # Errors
    /// As `statx(2)`.
    pub fn of(mount: impl AsFd) -> rustix::io::Result<MountId> {
        rustix::fs::statx(mount, c"", AtFlags::EMPTY_PATH, MountId::WHAT).map(MountId::from)
    }

    /// That of the mount that is seen at a path.
    ///
    /// # Errors
    /// As `statx(2)`.
    pub fn at(path: &[u8]) -> rustix::io::Result<MountId> {
        rustix::fs::statx(CWD, path, AtFlags::empty(), MountId::WHAT).map(MountId::from)
    }
}

impl From<Statx> for MountId {
    fn from(stat: Statx) -> MountId {
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        MountId { number: stat.stx_mnt_id, root: (device, stat.stx_ino) }
    }
}

/// What is said to be unfinished.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Where the physical root was.
    pub at: Vec<u8>,
    /// What was made, or about to be, in order.
    pub made: Vec<Made>,
    /// Where the new root has mounts that are to be shared.
    pub shared: Vec<String>,
    /// The new root, if it was about to be put in place.
    pub root: Option<MountId>,
}

impl Unfinished {
    /// Reads the file; `None` if there is none, so that the last run came to its end.
    ///
    /// # Errors
    /// As [`lookup::read`].
    pub fn read() -> rustix::io::Result<Option<Unfinished>> {
        Ok(lookup::read(PATH)?.map(|bytes| Unfinished::parse(&bytes)))
    }

    /// Takes the contents of the file. A line that was cut off names nothing that was made.
    fn parse(bytes: &[u8]) -> Unfinished {
        let mut unfinished = Unfinished::default();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok()) else {
                continue;
            };
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            // Whatever the file says, nothing else is ours.
            let path = || {
                let ours = rest.starts_with("/run/") && !rest.split('/').any(|part| part == "..");
                CString::new(rest).ok().filter(|_| ours)
            };
            match kind {
                "at" => unfinished.at = unhex(rest).unwrap_or_default(),
                "directory" => unfinished.made.extend(path().map(Made::Directory)),
                "file" => unfinished.made.extend(path().map(Made::File)),
                "mount" => unfinished.made.extend(path().map(Made::Mount)),
                "replaced" => unfinished.made.extend(path().map(Made::Replaced)),
                "shared" => unfinished.shared.push(rest.to_owned()),
                "root" => unfinished.root = parse_root(rest),
                "back" => unfinished.root = None,
                _ => {}
            }
        }
        unfinished
    }
}

fn parse_root(text: &str) -> Option<MountId> {
    let mut numbers = text.split(' ').map_while(|number| number.parse().ok());
    let (number, device, inode) = (numbers.next()?, numbers.next()?, numbers.next()?);
    Some(MountId { number, root: (device, inode) })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The file, while we write it.
#[derive(Debug)]
pub struct Notes(OwnedFd);

impl Notes {
    /// Makes the file; `at`: where the physical root is. `making`: what is made, and going to be made.
    ///
    /// # Errors
    /// As `open(2)`, `write(2)`.
    pub fn begin<'a>(at: &[u8], making: impl IntoIterator<Item = &'a Made>) -> rustix::io::Result<Notes> {
        let notes = Notes::open(OFlags::CREATE | OFlags::TRUNC)?;
        notes.write(&format!("at {}\n{}", hex(at), lines(making)))?;
        Ok(notes)
    }

    /// Opens the file that a run has left.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn left() -> rustix::io::Result<Notes> {
        Notes::open(OFlags::APPEND)
    }

    fn open(flags: OFlags) -> rustix::io::Result<Notes> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
        Ok(Notes(rustix::fs::openat(CWD, PATH, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Writes down what is going to be made.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn making<'a>(&self, making: impl IntoIterator<Item = &'a Made>) -> rustix::io::Result<()> {
        self.write(&lines(making))
    }

    /// Writes down the last that is going to be made, what is going to be the new root, and where it has mounts that
    /// are to be shared.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn placing<'a>(
        &self,
        making: &Made,
        root: MountId,
        shared: impl IntoIterator<Item = &'a [u8]>,
    ) -> rustix::io::Result<()> {
        let mut text = lines([making]);
        for place in shared {
            text += &format!("shared {}\n", place.escape_ascii());
        }
        let MountId { number, root: (device, inode) } = root;
        self.write(&format!("{text}root {number} {device} {inode}\n"))
    }

    /// Writes down that the root is not going to be put in place: its number is free for others.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn going_back(&self) -> rustix::io::Result<()> {
        self.write("back\n")
    }

    /// They are of no use any more.
    pub fn leave_open(self) {
        lookup::leave_open(self.0);
    }

    fn write(&self, text: &str) -> rustix::io::Result<()> {
        lookup::write_all(&self.0, text.as_bytes())
    }
}

fn lines<'a>(making: impl IntoIterator<Item = &'a Made>) -> String {
    let mut text = String::new();
    for made in making {
        let (kind, path) = match made {
            Made::Directory(path) => ("directory", path),
            Made::File(path) => ("file", path),
            Made::Mount(path) => ("mount", path),
            Made::Replaced(path) => ("replaced", path),
        };
        text += &format!("{kind} {}\n", path.to_bytes().escape_ascii());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_does_not_count() {
        let text =
            b"at 2f6120620a\ndirectory /run/a\nfile /run/b\nmount /run/c\nreplaced /run/d\nshared var\n\
                     root 1 2 3\nfile /run/e";
        let whole = Unfinished {
            at: "/a b\n".into(),
            made: vec![
                Made::Directory(c"/run/a".into()),
                Made::File(c"/run/b".into()),
                Made::Mount(c"/run/c".into()),
                Made::Replaced(c"/run/d".into()),
            ],
            shared: vec!["var".into()],
            root: Some(MountId { number: 1, root: (2, 3) }),
        };
        assert_eq!(Unfinished::parse(text), whole);
        assert_eq!(Unfinished::parse(b"root 1 2\nodd\n\xff \nother x\n"), Unfinished::default());
        assert_eq!(Unfinished::parse(b"root 1 2 3\nback\n").root, None);
    }

    #[test]
    fn nothing_outside_run_is_touched() {
        for line in [
            "file /root.txt",
            "link /root.txt /run/x",
            "mount /proc",
            "directory /run/../etc",
            "file run/x",
            "at 2g",
            "at 2",
        ] {
            assert_eq!(Unfinished::parse(format!("{line}\n").as_bytes()), Unfinished::default(), "{line}");
        }
    }
}
