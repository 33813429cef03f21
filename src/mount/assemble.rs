//! Joining the pieces to one tree that is attached nowhere.
//!
//! Since Linux 6.15 a mount can be attached inside a detached tree, and a detached mount can be a
//! layer of an overlay. Before, that is EINVAL, and the tree is assembled in a mount namespace of our
//! own instead: private, gone without a trace if we die, and cloned as a whole when it is complete.
//! Either way nothing is visible until [`swap`](super::swap).

use super::clone::private_tree;
use super::material::Material;
use super::{Disk, Failure, Layers};
use crate::contents::Contents;
use crate::error::{Class, Error, Result};
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use crate::plan::{Plan, Step};
use crate::syscall::{self, Attributes, Propagation};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MoveMountFlags;
use rustix::thread::LinkNameSpaceType;
use std::ffi::CStr;

/// Makes the tree: a detached mount with all others of the plan in it, every one private. If the
/// plan was not settled yet, it is settled with the contents of the new root.
///
/// `kernel` forgets what the kernel turns out to lack; then it is tried again the older way.
///
/// # Errors
/// As [`Material::take`] and [`Material::build`], and [`Class::Mount`]. Nothing visible has changed.
pub fn assemble(
    plan: &Plan,
    disk: Disk<'_>,
    layers: &Layers,
    kernel: &mut Kernel,
) -> Result<(OwnedFd, Plan)> {
    loop {
        match attempt(plan, disk, layers, *kernel) {
            Ok(assembled) => return Ok(assembled),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Lacks(ability)) => {
                log::debug!("this kernel lacks {ability}, or refuses it here: taking the older way");
                kernel.forget(ability);
            }
        }
    }
}

fn attempt(plan: &Plan, disk: Disk<'_>, layers: &Layers, kernel: Kernel) -> Result<(OwnedFd, Plan), Failure> {
    // All is taken from the disk first: from inside another namespace it could not be cloned any
    // more. What cannot be taken may turn out not to be needed.
    let mut materials = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        match Material::take(step, disk, layers, kernel) {
            Err(failure) if step.only_if.is_none() => return Err(failure),
            material => materials.push((step.at.clone(), material)),
        }
    }
    let scratch = if kernel.has(Ability::DetachedTree) { None } else { Some(Scratch::enter()?) };
    if let Some(scratch) = &scratch {
        for layer in materials.iter().flat_map(|(_, material)| material).flat_map(Material::layers) {
            scratch.attach(layer)?;
        }
    }
    let mut build = |step: &Step, root: Option<BorrowedFd<'_>>| {
        let at = materials.iter().position(|(at, _)| *at == step.at);
        let at = at.ok_or_else(|| {
            Error::found(Class::Mount, "assemble the new root", "a mount came from nowhere")
        })?;
        materials.swap_remove(at).1?.build(step, root, kernel)
    };

    let Some((first, _)) = plan.steps.split_first() else {
        return Err(Error::found(Class::Mount, "assemble the new root", "the plan is empty").into());
    };
    let root = build(first, None)?;
    if let Some(scratch) = &scratch {
        scratch.attach(root.as_fd())?;
    }
    let plan = if plan.unsettled {
        let contents = Contents::read(root.as_fd(), disk.deployment.handle(), &plan.questions())?;
        plan.clone().settle(&contents, &disk.deployment.facts)?
    } else {
        plan.clone()
    };
    // All pieces are made before any of them hides the directory that another one is made from.
    let mut pieces = Vec::with_capacity(plan.steps.len());
    for step in plan.steps.iter().skip(1) {
        pieces.push((step, build(step, Some(root.as_fd()))?));
    }
    for (step, piece) in pieces {
        attach(root.as_fd(), piece.as_fd(), step, kernel)?;
    }
    match scratch {
        None => Ok((root, plan)),
        Some(scratch) => Ok((scratch.leave_with_copy(root.as_fd())?, plan)),
    }
}

fn attach(root: BorrowedFd<'_>, piece: BorrowedFd<'_>, step: &Step, kernel: Kernel) -> Result<(), Failure> {
    // The stateroot's var may be a link; beneath the root it may lead anywhere.
    let attach = || {
        let place = lookup::open_beneath(root, &step.at, OFlags::PATH | OFlags::DIRECTORY)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(piece, c"", &place, c"", flags)
    };
    attach().map_err(|errno| {
        Failure::of(errno, &[Ability::DetachedTree], kernel, |errno| {
            Error::errno(Class::Mount, format!("mount {} of the new root", step.place()), errno)
        })
    })
}

/// A mount namespace of our own. Dropping it leads back to where we were.
#[derive(Debug)]
struct Scratch {
    /// The namespace we came from, and its root directory as we saw it; `setns` would give us the
    /// namespace's.
    home: (OwnedFd, OwnedFd),
    away: bool,
}

impl Scratch {
    /// Enters a new namespace.
    fn enter() -> Result<Scratch> {
        let open = |path: &CStr, flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let what = "open the mount namespace /proc/self/ns/mnt";
        let namespace = open(c"/proc/self/ns/mnt", OFlags::RDONLY).map_err(|errno| fail(what, errno))?;
        let directory =
            open(c"/", OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| fail("open /", errno))?;
        syscall::unshare_mounts()
            .map_err(|errno| fail("make a mount namespace to assemble the new root in", errno))?;
        let scratch = Scratch { home: (namespace, directory), away: true };

        // The copies of the mounts outside are in the same peer groups as these; without this they
        // would see what we mount.
        let private = Attributes { propagation: Some(Propagation::Private), readonly: None };
        let own_root = open(c"/", OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| fail("open /", errno))?;
        syscall::mount_setattr(&own_root, true, private)
            .map_err(|errno| fail("make the mounts of our own namespace private", errno))?;
        Ok(scratch)
    }

    /// Attaches a detached mount, so that it can be a layer or hold others: on top of all others on
    /// `/`, where nobody looks. The new root comes last, so that nothing is mounted on it.
    fn attach(&self, mount: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::move_mount(mount, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| fail("attach a part of the new root in our own namespace", errno))
    }

    /// Takes a detached copy of the assembled tree home.
    fn leave_with_copy(mut self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        let tree = private_tree(root).map_err(|errno| fail("clone the assembled root", errno))?;
        self.go_home().map_err(|errno| fail("return to the mount namespace of the caller", errno))?;
        Ok(tree)
    }

    fn go_home(&mut self) -> rustix::io::Result<()> {
        rustix::thread::move_into_link_name_space(self.home.0.as_fd(), Some(LinkNameSpaceType::Mount))?;
        self.away = false;
        rustix::process::fchdir(&self.home.1)?;
        rustix::process::chroot(c".")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.away {
            return;
        }
        if let Err(errno) = self.go_home() {
            log::warn!("return to the mount namespace of the caller: {}", crate::error::describe(errno));
        }
    }
}

fn fail(operation: &str, errno: rustix::io::Errno) -> Error {
    Error::errno(Class::Mount, operation, errno)
}
