//! Opening, reading and writing files, such that nothing on the disk leads elsewhere, blocks, or fills the memory.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// How often a lookup is tried again when something is renamed or mounted meanwhile (`openat2(2)`, EAGAIN).
const TRIES: usize = 16;

/// The most bytes read of any file.
const SIZE_LIMIT: usize = 1 << 20;

/// O_NONBLOCK: a FIFO found in place of a file must not stop the boot.
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

/// Opens a file below `directory` for reading, as [`open_beneath`], without ever blocking.
pub fn open_file_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_beneath(directory, path, FOR_READING)
}

/// The contents of a file below `directory`; `None` if there is none.
///
/// # Errors
/// As [`open_beneath`] and [`read`].
pub fn read_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    contents(open_file_beneath(directory, path))
}

/// The contents of a file of the initramfs; `None` if there is none.
///
/// # Errors
/// As `open(2)` and `read(2)`; EINVAL for anything but a regular file, EFBIG for one of more than 1 MiB.
pub fn read(path: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    contents(rustix::fs::openat(CWD, path, FOR_READING, Mode::empty()))
}

fn contents(file: rustix::io::Result<OwnedFd>) -> rustix::io::Result<Option<Vec<u8>>> {
    let file = match file {
        Err(Errno::NOENT) => return Ok(None),
        file => file?,
    };
    if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; 1 << 12];
    let mut filled = 0;
    loop {
        match rustix::io::read(&file, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if filled > SIZE_LIMIT {
            return Err(Errno::FBIG);
        }
        if filled == bytes.len() {
            bytes.resize(2 * filled, 0);
        }
    }
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// A path that leads to an open file: `/proc/self/fd/N`.
pub fn descriptor_path(file: BorrowedFd<'_>) -> CString {
    // Digits have no NUL in them.
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// Writes all of `bytes`.
///
/// # Errors
/// As `write(2)`.
pub fn write_all(file: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file.as_fd(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The path of an open file in this mount namespace, without symbolic links.
///
/// # Errors
/// As `readlink(2)` of `/proc/self/fd/N`: ENOENT without `/proc`.
pub fn canonical_path(file: BorrowedFd<'_>) -> rustix::io::Result<PathBuf> {
    let link = rustix::fs::readlinkat(CWD, descriptor_path(file).as_c_str(), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(link.into_bytes())))
}
