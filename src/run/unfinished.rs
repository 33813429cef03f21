//! What a run changed so far, written down before each change: `/run/ostree/.private/unfinished`. A
//! run that comes to its end, good or bad, removes the file. One that is killed leaves it, and the
//! next reads there what is to be finished or taken back.
//!
//! A line each: `directory PATH`, `file PATH`, `mount PATH` for what is made; `shared PLACE` for a mount
//! of the new root; `root MOUNT DEVICE INODE` for the new root, which is complete then. The paths are our
//! own and have no white space.

use crate::lookup;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use std::ffi::{CStr, CString};

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
}

/// A mount, told from others by its number and its root directory: numbers are given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId {
    /// `STATX_MNT_ID` (Linux 5.8), which is also the first field of `mountinfo`.
    pub number: u64,
    device: u64,
    inode: u64,
}

impl MountId {
    /// That of an open mount.
    ///
    /// # Errors
    /// As `statx(2)`.
    pub fn of(mount: impl AsFd) -> rustix::io::Result<MountId> {
        let what = StatxFlags::MNT_ID | StatxFlags::INO;
        let stat = rustix::fs::statx(mount, c"", AtFlags::EMPTY_PATH, what)?;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok(MountId { number: stat.stx_mnt_id, device, inode: stat.stx_ino })
    }
}

/// What is said to be unfinished.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
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
            let Some((kind, rest)) = line.split_once(' ') else { continue };
            if kind == "root" {
                let mut numbers = rest.split(' ').map_while(|number| number.parse().ok());
                if let (Some(number), Some(device), Some(inode)) =
                    (numbers.next(), numbers.next(), numbers.next())
                {
                    unfinished.root = Some(MountId { number, device, inode });
                }
                continue;
            }
            if kind == "shared" {
                unfinished.shared.push(rest.to_owned());
                continue;
            }
            let Ok(path) = CString::new(rest) else { continue };
            unfinished.made.extend(match kind {
                "directory" => Some(Made::Directory(path)),
                "file" => Some(Made::File(path)),
                "mount" => Some(Made::Mount(path)),
                _ => None,
            });
        }
        unfinished
    }
}

/// The file, while we write it.
#[derive(Debug)]
pub struct Notes(OwnedFd);

impl Notes {
    /// Makes the file, empty.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn begin() -> rustix::io::Result<Notes> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Notes(rustix::fs::openat(CWD, PATH, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Writes down what is going to be made.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn making(&self, made: &Made) -> rustix::io::Result<()> {
        let (kind, path) = match made {
            Made::Directory(path) => ("directory ", path),
            Made::File(path) => ("file ", path),
            Made::Mount(path) => ("mount ", path),
        };
        lookup::write_all(&self.0, &[kind.as_bytes(), path.to_bytes(), b"\n"].concat())
    }

    /// Writes down what is going to be the new root, and where it has mounts that are to be shared.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn placing<'a>(
        &self,
        root: MountId,
        shared: impl IntoIterator<Item = &'a [u8]>,
    ) -> rustix::io::Result<()> {
        let mut text = String::new();
        for place in shared {
            text += &format!("shared {}\n", place.escape_ascii());
        }
        let MountId { number, device, inode } = root;
        text += &format!("root {number} {device} {inode}\n");
        lookup::write_all(&self.0, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_does_not_count() {
        let text = b"directory /run/a\nfile /run/b\nmount /run/c\nshared var\nroot 1 2 3\nfile /run/d";
        let whole = Unfinished {
            made: vec![
                Made::Directory(c"/run/a".into()),
                Made::File(c"/run/b".into()),
                Made::Mount(c"/run/c".into()),
            ],
            shared: vec!["var".into()],
            root: Some(MountId { number: 1, device: 2, inode: 3 }),
        };
        assert_eq!(Unfinished::parse(text), whole);
        assert_eq!(Unfinished::parse(b"root 1 2\nodd\n\xff \nother x\n"), Unfinished::default());
    }
}
