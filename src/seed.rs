//! Filling a new `/var` with what the operating system brings for it.

use crate::error::{Class, Error, Result};
use crate::lookup::{self, RegularFile};
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// Where it is, the first that exists: `file-hierarchy(7)`, and what OSTree has of the commit's own
/// `/var` (since 2024.3 it stays in the deployment, <https://github.com/ostreedev/ostree/pull/3166>).
const SOURCES: [&[u8]; 2] = [b"usr/share/factory/var", b"var"];

/// Directories within directories. More are nobody's `/var`.
const DEPTH_LIMIT: usize = 100;

/// Copies the contents of the directory in the new `root`, with owners, modes, times and extended
/// attributes, to the empty `var`, which is mounted nowhere yet.
///
/// # Errors
/// [`Class::Mount`], with the name of the file.
pub fn fill(var: impl AsFd, root: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    for source in SOURCES {
        let fail = |path: &[u8], errno| {
            let file = [b"/", source, path].concat();
            let operation = format!("copy {} to the new /var", file.escape_ascii());
            Error::errno(Class::Mount, operation, errno).hint("is [var] transient-size large enough?")
        };
        match lookup::open_beneath(root, source, flags) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(b"", errno)),
            Ok(from) => {
                // The handle of a mount is no open directory yet.
                let to = lookup::open_beneath(var.as_fd(), b"", flags).map_err(|errno| fail(b"", errno))?;
                let mut path = Vec::new();
                return copy_directory(&from, &to, &mut path, 0).map_err(|errno| fail(&path, errno));
            }
        }
    }
    Ok(())
}

/// After an error, `path` is that of the file it happened with.
fn copy_directory(from: &OwnedFd, to: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> rustix::io::Result<()> {
    if depth == DEPTH_LIMIT {
        return Err(Errno::NAMETOOLONG);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        copy(from, to, name, path, depth)?;
        path.truncate(length);
    }
    copy_attributes(from, to, &rustix::fs::fstat(from)?)
}

fn copy(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &CStr,
    path: &mut Vec<u8>,
    depth: usize,
) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let private = Mode::from_raw_mode(0o600);
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY;
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let from = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let to = rustix::fs::openat(to, name, flags, Mode::empty())?;
            copy_directory(&from, &to, path, depth + 1)
        }
        FileType::RegularFile => {
            let from = RegularFile::open_beneath(from.as_fd(), name.to_bytes())?;
            let to = rustix::fs::openat(
                to,
                name,
                flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
                private,
            )?;
            copy_contents(&from, &to)?;
            copy_attributes(&from, &to, &stat)
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&text, to, name)?;
            let (user, group) = owner(&stat);
            rustix::fs::chownat(to, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
        }
        kind => {
            rustix::fs::mknodat(to, name, kind, private, stat.st_rdev)?;
            let (user, group) = owner(&stat);
            rustix::fs::chownat(to, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())
        }
    }
}

fn copy_contents(from: &RegularFile, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(from, &mut buffer[..]))? {
            0 => return Ok(()),
            count => lookup::write_all(to, &buffer[..count])?,
        }
    }
}

/// The owner first: changing it takes set-user-ID away. The time last.
fn copy_attributes(from: impl AsFd + Copy, to: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    let (user, group) = owner(stat);
    rustix::fs::fchown(to, user, group)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_extended_attributes(from, to)?;
    let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(to, &Timestamps { last_access: time, last_modification: time })
}

fn copy_extended_attributes(from: impl AsFd + Copy, to: &OwnedFd) -> rustix::io::Result<()> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h.
    let (mut names, mut value) = (vec![0; 1 << 16], Vec::new());
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        result => result?,
    };
    for name in names[..length].split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        value.resize(1 << 16, 0);
        let length = rustix::fs::fgetxattr(from, name, &mut value)?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // Not every kernel's tmpfs has user attributes (Linux 6.6) and access control lists.
            Err(Errno::OPNOTSUPP) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_is_copied_with_all_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (root, var) = (folder.path().join("root"), folder.path().join("var"));
        let source = root.join("usr/share/factory/var");
        std::fs::create_dir_all(source.join("lib/deep")).unwrap();
        std::fs::create_dir_all(root.join("var/other")).unwrap();
        std::fs::create_dir(&var).unwrap();
        std::fs::write(source.join("lib/deep/file"), vec![b'x'; 200_000]).unwrap();
        std::fs::set_permissions(source.join("lib/deep/file"), PermissionsExt::from_mode(0o4751)).unwrap();
        std::fs::set_permissions(source.join("lib"), PermissionsExt::from_mode(0o1777)).unwrap();
        symlink("/run", source.join("run")).unwrap();
        rustix::fs::mknodat(CWD, source.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fill(open(&var), open(&root).as_fd()).unwrap();
        let copied = std::fs::metadata(var.join("lib/deep/file")).unwrap();
        let original = std::fs::metadata(source.join("lib/deep/file")).unwrap();
        assert_eq!((copied.mode(), copied.len()), (0o104_751, 200_000));
        assert_eq!((copied.mtime(), copied.mtime_nsec()), (original.mtime(), original.mtime_nsec()));
        assert_eq!(std::fs::metadata(var.join("lib")).unwrap().mode(), 0o41_777);
        assert_eq!(std::fs::read_link(var.join("run")).unwrap().to_str(), Some("/run"));
        assert!(std::fs::symlink_metadata(var.join("fifo")).is_ok());
        assert!(!var.join("other").exists());
    }

    #[test]
    fn the_commit_s_own_var_comes_second_and_nothing_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (root, var) = (folder.path().join("root"), folder.path().join("var"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir(&var).unwrap();
        fill(open(&var), open(&root).as_fd()).unwrap();
        assert_eq!(std::fs::read_dir(&var).unwrap().count(), 0);
        std::fs::create_dir_all(root.join("var/lib")).unwrap();
        fill(open(&var), open(&root).as_fd()).unwrap();
        assert!(var.join("lib").is_dir());
    }
}
