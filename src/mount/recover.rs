//! A run that was killed: what it had all but done is finished, anything else is taken back.

use super::clone::private_tree;
use super::swap::{Place, Refuge, settle_propagation, uncover};
use crate::error::{Class, Error, Result, describe};
use crate::mountinfo::{self, Mount};
use crate::run::RunFiles;
use crate::run::unfinished::{Made, MountId, Notes, Unfinished};
use alloc::string::String;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// Looks whether the last run came to its end. If not, afterwards its new root is there, or the physical
/// root and `/run` as it was.
///
/// # Errors
/// [`Class::Run`] when that cannot be told; [`Class::Undo`] when it cannot be done.
pub fn recover() -> Result<()> {
    let read = Unfinished::read().map_err(|errno| {
        let operation = "read what an interrupted run has left to do";
        Error::errno(Class::Run, operation, errno).hint("reboot")
    });
    let Some(left) = read? else { return Ok(()) };
    if finish(&left)? {
        drop(Refuge::left());
        RunFiles::left(left.made).keep();
        log::warn!("an earlier run was interrupted: finished what it began");
    } else {
        // Now others may get the number of the new root.
        let notes = Notes::left().and_then(|notes| notes.going_back());
        notes.map_err(|errno| undo("write down what to do about an interrupted run", errno))?;
        put_back(&left.at)?;
        unmount(&left.made);
        drop(RunFiles::left(left.made));
        log::warn!("an earlier run was interrupted: took back what it had made");
    }
    Ok(())
}

/// If the new root is at its place, does the rest; `false` if it is not.
fn finish(left: &Unfinished) -> Result<bool> {
    let fail = |errno| undo("look for the root that an interrupted run made", errno);
    let Some(root) = left.root else { return Ok(false) };
    let mounts = mountinfo::read().map_err(fail)?;
    let Some(found) = mounts.iter().find(|mount| mount.number == root.number) else { return Ok(false) };
    let at = found.place.as_slice();
    if MountId::at(at).map_err(fail)? != root {
        if found.place != left.at || !is_beneath(&mounts, root, &left.at).map_err(fail)? {
            return Ok(false);
        }
        uncover(root, at, true)?;
    }
    // It may also be the root of the system by now: that boot was completed without us.
    if at == left.at {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tree = rustix::fs::openat(CWD, at, flags, Mode::empty()).map_err(fail)?;
        settle_propagation(&tree, left.shared.iter().map(String::as_bytes));
    }
    Ok(true)
}

/// Whether that mount carries the one that is seen at the path, and that perhaps another.
fn is_beneath(mounts: &[Mount], root: MountId, path: &[u8]) -> rustix::io::Result<bool> {
    let mut number = MountId::at(path)?.number;
    for _ in 0..mounts.len() {
        let Some(mount) = mounts.iter().find(|mount| mount.number == number) else { break };
        if mount.place != path || mount.number == root.number {
            break;
        }
        number = mount.parent;
        if number == root.number {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts the physical root back if it was taken off.
fn put_back(path: &[u8]) -> Result<()> {
    let fail = |errno| undo("put back the physical root that an interrupted run took off", errno);
    let Some((refuge, copy)) = Refuge::left().map_err(fail)? else { return Ok(()) };
    let is_there = || Ok(MountId::at(path)?.root == MountId::of(&copy)?.root);
    let put = || Place::of(path)?.put(&private_tree(&copy)?);
    match is_there().and_then(|there| if there { Ok(()) } else { put() }) {
        Ok(()) => Ok(()),
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
