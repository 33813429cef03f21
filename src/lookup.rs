//! Opening, reading and writing files, such that nothing on the disk leads elsewhere, blocks, or
//! fills the memory.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
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
/// `flags` may have `NOFOLLOW`, for a link in the last place.
///
/// # Errors
/// As [`open_beneath`], for whatever does not mean that the file is not there.
pub fn kind_beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<Option<FileType>> {
    match open_beneath(directory, path, OFlags::PATH | flags) {
        Ok(file) => Ok(Some(FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => Ok(None),
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
    if_there(open_file_beneath(directory, path))?.map(|file| contents(&file, limit)).transpose()
}

/// Opens a regular file below `directory` for reading. The type is looked at before: opening a
/// device can already do something.
///
/// # Errors
/// As [`open_beneath`]; EINVAL for anything but a regular file.
pub fn open_file_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let file = open_beneath(directory, path, OFlags::PATH)?;
    if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    rustix::fs::openat(CWD, descriptor_path(file.as_fd()).as_c_str(), FOR_READING, Mode::empty())
}

/// The contents of a file of the initramfs; `None` if there is none.
///
/// # Errors
/// As [`open`] and [`contents`], EFBIG for a file of more than [`SIZE_LIMIT`] bytes.
pub fn read(path: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    if_there(open(path))?.map(|file| contents(&file, SIZE_LIMIT)).transpose()
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

/// The contents of an open file.
///
/// # Errors
/// As `read(2)`; EINVAL for anything but a regular file, EFBIG for one of more than `limit` bytes.
pub fn contents(file: &OwnedFd, limit: usize) -> rustix::io::Result<Vec<u8>> {
    let stat = rustix::fs::fstat(file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    if stat.st_size > i64::try_from(limit).unwrap_or(i64::MAX) {
        return Err(Errno::FBIG);
    }
    // One byte more, to meet the end. The files of /proc have no size.
    let size = usize::try_from(stat.st_size).unwrap_or(0).min(limit) + 1;
    let mut bytes = vec![0; size.max(1 << 12)];
    let mut filled = 0;
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(file, &mut bytes[filled..]))? {
            0 => break,
            count => filled += count,
        }
        if filled > limit {
            return Err(Errno::FBIG);
        }
        if filled == bytes.len() {
            bytes.resize(2 * filled, 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
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
        assert_eq!(contents(&file(&[0; SIZE_LIMIT + 1]), SIZE_LIMIT), Err(Errno::FBIG));
        assert_eq!(contents(&file(b"x"), 1), Ok(b"x".to_vec()));
    }
}
