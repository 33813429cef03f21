//! What we leave under `/run`: it tells the running system how it was prepared. All of it, or nothing.

use crate::booted::{self, Booted};
use crate::error::{Class, Error, Result, describe, printable};
use crate::lookup;
use crate::plan::Traces;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Marks an OSTree system for the generator and others.
const OSTREE: &CStr = c"/run/ostree";
/// Nobody but us has business in there.
const PRIVATE: &CStr = c"/run/ostree/.private";
/// Where libostree mounts the image for a moment. We do not, but some may expect the directory.
const IMAGE_MOUNT_POINT: &CStr = c"/run/ostree/.private/cfsroot-lower";
/// What was prepared, until it is complete.
const BOOTED_PARTIAL: &CStr = c"/run/.ostree-booted.partial";
/// systemd takes the device of an overlay root from this link (`blockdev_get_root()`).
const VOLATILE_ROOT: &CStr = c"/run/systemd/volatile-root";
/// A line for `/` in `/etc/fstab` describes the disk, not the overlay that `/` is then, which refuses
/// the options: the unit fails, and the system counts as degraded
/// (<https://github.com/ostreedev/ostree/issues/3193>). What else the unit does, such as `/proc`
/// and `/dev/shm`, it still has to do, so it runs, and its failure (exit status 1) does not count.
const REMOUNT_FS_DROPIN: &CStr =
    c"/run/systemd/system/systemd-remount-fs.service.d/50-ostree-prepare-root.conf";
const REMOUNT_FS_DROPIN_TEXT: &[u8] =
    b"# Written by ostree-prepare-root: / is an overlay, which refuses the options that /etc/fstab has for it.\n\
      [Service]\nSuccessExitStatus=1\n";

/// More soft-reboots than anybody makes between two boots.
const SOFT_REBOOTS: u32 = 1000;

/// What was made under `/run`. Dropped without [`keep`](RunFiles::keep), it is taken back.
#[derive(Debug, Default)]
pub struct RunFiles {
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    Directory(CString),
    /// A file or a symbolic link.
    File(CString),
    /// The contents of the file that ours replaced, if any.
    Booted(Option<Vec<u8>>),
}

impl RunFiles {
    /// Makes `/run/ostree` and its private directory.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn new() -> Result<RunFiles> {
        let mut files = RunFiles::default();
        files.directory(OSTREE, 0o755)?;
        files.directory(PRIVATE, 0)?;
        Ok(files)
    }

    /// Makes the directory for the writable layer of a transient `/etc`, where `ostree-remount` looks
    /// for `upper`.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn transient_etc(&mut self) -> Result<String> {
        // Six characters, as libostree's.
        let first = std::process::id();
        self.new_directory(
            |number| format!("/run/ostree/transient-etc.{:06}", (first + number) % 1_000_000),
            0o700,
        )
    }

    /// Makes the directory for the writable layer of a transient root.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn transient_root(&mut self) -> Result<String> {
        let name = |number| match number {
            0 => "/run/ostree/.private/root".to_owned(),
            _ => format!("/run/ostree/.private/root.{number}"),
        };
        self.new_directory(name, 0o755)
    }

    /// Makes a directory that was not there. After a soft-reboot, those of the boot before may still
    /// be: they are used by mounts, and what is in them was to be forgotten.
    fn new_directory(&mut self, name: impl Fn(u32) -> String, mode: u32) -> Result<String> {
        for path in (0..SOFT_REBOOTS).map(name) {
            if self.directory(&c_string(&path), mode)? {
                return Ok(path);
            }
        }
        Err(Error::errno(Class::Run, "create a directory for a transient layer in /run/ostree", Errno::EXIST))
    }

    /// Makes `upper` and `work` for an overlay.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn layer(&mut self, directory: &str, work_mode: u32) -> Result<()> {
        self.directory(&c_string(&format!("{directory}/upper")), 0o755)?;
        self.directory(&c_string(&format!("{directory}/work")), work_mode)?;
        // Overlayfs makes these; they are listed to be taken back.
        for name in ["work", "index"] {
            self.made.push(Made::Directory(c_string(&format!("{directory}/work/{name}"))));
        }
        Ok(())
    }

    /// Leaves everything but [`booted::PATH`].
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn leave(&mut self, traces: &Traces) -> Result<()> {
        if traces.image_mount_point {
            self.directory(IMAGE_MOUNT_POINT, 0o700)?;
        }
        if traces.volatile_root.is_some() || traces.remount_fs_dropin {
            self.directory(c"/run/systemd", 0o755)?;
        }
        if let Some(device) = traces.volatile_root {
            // In this form, since systemd does not follow it: it reads the numbers.
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            let text = format!("/dev/block/{major}:{minor}");
            self.file(VOLATILE_ROOT, rustix::fs::symlink(&text, VOLATILE_ROOT))?;
        }
        if traces.remount_fs_dropin {
            self.directory(c"/run/systemd/system", 0o755)?;
            self.directory(c"/run/systemd/system/systemd-remount-fs.service.d", 0o755)?;
            self.file(REMOUNT_FS_DROPIN, write_new(REMOUNT_FS_DROPIN, REMOUNT_FS_DROPIN_TEXT))?;
        }
        Ok(())
    }

    /// Writes [`booted::PATH`].
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn write_booted(&mut self, booted: &Booted, transient_etc: Option<&str>) -> Result<()> {
        let fail = |errno| fail("write", booted::PATH, errno);
        let previous = lookup::read(booted::PATH).map_err(fail)?;
        replace_booted(&booted.serialise(transient_etc)).map_err(fail)?;
        self.made.push(Made::Booted(previous));
        Ok(())
    }

    /// The new root is in place: what was made stays.
    pub fn keep(mut self) {
        self.made.clear();
    }

    /// Makes a directory; `false` if it was there already.
    fn directory(&mut self, path: &CStr, mode: u32) -> Result<bool> {
        let mode = Mode::from_raw_mode(mode);
        match rustix::fs::mkdirat(CWD, path, mode) {
            Ok(()) => self.made.push(Made::Directory(path.into())),
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(fail("create", path, errno)),
        }
        // The mode must not depend on the caller's umask.
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
            .map_err(|errno| fail("create", path, errno))?;
        Ok(true)
    }

    /// Remembers a file that was made; one that was there already is somebody else's.
    fn file(&mut self, path: &CStr, made: rustix::io::Result<()>) -> Result<()> {
        match made {
            Ok(()) => self.made.push(Made::File(path.into())),
            Err(Errno::EXIST) => {
                log::debug!("{} is there already: left as it is", printable(path.to_bytes()))
            }
            Err(errno) => return Err(fail("create", path, errno)),
        }
        Ok(())
    }
}

impl Drop for RunFiles {
    /// What cannot be taken back is logged: it is the lesser problem of a failed boot.
    fn drop(&mut self) {
        for made in self.made.drain(..).rev() {
            let (path, result) = match &made {
                Made::Directory(path) => (path.as_c_str(), rustix::fs::rmdir(path.as_c_str())),
                Made::File(path) => (path.as_c_str(), rustix::fs::unlink(path.as_c_str())),
                Made::Booted(Some(previous)) => (booted::PATH, replace_booted(previous)),
                Made::Booted(None) => (booted::PATH, rustix::fs::unlink(booted::PATH)),
            };
            if let Err(errno) = result
                && errno != Errno::NOENT
            {
                log::warn!("take back {}: {}", printable(path.to_bytes()), describe(errno));
            }
        }
    }
}

fn fail(operation: &str, path: &CStr, errno: Errno) -> Error {
    Error::errno(Class::Run, format!("{operation} {}", printable(path.to_bytes())), errno)
}

/// Our own paths have no NUL in them; if one had, the empty path would be refused by every call.
fn c_string(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

/// Readers see the old file or the new one, never a part.
fn replace_booted(bytes: &[u8]) -> rustix::io::Result<()> {
    let result = write(BOOTED_PARTIAL, OFlags::TRUNC, bytes)
        .and_then(|()| rustix::fs::rename(BOOTED_PARTIAL, booted::PATH));
    if result.is_err() {
        let _ = rustix::fs::unlink(BOOTED_PARTIAL);
    }
    result
}

/// Writes a file that is not there yet; EEXIST if it is.
fn write_new(path: &CStr, bytes: &[u8]) -> rustix::io::Result<()> {
    let result = write(path, OFlags::EXCL, bytes);
    if result.is_err_and(|errno| errno != Errno::EXIST) {
        let _ = rustix::fs::unlink(path);
    }
    result
}

fn write(path: &CStr, flags: OFlags, bytes: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
    let file = rustix::fs::openat(CWD, path, flags, mode)?;
    rustix::fs::fchmod(&file, mode)?;
    lookup::write_all(&file, bytes)
}
