//! What we leave under `/run`: it tells the running system how it was prepared. All of it, or nothing.

pub mod unfinished;

use crate::booted::{self, Booted};
use crate::choice::Instead;
use crate::clock;
use crate::error::{Class, Error, Result, describe, printable};
use crate::lookup;
use crate::plan::Traces;
use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use unfinished::{Made, MountId, Notes};

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

/// Keeps another run of this program from starting; until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _directory: OwnedFd,
}

impl Lock {
    /// How often it is tried, and how long to wait in between: a run takes milliseconds.
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);

    /// Takes it, when another run has ended. The kernel gives it back should we be killed.
    ///
    /// # Errors
    /// [`Class::Run`] if another run does not come to its end.
    pub fn take() -> Result<Lock> {
        let fail = |errno| fail("lock", c"/run", errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, c"/run", flags, Mode::empty()).map_err(fail)?;
        for _ in 0..Lock::TRIES {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _directory: directory }),
                Err(Errno::WOULDBLOCK) => clock::sleep(Lock::PAUSE),
                Err(errno) => return Err(fail(errno)),
            }
        }
        let found = "another ostree-prepare-root is at work";
        Err(Error::found(Class::Run, "lock /run", found).hint("end it, or wait for it, and run this again"))
    }
}

/// What was made under `/run`. Dropped without [`keep`](RunFiles::keep), it is taken back.
#[derive(Debug, Default)]
pub struct RunFiles {
    notes: Option<Notes>,
    /// There is the file with the notes.
    noted: bool,
    made: Vec<Made>,
}

impl RunFiles {
    /// Makes `/run/ostree` and its private directory, and begins to write down what is made. `sysroot`:
    /// where the physical root is.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn new(sysroot: &[u8]) -> Result<RunFiles> {
        // What we make has the modes it is given.
        rustix::process::umask(Mode::empty());
        let mut files = RunFiles::default();
        files.directory(OSTREE, 0o755)?;
        files.directory(PRIVATE, 0)?;
        let fail = |errno| fail("write", unfinished::PATH, errno);
        files.noted = true;
        let notes = Notes::begin(sysroot).map_err(fail)?;
        for made in &files.made {
            notes.making(made).map_err(fail)?;
        }
        files.notes = Some(notes);
        Ok(files)
    }

    /// What a run made that was killed.
    pub fn left(made: Vec<Made>) -> RunFiles {
        RunFiles { notes: None, noted: true, made }
    }

    /// Makes the directory for the writable layer of a transient `/etc`, where `ostree-remount` looks
    /// for `upper`.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn transient_etc(&mut self) -> Result<String> {
        // Six characters, as libostree's.
        let first = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
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
            self.making(Made::Directory(c_string(&format!("{directory}/work/{name}"))))?;
        }
        Ok(())
    }

    /// Notes that something is going to be mounted there. Taking it off is the mounter's business.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn mounting(&mut self, path: &str) -> Result<()> {
        self.note(&Made::Mount(c_string(path)))
    }

    /// Notes that everything is ready, what is going to be the new root, and where it has mounts that are
    /// to be shared.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn placing<'a>(&self, root: MountId, shared: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let Some(notes) = &self.notes else { return Ok(()) };
        notes.placing(root, shared).map_err(|errno| fail("write", unfinished::PATH, errno))
    }

    /// Leaves everything but [`booted::PATH`].
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn leave(&mut self, traces: &Traces) -> Result<()> {
        self.write_instead(traces.instead.as_deref())?;
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
            self.file(VOLATILE_ROOT, || rustix::fs::symlink(&text, VOLATILE_ROOT))?;
        }
        if traces.remount_fs_dropin {
            self.directory(c"/run/systemd/system", 0o755)?;
            self.directory(c"/run/systemd/system/systemd-remount-fs.service.d", 0o755)?;
            self.file(REMOUNT_FS_DROPIN, || write(REMOUNT_FS_DROPIN, OFlags::EXCL, REMOUNT_FS_DROPIN_TEXT))?;
        }
        Ok(())
    }

    /// Writes [`booted::PATH`].
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn write_booted(&mut self, booted: &Booted, transient_etc: Option<&str>) -> Result<()> {
        let fail = |errno| fail("write", booted::PATH, errno);
        self.making(Made::File(BOOTED_PARTIAL.into()))?;
        self.replacing(booted::PATH)?;
        let bytes = booted.serialise(transient_etc);
        let written = match write(BOOTED_PARTIAL, OFlags::EXCL, &bytes) {
            // Whatever it is, it is not a file of this run.
            Err(Errno::EXIST) => {
                rustix::fs::unlink(BOOTED_PARTIAL).and_then(|()| write(BOOTED_PARTIAL, OFlags::EXCL, &bytes))
            }
            written => written,
        };
        written
            // Readers see the old file or the new one, never a part.
            .and_then(|()| rustix::fs::rename(BOOTED_PARTIAL, booted::PATH))
            .map_err(fail)
    }

    /// Says why it is another deployment than the one of the boot entry, if it is.
    ///
    /// # Errors
    /// [`Class::Run`]
    fn write_instead(&mut self, instead: Option<&str>) -> Result<()> {
        // What an earlier boot wrote, before a soft-reboot, is not true any more.
        if exists(Instead::PATH).map_err(|errno| fail("look for", Instead::PATH, errno))? {
            self.replacing(Instead::PATH)?;
            rustix::fs::unlink(Instead::PATH).map_err(|errno| fail("remove", Instead::PATH, errno))?;
        }
        let Some(text) = instead else { return Ok(()) };
        self.file(Instead::PATH, || write(Instead::PATH, OFlags::EXCL, format!("{text}\n").as_bytes()))
    }

    /// Notes that a file is going to be made, and keeps the one that may be in its place.
    fn replacing(&mut self, path: &CStr) -> Result<()> {
        let fail = |errno| fail("keep", path, errno);
        if !exists(path).map_err(fail)? {
            return self.making(Made::File(path.into()));
        }
        self.making(Made::Replaced(path.into()))?;
        // Left by a run that could not remove it.
        let _ = rustix::fs::unlink(kept(path).as_c_str());
        rustix::fs::link(path, kept(path).as_c_str()).map_err(fail)
    }

    /// The new root is in place: what was made stays, and there is nothing left to do.
    pub fn keep(mut self) {
        for made in core::mem::take(&mut self.made) {
            if let Made::Replaced(path) = made
                && let Err(errno) = rustix::fs::unlink(kept(&path).as_c_str())
            {
                log::warn!("remove {}: {}", printable(kept(&path).to_bytes()), describe(errno));
            }
        }
        self.forget_notes();
    }

    /// It is not known to be as it was: what was made stays, and the next run does what is to be done.
    pub fn leave_unfinished(mut self) {
        self.made.clear();
        self.noted = false;
    }

    fn forget_notes(&mut self) {
        if core::mem::take(&mut self.noted)
            && let Err(errno) = rustix::fs::unlink(unfinished::PATH)
            && errno != Errno::NOENT
        {
            log::warn!("remove {}: {}", printable(unfinished::PATH.to_bytes()), describe(errno));
        }
    }

    /// Notes what is going to be made, and that we are to take it back.
    fn making(&mut self, made: Made) -> Result<()> {
        self.note(&made)?;
        self.made.push(made);
        Ok(())
    }

    fn note(&self, made: &Made) -> Result<()> {
        let Some(notes) = &self.notes else { return Ok(()) };
        notes.making(made).map_err(|errno| fail("write", unfinished::PATH, errno))
    }

    /// Makes a directory; `false` if it was there already.
    fn directory(&mut self, path: &CStr, mode: u32) -> Result<bool> {
        let fail = |errno| fail("create", path, errno);
        if exists(path).map_err(fail)? {
            return Ok(false);
        }
        self.making(Made::Directory(path.into()))?;
        match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)) {
            // Somebody was faster.
            Err(Errno::EXIST) => {
                self.made.pop();
                Ok(false)
            }
            made => made.map(|()| true).map_err(fail),
        }
    }

    /// Makes a file; one that is there already is somebody else's.
    fn file(&mut self, path: &CStr, make: impl FnOnce() -> rustix::io::Result<()>) -> Result<()> {
        let fail = |errno| fail("create", path, errno);
        if exists(path).map_err(fail)? {
            log::debug!("{} is there already: left as it is", printable(path.to_bytes()));
            return Ok(());
        }
        self.making(Made::File(path.into()))?;
        match make() {
            // Somebody was faster.
            Err(Errno::EXIST) => {
                self.made.pop();
                Ok(())
            }
            made => made.map_err(fail),
        }
    }
}

impl Drop for RunFiles {
    /// What cannot be taken back is logged: it is the lesser problem of a failed boot.
    fn drop(&mut self) {
        let failed = |path: &CStr, errno| {
            log::warn!("take back {}: {}", printable(path.to_bytes()), describe(errno));
        };
        for made in core::mem::take(&mut self.made).into_iter().rev() {
            let (path, result) = match &made {
                Made::Directory(path) if path.as_c_str() == PRIVATE => {
                    // The notes are in there.
                    self.forget_notes();
                    (path, rustix::fs::rmdir(PRIVATE))
                }
                Made::Directory(path) => (path, rustix::fs::rmdir(path.as_c_str())),
                Made::File(path) => (path, rustix::fs::unlink(path.as_c_str())),
                // If it was not replaced yet, both are the same file, and renaming does nothing.
                Made::Replaced(path) => (
                    path,
                    rustix::fs::rename(kept(path).as_c_str(), path.as_c_str())
                        .and_then(|()| rustix::fs::unlink(kept(path).as_c_str())),
                ),
                Made::Mount(_) => continue,
            };
            if let Err(errno) = result
                && errno != Errno::NOENT
            {
                failed(path, errno);
            }
        }
        self.forget_notes();
    }
}

fn exists(path: &CStr) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    Ok(lookup::if_there(stat)?.is_some())
}

fn fail(operation: &str, path: &CStr, errno: Errno) -> Error {
    Error::errno(Class::Run, format!("{operation} {}", printable(path.to_bytes())), errno)
        .hint("is /run mounted, writable and not full?")
}

/// Our own paths have no NUL in them; if one had, the empty path would be refused by every call.
fn c_string(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

/// Where a file is kept that ours replaces.
fn kept(path: &CStr) -> CString {
    let name = path.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    c_string(&format!("/run/ostree/.private/previous.{}", name.escape_ascii()))
}

fn write(path: &CStr, flags: OFlags, bytes: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
    let file = rustix::fs::openat(CWD, path, flags, mode)?;
    lookup::write_all(&file, bytes)
}
