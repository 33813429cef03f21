//! What we leave under `/run`: it tells the running system how it was prepared. All of it, or nothing.

pub mod unfinished;

use crate::booted;
use crate::choice::Instead;
use crate::clock;
use crate::error::{Class, Error, Result, describe, printable};
use crate::lookup;
use crate::plan::Traces;
use crate::plan::kept::Kept;
use crate::syscall;
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
const SYSTEMD: &CStr = c"/run/systemd";
/// Units of the administrator's, until reboot.
const SYSTEM: &CStr = c"/run/systemd/system";
const REMOUNT_FS_DROPINS: &CStr = c"/run/systemd/system/systemd-remount-fs.service.d";
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
    /// No run has left anything since the machine was started: `/run/ostree` was not there.
    is_first: bool,
    made: Vec<Made>,
}

impl RunFiles {
    /// Makes what is to be left in `/run` but for [`booted::PATH`], and begins to write down what is made. `sysroot`:
    /// where the physical root is.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn new(sysroot: &[u8], traces: &Traces) -> Result<RunFiles> {
        // What we make has the modes it is given.
        rustix::process::umask(Mode::empty());
        let mut files = RunFiles::default();
        let is_first = files.make_directory(OSTREE, 0o755)?;
        files.make_directory(PRIVATE, 0)?;
        files.is_first = is_first;
        let missing = Missing::of(traces, is_first)?;
        let traced: Vec<Made> = missing.iter().map(Trace::made).collect();
        files.noted = true;
        let notes = Notes::begin(sysroot, files.made.iter().chain(&traced));
        files.notes = Some(notes.map_err(|errno| fail("write", unfinished::PATH, errno))?);
        for trace in missing {
            files.leave(trace)?;
        }
        files.write_instead(traces.instead.as_deref())?;
        Ok(files)
    }

    /// Says why it is another deployment than the one of the boot entry, if it is.
    fn write_instead(&mut self, instead: Option<&str>) -> Result<()> {
        let path = Instead::PATH;
        // What an earlier boot wrote, before a soft-reboot, is not true any more.
        if !self.is_first && exists(path)? {
            let old = Made::Replaced(path.into());
            self.note([&old])?;
            self.replace(old, path)?;
            rustix::fs::unlink(path).map_err(|errno| fail("remove", path, errno))?;
        }
        let Some(text) = instead else { return Ok(()) };
        self.note([&Made::File(path.into())])?;
        self.make_file(path, || write(path, OFlags::EXCL, format!("{text}\n").as_bytes()))
    }

    /// What a run made that was killed.
    pub fn left(made: Vec<Made>) -> RunFiles {
        RunFiles { notes: None, noted: true, is_first: false, made }
    }

    /// Makes the directory for the writable layer of a transient `/etc`, where `ostree-remount` looks
    /// for `upper`.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn transient_etc(&mut self) -> Result<String> {
        // Six characters, as libostree's.
        let first = syscall::process();
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
            let directory = c_string(&path);
            if !self.is_first && exists(&directory)? {
                continue;
            }
            self.note([&Made::Directory(directory.clone())])?;
            if self.make_directory(&directory, mode)? {
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
        // Overlayfs makes the last two; they are listed to be taken back.
        let [upper, work, inner, index] = ["upper", "work", "work/work", "work/index"]
            .map(|name| Made::Directory(c_string(&format!("{directory}/{name}"))));
        self.note([&upper, &work, &inner, &index])?;
        for (made, mode) in [(&upper, 0o755), (&work, work_mode)] {
            if let Made::Directory(path) = made {
                self.make_directory(path, mode)?;
            }
        }
        self.made.extend([inner, index]);
        Ok(())
    }

    /// Leaves what keeps mounts over a soft-reboot.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn keep_mounts(&mut self, kept: &[Kept]) -> Result<()> {
        if kept.is_empty() {
            return Ok(());
        }
        let missing = Missing::of_kept(kept)?;
        let made: Vec<Made> = missing.iter().map(Trace::made).collect();
        self.note(&made)?;
        missing.into_iter().try_for_each(|trace| self.leave(trace))
    }

    /// Notes that something is going to be mounted there. Taking it off is the mounter's business.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn mounting(&mut self, path: &str) -> Result<()> {
        self.note([&Made::Mount(c_string(path))])
    }

    /// Writes [`booted::PATH`]: everything is ready. Notes what is going to be the new root, and where it has mounts
    /// that are to be shared.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn write_booted<'a>(
        &mut self,
        bytes: &[u8],
        root: MountId,
        shared: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<()> {
        let made = Made::or_replaced(booted::PATH)?;
        if let Some(notes) = &self.notes {
            notes.placing(&made, root, shared).map_err(|errno| fail("write", unfinished::PATH, errno))?;
        }
        let fail = |errno| fail("write", booted::PATH, errno);
        if made == Made::File(booted::PATH.into()) {
            self.made.push(made);
            // Nobody waits for it: until this program ends, the old root is what others see.
            return write(booted::PATH, OFlags::EXCL, bytes).map_err(fail);
        }
        self.replace(made, booted::PATH)?;
        // Readers see the old file or the new one, never a part.
        let partial = Made::File(BOOTED_PARTIAL.into());
        self.note([&partial])?;
        self.made.push(partial);
        // Left by others, whatever it is.
        let _ = rustix::fs::unlink(BOOTED_PARTIAL);
        write(BOOTED_PARTIAL, OFlags::EXCL, bytes)
            .and_then(|()| rustix::fs::rename(BOOTED_PARTIAL, booted::PATH))
            .map_err(fail)
    }

    /// Keeps a file that is going to be replaced.
    fn replace(&mut self, made: Made, path: &CStr) -> Result<()> {
        self.made.push(made);
        // Left by a run that could not remove it.
        let _ = rustix::fs::unlink(saved(path).as_c_str());
        rustix::fs::link(path, saved(path).as_c_str()).map_err(|errno| fail("keep", path, errno))
    }

    fn leave(&mut self, trace: Trace) -> Result<()> {
        let path = trace.path;
        match trace.what {
            What::Directory(mode) => self.make_directory(path, mode).map(|_| ()),
            What::Link(text) => self.make_file(path, || rustix::fs::symlink(&text, path)),
            What::File(bytes) => self.make_file(path, || write(path, OFlags::EXCL, &bytes)),
        }
    }

    /// Makes a directory that is noted; `false` if it was there already.
    fn make_directory(&mut self, path: &CStr, mode: u32) -> Result<bool> {
        match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                self.made.push(Made::Directory(path.into()));
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(fail("create", path, errno)),
        }
    }

    /// Makes a file that is noted. If it is there by now, it is somebody else's.
    fn make_file(&mut self, path: &CStr, make: impl FnOnce() -> rustix::io::Result<()>) -> Result<()> {
        self.made.push(Made::File(path.into()));
        match make() {
            Err(Errno::EXIST) => {
                self.made.pop();
                Ok(())
            }
            made => made.map_err(|errno| fail("create", path, errno)),
        }
    }

    /// The new root is in place: what was made stays, and there is nothing left to do.
    pub fn keep(mut self) {
        for made in core::mem::take(&mut self.made) {
            if let Made::Replaced(path) = made
                && let Err(errno) = rustix::fs::unlink(saved(&path).as_c_str())
            {
                log::warn!("remove {}: {}", printable(saved(&path).to_bytes()), describe(errno));
            }
        }
        self.forget_notes();
        if let Some(notes) = self.notes.take() {
            notes.leave_open();
        }
    }

    /// It is not known to be as it was: what was made stays, and the next run does what is to be done.
    pub fn leave_unfinished(mut self) {
        self.made.clear();
        self.noted = false;
    }

    /// Notes what is going to be made.
    fn note<'a>(&self, making: impl IntoIterator<Item = &'a Made>) -> Result<()> {
        let Some(notes) = &self.notes else { return Ok(()) };
        notes.making(making).map_err(|errno| fail("write", unfinished::PATH, errno))
    }

    fn forget_notes(&mut self) {
        if core::mem::take(&mut self.noted)
            && let Err(errno) = rustix::fs::unlink(unfinished::PATH)
            && errno != Errno::NOENT
        {
            log::warn!("remove {}: {}", printable(unfinished::PATH.to_bytes()), describe(errno));
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
                    rustix::fs::rename(saved(path).as_c_str(), path.as_c_str())
                        .and_then(|()| rustix::fs::unlink(saved(path).as_c_str())),
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

impl Made {
    /// A file of ours: in place of another, if there is one.
    fn or_replaced(path: &CStr) -> Result<Made> {
        Ok(if exists(path)? { Made::Replaced(path.into()) } else { Made::File(path.into()) })
    }
}

/// Something that is left for the running system.
struct Trace {
    path: &'static CStr,
    what: What,
}

enum What {
    /// A directory of that mode.
    Directory(u32),
    /// A symbolic link with that text.
    Link(String),
    /// A file with that contents.
    File(Vec<u8>),
}

/// Those that are not there yet; what is there is somebody else's.
#[derive(Default)]
struct Missing(Vec<Trace>);

impl Missing {
    const DIRECTORY: What = What::Directory(0o755);

    /// `is_first`: no run has left anything.
    fn of(traces: &Traces, is_first: bool) -> Result<Vec<Trace>> {
        let mut missing = Missing::default();
        if traces.image_mount_point {
            missing.look_for(is_first, IMAGE_MOUNT_POINT, What::Directory(0o700))?;
        }
        if traces.volatile_root.is_none() && !traces.remount_fs_dropin {
            return Ok(missing.0);
        }
        let systemd = missing.look_for(false, SYSTEMD, Missing::DIRECTORY)?;
        if let Some(device) = traces.volatile_root {
            // In this form, since systemd does not follow it: it reads the numbers.
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            missing.look_for(systemd, VOLATILE_ROOT, What::Link(format!("/dev/block/{major}:{minor}")))?;
        }
        if traces.remount_fs_dropin {
            let system = missing.look_for(systemd, SYSTEM, Missing::DIRECTORY)?;
            let dropins = missing.look_for(system, REMOUNT_FS_DROPINS, Missing::DIRECTORY)?;
            let text = What::File(REMOUNT_FS_DROPIN_TEXT.to_vec());
            missing.look_for(dropins, REMOUNT_FS_DROPIN, text)?;
        }
        Ok(missing.0)
    }

    fn of_kept(kept: &[Kept]) -> Result<Vec<Trace>> {
        let mut missing = Missing::default();
        let systemd = missing.look_for(false, SYSTEMD, Missing::DIRECTORY)?;
        let system = missing.look_for(systemd, SYSTEM, Missing::DIRECTORY)?;
        for Kept { directory, path, text } in kept {
            let above = match directory {
                Some(directory) => missing.look_for(system, directory, Missing::DIRECTORY)?,
                None => system,
            };
            missing.look_for(above, path, What::File(text.clone().into_bytes()))?;
        }
        Ok(missing.0)
    }

    /// Whether it is missing. `above`: its directory is, so that nobody has to look.
    fn look_for(&mut self, above: bool, path: &'static CStr, what: What) -> Result<bool> {
        let is_missing = above || !exists(path)?;
        if is_missing {
            self.0.push(Trace { path, what });
        }
        Ok(is_missing)
    }
}

impl Trace {
    fn made(&self) -> Made {
        match self.what {
            What::Directory(_) => Made::Directory(self.path.into()),
            What::Link(_) | What::File(_) => Made::File(self.path.into()),
        }
    }
}

fn exists(path: &CStr) -> Result<bool> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    let stat = lookup::if_there(stat).map_err(|errno| fail("look for", path, errno))?;
    Ok(stat.is_some())
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
fn saved(path: &CStr) -> CString {
    let name = path.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    c_string(&format!("/run/ostree/.private/previous.{}", name.escape_ascii()))
}

fn write(path: &CStr, flags: OFlags, bytes: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
    let file = rustix::fs::openat(CWD, path, flags, mode)?;
    lookup::write_all(&file, bytes)?;
    lookup::leave_open(file);
    Ok(())
}
