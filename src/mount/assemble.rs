//! Joining the pieces to one tree that is attached nowhere.
//!
//! Since Linux 6.15 a mount can be attached inside a detached tree, and a detached mount can be a
//! layer of an overlay. Before, that is EINVAL, and the tree is assembled in a mount namespace of our
//! own instead: private, gone without a trace if we die, and cloned as a whole when it is complete.
//! Either way nothing is visible until [`swap`](super::swap).

use super::clone::{self, private_tree};
use super::detached::Detached;
use super::material::{self, Material};
use super::{Disk, Failure, Layers};
use crate::clock::Instant;
use crate::contents::Contents;
use crate::error::{Class, Error, Result};
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use crate::name::Name;
use crate::plan::{self, Plan, Step};
use crate::syscall::{self, Attributes, Propagation};
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::thread::LinkNameSpaceType;

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
) -> Result<(Detached, Plan)> {
    let mut newer = None;
    loop {
        match attempt(plan, disk, layers, *kernel) {
            Ok(assembled) => return Ok(assembled),
            // Which of them tells the cause is not for us to know.
            Err(Failure::Refused(error)) => return Err(error.after(newer)),
            Err(Failure::Lacks(ability, error)) => {
                log::debug!("{error}: doing without {ability}, which this kernel lacks or refuses here");
                kernel.forget(ability);
                newer = Some(error);
            }
        }
    }
}

fn attempt(
    plan: &Plan,
    disk: Disk<'_>,
    layers: &Layers,
    kernel: Kernel,
) -> Result<(Detached, Plan), Failure> {
    let take = |step: &Step| {
        let start = Instant::now();
        let material = Material::take(step, disk, layers, kernel)?;
        log::debug!("{}: opened and cloned in {} us", step.place(), start.elapsed().as_micros());
        Ok(material)
    };
    if kernel.has(Ability::DetachedTree) {
        return join(plan, disk, None, kernel, take);
    }
    // All is taken from the disk first: from inside another namespace it could not be cloned any
    // more. What cannot be taken may turn out not to be needed.
    let mut materials = Vec::with_capacity(plan.steps.len());
    for step in plan.steps.iter().filter(|step| !step.is_in_place()) {
        match take(step) {
            Err(failure) if step.only_if.is_none() => return Err(failure),
            material => materials.push((&step.at, material)),
        }
    }
    let scratch = Scratch::enter()?;
    let ready = scratch.prepare(materials.iter().flat_map(|(_, material)| material));
    let joined = ready.map_err(Failure::from).and_then(|()| {
        let taken = |step: &Step| {
            let index = materials.iter().position(|(at, _)| **at == step.at);
            index.map_or_else(|| Err(nothing().into()), |index| materials.swap_remove(index).1)
        };
        let (root, plan) = join(plan, disk, Some(&scratch), kernel, taken)?;
        // What leaves the namespace is a copy; the tree itself goes with it.
        let tree = private_tree(&root).map_err(|errno| fail("clone the assembled root", errno))?;
        for step in plan.steps.iter().skip(1) {
            let there = lookup::open_beneath(tree.as_fd(), &step.at, OFlags::PATH | OFlags::DIRECTORY)
                .and_then(|place| lookup::is_mount_point(place.as_fd()));
            if there != Ok(true) {
                let found = format!("{} was moved meanwhile", step.place());
                return Err(Failure::from(Error::found(Class::Mount, "clone the assembled root", found)));
            }
        }
        Ok((tree.into(), plan))
    });
    scratch.leave()?;
    joined
}

/// Makes the mounts, the root first, attaches the others in it, and makes the whole private.
fn join(
    plan: &Plan,
    disk: Disk<'_>,
    scratch: Option<&Scratch>,
    kernel: Kernel,
    mut take: impl FnMut(&Step) -> Result<Material, Failure>,
) -> Result<(Detached, Plan), Failure> {
    let mut build = |step: &Step, root: Option<BorrowedFd<'_>>| {
        let material = take(step)?;
        let start = Instant::now();
        let built = material.build(step, disk, root, kernel)?;
        log::debug!("{}: {} made in {} us", step.place(), step.source_text(), start.elapsed().as_micros());
        Ok::<_, Failure>(built)
    };
    let mut root = build(plan.steps.first().ok_or_else(nothing)?, None)?;
    if let Some(scratch) = scratch {
        scratch.attach(root.as_fd())?;
    }
    let mut plan = plan.clone();
    if plan.unsettled {
        let mut open = Vec::new();
        let contents = Contents::read(root.as_fd(), disk.deployment.handle(), &plan.questions(), &mut open)?;
        root = open.into_iter().fold(root, Detached::with);
        plan = plan.settle(&contents)?;
    }
    // All pieces are made before any of them hides the directory that another one is made from.
    let (in_place, others): (Vec<&Step>, Vec<_>) =
        plan.steps.iter().skip(1).partition(|step| step.is_in_place());
    let mut pieces = Vec::with_capacity(others.len());
    for step in others {
        pieces.push((step, build(step, Some(root.as_fd()))?));
    }
    for (step, piece) in &pieces {
        attach(root.as_fd(), piece.as_fd(), step, &plan.name, kernel)?;
    }
    clone::make_private(&root).map_err(|errno| fail("make the new root private", errno))?;
    for step in in_place {
        let physical = pieces.iter().find(|(other, _)| other.at == b"sysroot").ok_or_else(nothing)?;
        root.take(cover(physical.1.as_fd(), step, disk, kernel)?);
    }
    pieces.into_iter().for_each(|(_, piece)| root.take(piece));
    Ok((root, plan))
}

fn attach(
    root: BorrowedFd<'_>,
    piece: BorrowedFd<'_>,
    step: &Step,
    name: &Name,
    kernel: Kernel,
) -> Result<(), Failure> {
    // A name in the root itself: nothing can lead elsewhere.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(piece, c"", root, &*step.at, flags).map_err(|errno| {
        if lookup::kind_at(root, &step.at).is_ok_and(|kind| kind != Some(FileType::Directory)) {
            return plan::incomplete(name, &format!("{} of the deployment", step.place())).into();
        }
        not_attached(step, errno, kernel)
    })
}

/// Mounts a directory of the physical root, which is in the new root by now, on itself, with the access of the step. It may
/// be a link, which is followed below the physical root.
fn cover(physical: BorrowedFd<'_>, step: &Step, disk: Disk<'_>, kernel: Kernel) -> Result<Detached, Failure> {
    let place = material::open(physical, step.path_in_place(), OFlags::empty(), step, disk)?;
    let cover = || {
        let piece = clone::tree(&place)?;
        material::set_access(&piece, step)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&piece, c"", &place, c"", flags)?;
        Ok(piece)
    };
    let piece = cover().map_err(|errno| not_attached(step, errno, kernel))?;
    Ok(Detached::from(piece).with(place))
}

fn not_attached(step: &Step, errno: Errno, kernel: Kernel) -> Failure {
    Failure::of(errno, &[Ability::DetachedTree], kernel, |errno| {
        Error::errno(Class::Mount, format!("mount {} of the new root", step.place()), errno)
    })
}

fn nothing() -> Error {
    Error::found(Class::Mount, "assemble the new root", "a mount has no material")
}

/// A mount namespace of our own, to be left again.
#[derive(Debug)]
struct Scratch {
    /// The namespace we came from.
    namespace: OwnedFd,
    /// Its root directory as we saw it; `setns` would give us the namespace's.
    root: OwnedFd,
    /// The working directory.
    directory: OwnedFd,
}

impl Scratch {
    /// Enters a new namespace.
    fn enter() -> Result<Scratch> {
        let open = |path: &CStr, flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let what = "open the mount namespace /proc/self/ns/mnt";
        let namespace = open(c"/proc/self/ns/mnt", OFlags::RDONLY).map_err(|errno| fail(what, errno))?;
        let root = open(c"/", OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| fail("open /", errno))?;
        let directory =
            open(c".", OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| fail("open .", errno))?;
        syscall::unshare_mounts()
            .map_err(|errno| fail("make a mount namespace to assemble the new root in", errno))?;
        Ok(Scratch { namespace, root, directory })
    }

    /// Makes the namespace ready for what is made from these: what is a layer is attached in it.
    fn prepare<'a>(&self, mut materials: impl Iterator<Item = &'a Material>) -> Result<()> {
        self.make_private()?;
        materials.try_for_each(|material| material.layers().try_for_each(|layer| self.attach(layer)))
    }

    /// The copies of the mounts outside are in the same peer groups as these; without this they would
    /// see what we mount.
    fn make_private(&self) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let private = Attributes { propagation: Some(Propagation::Private), readonly: None };
        rustix::fs::openat(CWD, c"/", flags, Mode::empty())
            .and_then(|root| syscall::mount_setattr(&root, true, private))
            .map_err(|errno| fail("make the mounts of our own namespace private", errno))
    }

    /// Attaches a detached mount, so that it can be a layer or hold others: on top of all others on
    /// `/`, where nobody looks. The new root comes last, so that nothing is mounted on it.
    fn attach(&self, mount: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::move_mount(mount, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| fail("attach a part of the new root in our own namespace", errno))
    }

    /// Goes back. If that fails nothing can be put right any more, so it is tried twice.
    fn leave(self) -> Result<()> {
        self.go_home().or_else(|_| self.go_home()).map_err(|errno| {
            let operation = "return to the mount namespace of the caller";
            Error::errno(Class::Undo, operation, errno).hint("reboot: what is in /run may not be as it was")
        })
    }

    fn go_home(&self) -> rustix::io::Result<()> {
        rustix::thread::move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(c".")?;
        rustix::process::fchdir(&self.directory)
    }
}

fn fail(operation: &str, errno: Errno) -> Error {
    Error::errno(Class::Mount, operation, errno)
}
