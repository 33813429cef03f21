//! Opening, reading and writing files, such that nothing on the disk leads elsewhere, blocks, or
//! fills the memory.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// How often a lookup is tried again when something is renamed or mounted meanwhile (`openat2(2)`,
/// EAGAIN). Any mount on the machine can be that something: with 16, one run in 2000 failed while
/// two other processes kept making mount namespaces.
const TRIES: usize = 1000;

/// The most bytes that a file of ours may have.
pub const SIZE_LIMIT: usize = 1 << 20;

/// `O_NONBLOCK`: a FIFO found in place of a file must not stop the boot.
const FOR_READING: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens `path` below `directory`, following symbolic links only as long as they stay below it.
///
/// # Errors
/// As `openat2(2)` with `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`; EXDEV for whatever leads outside.
pub fn open_beneath(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    let mut tries = 0;
    loop {
        tries += 1;
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES => {}
            result => return result,
        }
    }
}

/// What kind of file `path` is below `directory`; `None` if there is none, or it is not below.
///
/// # Errors
/// As [`open_beneath`], for whatever does not mean that the file is not there.
pub fn kind_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<FileType>> {
    kind(open_beneath(directory, path, OFlags::PATH).and_then(rustix::fs::fstat))
}

/// The same, but of a link itself. A name in the directory itself cannot lead elsewhere then, and is not opened.
///
/// # Errors
/// As [`kind_beneath`].
pub fn kind_at(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<FileType>> {
    kind(if is_name(path) {
        rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    } else {
        open_beneath(directory, path, OFlags::PATH | OFlags::NOFOLLOW).and_then(rustix::fs::fstat)
    })
}

/// Whether a path is the name of an entry of the directory itself.
pub fn is_name(path: &[u8]) -> bool {
    !matches!(path, b"" | b"." | b"..") && !path.contains(&b'/')
}

/// What is below `directory`, open but for reading; `None` if there is nothing.
///
/// # Errors
/// As [`kind_beneath`].
pub fn find_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    match open_beneath(directory, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(file) => Ok(Some(file)),
        Err(errno) if means_missing(errno) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether there is something below `directory` that is no directory, such as a link. A directory is
/// [left open](leave_open).
///
/// # Errors
/// As [`kind_beneath`].
pub fn is_no_directory(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<bool> {
    match open_beneath(directory, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY) {
        Ok(file) => {
            leave_open(file);
            Ok(false)
        }
        Err(Errno::NOTDIR) => Ok(true),
        Err(errno) if means_missing(errno) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether a lookup failed because there is no such file below the directory.
pub fn means_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP)
}

fn kind(stat: rustix::io::Result<Stat>) -> rustix::io::Result<Option<FileType>> {
    match stat {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(errno) if means_missing(errno) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The contents of a file below `directory`; `None` if there is none.
///
/// # Errors
/// As [`open_beneath`] and `read(2)`; EINVAL for anything but a regular file, EFBIG for one of more
/// than `limit` bytes.
pub fn read_beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    limit: usize,
) -> rustix::io::Result<Option<Vec<u8>>> {
    let file = if_there(RegularFile::open_beneath(directory, path))?;
    file.map(|file| file.contents(limit)).transpose()
}

/// The same of a file that is read once in a run, and of no more than [`SIZE_LIMIT`] bytes: it is [left open](leave_open), and
/// was opened whatever it is, as [`open_for_reading`] does.
///
/// # Errors
/// As [`read_beneath`].
pub fn read_once(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let file = open_for_reading(directory, path).and_then(RegularFile::of);
    let Some(file) = if_there(file)? else { return Ok(None) };
    let contents = file.contents(SIZE_LIMIT)?;
    file.leave_open();
    Ok(Some(contents))
}

/// Opens a file below `directory` for reading, of whatever kind it is. To open it may do something, if somebody put a
/// device there: so only what is part of a verified image, or is not read when verification is demanded.
///
/// # Errors
/// As [`open_beneath`].
pub fn open_for_reading(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_beneath(directory, path, FOR_READING)
}

/// As many bytes of a file from `offset` on as there are, and as there is room for in `bytes`, where they replace what
/// was there.
///
/// # Errors
/// As `pread(2)`.
pub fn read_at(file: impl AsFd, bytes: &mut Vec<u8>, offset: u64) -> rustix::io::Result<()> {
    bytes.clear();
    while bytes.len() < bytes.capacity() {
        let at = offset.saturating_add(bytes.len() as u64);
        if rustix::io::retry_on_intr(|| rustix::io::pread(&file, spare_capacity(bytes), at))? == 0 {
            break;
        }
    }
    Ok(())
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile {
    handle: OwnedFd,
    /// Its size in bytes when it was opened. The files of /proc have none.
    pub size: u64,
}

impl RegularFile {
    /// Opens it below `directory`. The type is looked at before: opening a device can already do
    /// something.
    ///
    /// # Errors
    /// As [`open_beneath`]; EINVAL for anything but a regular file.
    pub fn open_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<RegularFile> {
        if is_name(path) {
            let stat =
                rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
            if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                let size = regular_size(&stat)?;
                let handle = open_beneath(directory, path, FOR_READING | OFlags::NOFOLLOW)?;
                return Ok(RegularFile { handle, size });
            }
        }
        let file = open_beneath(directory, path, OFlags::PATH)?;
        let size = regular_size(&rustix::fs::fstat(&file)?)?;
        let handle = open(&descriptor_path(file.as_fd()))?;
        Ok(RegularFile { handle, size })
    }

    /// Takes an open file.
    ///
    /// # Errors
    /// As `fstat(2)`; EINVAL for anything but a regular file.
    pub fn of(handle: OwnedFd) -> rustix::io::Result<RegularFile> {
        let size = regular_size(&rustix::fs::fstat(&handle)?)?;
        Ok(RegularFile { handle, size })
    }

    /// See [`leave_open`].
    pub fn leave_open(self) {
        leave_open(self.handle);
    }

    /// All that is in it.
    ///
    /// # Errors
    /// As `read(2)`; EFBIG for more than `limit` bytes.
    pub fn contents(&self, limit: usize) -> rustix::io::Result<Vec<u8>> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if size > limit {
            return Err(Errno::FBIG);
        }
        // One byte more, to meet the end.
        let mut bytes = vec![0; if size == 0 { 1 << 12 } else { size + 1 }];
        let mut filled = 0;
        loop {
            let count = rustix::io::retry_on_intr(|| rustix::io::read(&self.handle, &mut bytes[filled..]))?;
            filled += count;
            if filled > limit {
                return Err(Errno::FBIG);
            }
            // The file of a disk gives all it has at once.
            if count == 0 || filled == size {
                break;
            }
            if filled == bytes.len() {
                bytes.resize(2 * filled, 0);
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

fn regular_size(stat: &Stat) -> rustix::io::Result<u64> {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

impl AsFd for RegularFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The contents of a file of the initramfs; `None` if there is none.
///
/// # Errors
/// As [`open`], [`RegularFile::of`] and [`RegularFile::contents`] for [`SIZE_LIMIT`] bytes.
pub fn read(path: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    let file = if_there(open(path).and_then(RegularFile::of))?;
    file.map(|file| file.contents(SIZE_LIMIT)).transpose()
}

/// The contents of a file of `/proc` that has no parts: the kernel gives all of it to whoever has room for it
/// (`single_open` in `fs/seq_file.c`), so that where there is room left is the end.
///
/// # Errors
/// As `open(2)`, `read(2)`; EFBIG for more than [`SIZE_LIMIT`] bytes.
pub fn read_at_once(path: &CStr) -> rustix::io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = vec![0; 1 << 12];
    let mut filled = 0;
    loop {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes[filled..]))?;
        filled += count;
        if filled > SIZE_LIMIT {
            return Err(Errno::FBIG);
        }
        if count == 0 || filled < bytes.len() {
            break;
        }
        bytes.resize(2 * filled, 0);
    }
    leave_open(file);
    bytes.truncate(filled);
    Ok(bytes)
}

/// Opens a file of the initramfs for reading.
///
/// # Errors
/// As `open(2)`.
pub fn open(path: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, FOR_READING, Mode::empty())
}

/// `None` for a file that does not exist.
pub fn if_there<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// Leaves a file open until the process ends, which is soon: closing it is a system call for nothing. Not for what a
/// run may open any number of.
pub fn leave_open(file: OwnedFd) {
    core::mem::forget(file);
}

/// A path that leads to an open file: `/proc/self/fd/N`.
pub fn descriptor_path(file: BorrowedFd<'_>) -> CString {
    // Digits have no NUL in them.
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// Whether an open file is the root of a mount (`STATX_ATTR_MOUNT_ROOT`, Linux 5.8).
///
/// # Errors
/// As `statx(2)`.
pub fn is_mount_point(file: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Writes all of `bytes`.
///
/// # Errors
/// As `write(2)`.
pub fn write_all(file: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(file.as_fd(), bytes))? {
            0 => return Err(Errno::IO),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// The path of an open file in this mount namespace, without symbolic links.
///
/// # Errors
/// As `readlink(2)` of `/proc/self/fd/N`: ENOENT without `/proc`.
pub fn canonical_path(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let link = rustix::fs::readlinkat(CWD, descriptor_path(file).as_c_str(), Vec::new())?;
    Ok(link.into_bytes())
}

/// What a path has after that of a directory; `None` if it does not lead into it. Both have no symbolic links.
pub fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(directory)? {
        [b'/', rest @ ..] => Some(rest),
        [] => Some(b""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file without a name.
    fn file(bytes: &[u8]) -> OwnedFd {
        let file = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        write_all(&file, bytes).unwrap();
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
        file
    }

    #[test]
    fn below_a_directory_is_what_has_all_of_its_name() {
        assert_eq!(below(b"/sysroot/ostree/x", b"/sysroot"), Some(&b"ostree/x"[..]));
        assert_eq!(below(b"/sysroot", b"/sysroot"), Some(&b""[..]));
        assert_eq!(below(b"/sysroot2/ostree", b"/sysroot"), None);
        assert_eq!(below(b"/run", b"/sysroot"), None);
    }

    #[test]
    fn devices_are_not_opened_and_large_files_not_read() {
        let dev = rustix::fs::open("/dev", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(read_beneath(dev.as_fd(), b"zero", 1), Err(Errno::INVAL));
        let contents = |bytes, limit| RegularFile::of(file(bytes)).and_then(|file| file.contents(limit));
        assert_eq!(contents(&[0; SIZE_LIMIT + 1], SIZE_LIMIT), Err(Errno::FBIG));
        assert_eq!(contents(b"x", 1), Ok(b"x".to_vec()));
    }
}
