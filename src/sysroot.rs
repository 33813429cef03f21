//! The physical root: the disk's root file system, as the initramfs mounted it. Opened once.

use crate::error::{Class, Error, Result, printable};
use crate::lookup;
use crate::name::Name;
use crate::syscall;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};

/// `STATX_MNT_ID_UNIQUE` of `linux/stat.h`, Linux 6.8.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The mounted physical root.
#[derive(Debug)]
pub struct Sysroot {
    handle: OwnedFd,
    /// Where it is mounted, without symbolic links.
    pub path: Vec<u8>,
    /// Device and inode number of its root directory.
    pub identity: (u64, u64),
    /// The number of the mount that is never given again (`STATX_MNT_ID_UNIQUE`), where the kernel has such.
    mount: Option<u64>,
}

impl core::fmt::Display for Sysroot {
    /// Where it is mounted.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&printable(&self.path))
    }
}

impl Sysroot {
    /// Opens the physical root mounted at `path`.
    ///
    /// # Errors
    /// [`Class::Sysroot`] when `path` is no directory, or not the root of a mount: nothing could be
    /// put in its place.
    pub fn open(path: &[u8]) -> Result<Sysroot> {
        let what = format!("open the physical root {}", printable(path));
        let fail = |errno| Error::errno(Class::Sysroot, &*what, errno);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let without_links = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let is_canonical = without_links.is_ok() && is_normal(path);
        let opened = without_links.or_else(|_| rustix::fs::openat(CWD, path, flags, Mode::empty()));
        let handle = opened.map_err(|errno| {
            fail(errno).hint("was the root file system mounted? see root= on the kernel command line")
        })?;
        // STATX_ATTR_MOUNT_ROOT: since Linux 5.8, on every file system.
        let what_to_tell = StatxFlags::INO | MNT_ID_UNIQUE;
        let stat = rustix::fs::statx(&handle, c"", AtFlags::EMPTY_PATH, what_to_tell).map_err(fail)?;
        if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(Error::found(Class::Sysroot, what, "it is not a mount point")
                .hint("mount the root file system there: mount DEVICE SYSROOT, then run this again"));
        }
        let path = if is_canonical { path.to_vec() } else { path_of(handle.as_fd(), "physical root")? };
        if path == b"/" {
            let found = "it is the root directory of everything that runs";
            return Err(Error::found(Class::Unsupported, what, found)
                .hint("boot with an initramfs that runs this program, or with it as init="));
        }
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let has_number = StatxFlags::from_bits_retain(stat.stx_mask).contains(MNT_ID_UNIQUE);
        let mount = has_number.then_some(stat.stx_mnt_id);
        Ok(Sysroot { handle, path, identity: (device, stat.stx_ino), mount })
    }

    /// The number of the block device it is on, if there is exactly one.
    ///
    /// systemd's own answer comes first: `/dev/gpt-auto-root` exists when it found the root partition
    /// by its type (`systemd-gpt-auto-generator(8)`).
    pub fn backing_device(&self) -> Option<u64> {
        if let Some(device) = block_device(c"/dev/gpt-auto-root") {
            return Some(device);
        }
        if rustix::fs::major(self.identity.0) != 0 {
            return Some(self.identity.0);
        }
        // A device number that the kernel made up: btrfs gives every subvolume one.
        let directory = lookup::open_beneath(self.handle(), b"", OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        block_device(&syscall::btrfs_device(directory.as_fd()).ok()?)
    }

    /// The name of the deployment whose directory has this path in our mount namespace, if it is on this
    /// physical root: here, or below `sysroot` after an earlier run has put it away there.
    pub fn deployment_at(&self, path: &[u8]) -> Option<Name> {
        let below = lookup::below(path, &self.path)?;
        Name::from_path(below).or_else(|| Name::from_path(below.strip_prefix(b"sysroot/")?))
    }

    /// Whether something is mounted below it; taken for so where the kernel does not tell (before Linux 6.8).
    pub fn has_mounts_below(&self) -> bool {
        self.mount.is_none_or(|mount| syscall::has_mounts_below(mount) != Ok(false))
    }

    /// The root directory.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The path of an open directory; `what`: which that is.
///
/// # Errors
/// [`Class::Sysroot`] without `/proc`.
pub fn path_of(directory: BorrowedFd<'_>, what: &str) -> Result<Vec<u8>> {
    lookup::canonical_path(directory).map_err(|errno| {
        Error::errno(Class::Sysroot, format!("find the path of the {what} in /proc/self/fd"), errno)
            .hint("mount proc on /proc and run this again")
    })
}

/// Whether a path is the one name that leads somewhere if there are no symbolic links.
fn is_normal(path: &[u8]) -> bool {
    path.strip_prefix(b"/").is_some_and(|names| names.split(|&byte| byte == b'/').all(lookup::is_name))
}

fn block_device(path: &CStr) -> Option<u64> {
    let stat = rustix::fs::stat(path).ok()?;
    let real =
        FileType::from_raw_mode(stat.st_mode).is_block_device() && rustix::fs::major(stat.st_rdev) != 0;
    real.then_some(stat.st_rdev)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_a_single_name() {
        for path in ["/sysroot", "/a/b c/d", "/..."] {
            assert!(is_normal(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "sysroot", "./sysroot", "/sysroot/", "//sysroot", "/a/./b", "/a/../b"] {
            assert!(!is_normal(path.as_bytes()), "{path}");
        }
    }
}
