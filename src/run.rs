//! The files under `/run` that tell the running system how it was prepared. All of them, or none.

use crate::booted::Booted;
use crate::error::{Class, Error, Result};
use crate::lookup;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Marks an OSTree system for the generator and others.
const RUN_OSTREE: &CStr = c"/run/ostree";
/// Nobody but us has business in there.
const PRIVATE: &CStr = c"/run/ostree/.private";
/// What was prepared.
const BOOTED: &CStr = c"/run/ostree-booted";
/// [`BOOTED`] until it is complete.
const BOOTED_PARTIAL: &CStr = c"/run/.ostree-booted.partial";

/// What was made under `/run`, so that it can be taken back.
#[derive(Debug, Default)]
pub struct RunFiles {
    directories: Vec<&'static CStr>,
    booted: Option<Previous>,
}

/// The file that ours replaced, if any.
type Previous = Option<Vec<u8>>;

impl RunFiles {
    /// Makes the directories and writes `/run/ostree-booted`.
    ///
    /// # Errors
    /// [`Class::Run`]; whatever was made is gone again.
    pub fn write(booted: &Booted) -> Result<RunFiles> {
        let mut files = RunFiles::default();
        match files.make(booted) {
            Ok(()) => Ok(files),
            Err(error) => {
                files.undo();
                Err(error)
            }
        }
    }

    fn make(&mut self, booted: &Booted) -> Result<()> {
        self.directory(RUN_OSTREE, Mode::from_raw_mode(0o755))?;
        self.directory(PRIVATE, Mode::empty())?;
        let previous = lookup::read(BOOTED).ok().flatten();
        replace_booted(&booted.serialise()).map_err(|errno| {
            Error::errno(Class::Run, format!("write {}", BOOTED.to_string_lossy()), errno)
        })?;
        self.booted = Some(previous);
        Ok(())
    }

    fn directory(&mut self, path: &'static CStr, mode: Mode) -> Result<()> {
        let fail = |errno| Error::errno(Class::Run, format!("create {}", path.to_string_lossy()), errno);
        match rustix::fs::mkdirat(CWD, path, mode) {
            Ok(()) => self.directories.push(path),
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        }
        // The mode must not depend on the caller's umask.
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).map_err(fail)
    }

    /// Takes everything back. What cannot be taken back is logged: it is the lesser problem of a failed boot.
    pub fn undo(self) {
        let result = match self.booted {
            Some(Some(previous)) => replace_booted(&previous),
            Some(None) => rustix::fs::unlink(BOOTED),
            None => Ok(()),
        };
        report(BOOTED, result);
        for path in self.directories.iter().rev() {
            report(path, rustix::fs::rmdir(*path));
        }
    }
}

fn report(path: &CStr, result: rustix::io::Result<()>) {
    if let Err(errno) = result {
        log::warn!("take back {}: {}", path.to_string_lossy(), crate::error::describe(errno));
    }
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
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
