//! What we leave under `/run`: it tells the running system how it was prepared. All of it, or nothing.

use crate::booted::Booted;
use crate::error::{Class, Error, Result, describe, printable};
use crate::lookup;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Marks an OSTree system for the generator and others.
const OSTREE: &CStr = c"/run/ostree";
/// Nobody but us has business in there.
const PRIVATE: &CStr = c"/run/ostree/.private";
/// What was prepared.
const BOOTED: &CStr = c"/run/ostree-booted";
/// [`BOOTED`] until it is complete.
const BOOTED_PARTIAL: &CStr = c"/run/.ostree-booted.partial";

/// What was made under `/run`. Dropped without [`keep`](RunFiles::keep), it is taken back.
#[derive(Debug, Default)]
pub struct RunFiles {
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    Directory(CString),
    /// The contents of the file that ours replaced, if any.
    Booted(Option<Vec<u8>>),
}

/// The writable layer of a transient `/etc`: a directory of its own for every run, with `upper` and
/// `work` in it.
#[derive(Debug)]
pub struct TransientEtc {
    /// The directory; `ostree-remount` looks for `upper` in it.
    pub path: String,
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

    /// Makes the directories for a transient `/etc`.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn transient_etc(&mut self) -> Result<TransientEtc> {
        // A name of its own: after a soft-reboot the directory of the boot before may still be there.
        for suffix in std::process::id()..=u32::MAX {
            let path = format!("/run/ostree/transient-etc.{suffix:06}");
            if self.directory(&c_string(&path), 0o700)? {
                self.directory(&c_string(&format!("{path}/upper")), 0o755)?;
                self.directory(&c_string(&format!("{path}/work")), 0o755)?;
                // Overlayfs makes these; they are listed to be taken back.
                for name in ["work", "index"] {
                    self.made.push(Made::Directory(c_string(&format!("{path}/work/{name}"))));
                }
                return Ok(TransientEtc { path });
            }
        }
        Err(Error::errno(Class::Run, "create /run/ostree/transient-etc.*", Errno::EXIST))
    }

    /// Writes `/run/ostree-booted`.
    ///
    /// # Errors
    /// [`Class::Run`]
    pub fn write_booted(&mut self, booted: &Booted, transient_etc: Option<&TransientEtc>) -> Result<()> {
        let fail = |errno| Error::errno(Class::Run, format!("write {}", printable(BOOTED.to_bytes())), errno);
        let previous = lookup::read(BOOTED).map_err(fail)?;
        let bytes = booted.serialise(transient_etc.map(|etc| etc.path.as_str()));
        replace_booted(&bytes).map_err(fail)?;
        self.made.push(Made::Booted(previous));
        Ok(())
    }

    /// The new root is in place: what was made stays.
    pub fn keep(mut self) {
        self.made.clear();
    }

    /// Makes a directory; `false` if it was there already.
    fn directory(&mut self, path: &CStr, mode: u32) -> Result<bool> {
        let fail = |errno| Error::errno(Class::Run, format!("create {}", printable(path.to_bytes())), errno);
        let mode = Mode::from_raw_mode(mode);
        match rustix::fs::mkdirat(CWD, path, mode) {
            Ok(()) => self.made.push(Made::Directory(path.into())),
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(fail(errno)),
        }
        // The mode must not depend on the caller's umask.
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).map_err(fail)?;
        Ok(true)
    }
}

impl Drop for RunFiles {
    /// What cannot be taken back is logged: it is the lesser problem of a failed boot.
    fn drop(&mut self) {
        for made in self.made.drain(..).rev() {
            let (path, result) = match &made {
                Made::Directory(path) => (path.as_c_str(), rustix::fs::rmdir(path.as_c_str())),
                Made::Booted(Some(previous)) => (BOOTED, replace_booted(previous)),
                Made::Booted(None) => (BOOTED, rustix::fs::unlink(BOOTED)),
            };
            if let Err(errno) = result
                && errno != Errno::NOENT
            {
                log::warn!("take back {}: {}", printable(path.to_bytes()), describe(errno));
            }
        }
    }
}

/// Our own paths have no NUL in them; if one had, the empty path would be refused by every call.
fn c_string(path: &str) -> CString {
    CString::new(path).unwrap_or_default()
}

/// Readers see the old file or the new one, never a part.
fn replace_booted(bytes: &[u8]) -> rustix::io::Result<()> {
    let result = write_partial(bytes).and_then(|()| rustix::fs::rename(BOOTED_PARTIAL, BOOTED));
    if result.is_err() {
        let _ = rustix::fs::unlink(BOOTED_PARTIAL);
    }
    result
}

fn write_partial(bytes: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, BOOTED_PARTIAL, flags, mode)?;
    rustix::fs::fchmod(&file, mode)?;
    lookup::write_all(&file, bytes)
}
