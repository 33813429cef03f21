//! A run that was killed: what it had all but done is finished, anything else is taken back.

use super::swap::{Place, Refuge, settle_propagation, uncover};
use crate::error::{Class, Error, Result, describe};
use crate::lookup;
use crate::mountinfo::{self, Mount};
use crate::run::RunFiles;
use crate::run::unfinished::{Made, MountId, Unfinished};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Looks whether the last run for the physical root at `path` came to its end. If not, afterwards the
/// new root is there, or the physical root and `/run` as it was.
///
/// # Errors
/// [`Class::Run`] when that cannot be told; [`Class::Undo`] when it cannot be done.
pub fn recover(path: &Path) -> Result<()> {
    let read = Unfinished::read().map_err(|errno| {
        let operation = "read what an interrupted run has left to do";
        Error::errno(Class::Run, operation, errno).hint("reboot")
    });
    let Some(left) = read? else { return Ok(()) };
    if finish(path, &left)? {
        drop(Refuge::left());
        RunFiles::left(Vec::new()).keep();
        log::warn!("an earlier run was interrupted: finished what it began");
    } else {
        put_back(path)?;
        unmount(&left.made);
        drop(RunFiles::left(left.made));
        log::warn!("an earlier run was interrupted: took back what it had made");
    }
    Ok(())
}

/// If the new root is at its place, does the rest; `false` if it is not.
fn finish(path: &Path, left: &Unfinished) -> Result<bool> {
    let fail = |errno| undo("look for the root that an interrupted run made", errno);
    let Some(root) = left.root else { return Ok(false) };
    let mut visible = open(path).map_err(fail)?;
    if is_beneath(visible.as_fd(), root).map_err(fail)? {
        uncover(visible.as_fd(), path)?;
        visible = open(path).map_err(fail)?;
    }
    if MountId::of(&visible).map_err(fail)? != root {
        return Ok(false);
    }
    settle_propagation(visible.as_fd(), left.shared.iter().map(String::as_bytes));
    Ok(true)
}

/// Whether that mount is hidden beneath the one that is seen.
fn is_beneath(visible: BorrowedFd<'_>, root: MountId) -> rustix::io::Result<bool> {
    if MountId::of(visible)? == root {
        return Ok(false);
    }
    let path = lookup::canonical_path(visible)?;
    let here = |mount: &Mount| mount.number == root.number && mount.place == path.as_os_str().as_bytes();
    Ok(mountinfo::read()?.iter().any(here))
}

/// Puts the physical root back if it was taken off.
fn put_back(path: &Path) -> Result<()> {
    let refuge = Refuge::left();
    let fail = |errno| undo("put back the physical root that an interrupted run took off", errno);
    if lookup::is_mount_point(open(path).map_err(fail)?.as_fd()).map_err(fail)? {
        return Ok(());
    }
    match Place::of(path).and_then(|place| refuge.put_back(&place)) {
        // There is no copy: it was not us who took it off.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => Ok(()),
        Err(errno) => {
            refuge.leave();
            Err(fail(errno))
        }
    }
}

fn unmount(made: &[Made]) {
    for made in made.iter().rev() {
        let Made::Mount(path) = made else { continue };
        match rustix::mount::unmount(path.as_c_str(), UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => log::warn!("take {} off again: {}", path.to_string_lossy(), describe(errno)),
        }
    }
}

fn undo(operation: &str, errno: Errno) -> Error {
    Error::errno(Class::Undo, operation, errno).hint("run this again, or reboot")
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
