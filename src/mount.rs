//! apply: the only code that mounts.
//!
//! `clone`, `erofs`, `overlay` and `memory` make the pieces, `layers` the directories for what is
//! transient, `assemble` joins the pieces to a tree that nobody else can see, and `swap` puts the
//! tree in place of the physical root. For process 1, `early` mounts what is there before all that, and
//! `switch` makes the new root the root directory.

mod assemble;
mod clone;
mod context;
mod detached;
pub mod early;
mod erofs;
mod layers;
mod material;
mod memory;
mod overlay;
mod recover;
mod swap;
pub mod switch;

use crate::clock::Instant;
use crate::deployment::Deployment;
use crate::error::{Class, Error, Result};
use crate::image::Image;
use crate::kernel::{Ability, Kernel};
use crate::plan::Plan;
use crate::run::RunFiles;
use crate::run::unfinished::MountId;
use crate::sysroot::Sysroot;
use layers::Layers;
pub use recover::recover;
use rustix::fd::AsFd;
use rustix::io::Errno;

/// Where the sources of a plan are.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// The physical root.
    pub sysroot: &'a Sysroot,
    /// The deployment.
    pub deployment: &'a Deployment,
    /// Its image, if that is to be the root.
    pub image: Option<&'a Image>,
}

/// Carries the plan out: afterwards the new root is where the physical root was mounted. Returns the
/// plan as it was carried out, settled with the contents of the new root.
///
/// # Errors
/// [`Class::Incomplete`],
/// [`Class::Unsupported`], [`Class::Mount`]
/// or [`Class::Run`]: everything is as it was before.
/// [`Class::Undo`]: it is not.
pub fn apply(plan: Plan, disk: Disk<'_>, mut kernel: Kernel) -> Result<Plan> {
    let mut files = RunFiles::new(&disk.sysroot.path, &plan.traces)?;
    let layers = Layers::make(&plan, &mut files)?;
    match put_in_place(&plan, disk, &mut files, &layers, &mut kernel) {
        Ok(plan) => {
            files.keep();
            layers.keep();
            Ok(plan)
        }
        // Nothing can be taken back where we are. The next run can.
        Err(error) if error.class() == Class::Undo => {
            files.leave_unfinished();
            layers.keep();
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn put_in_place(
    plan: &Plan,
    disk: Disk<'_>,
    files: &mut RunFiles,
    layers: &Layers,
    kernel: &mut Kernel,
) -> Result<Plan> {
    let (tree, plan) = assemble::assemble(plan, disk, layers, kernel)?;
    let root = MountId::of(&tree);
    let root = root.map_err(|errno| Error::errno(Class::Mount, "inspect the new root", errno))?;
    files.keep_mounts(&plan.traces.kept)?;
    files.write_booted(&plan.booted.serialise(layers.transient_etc()), root, plan.shared())?;
    let start = Instant::now();
    swap::swap(&tree, root, disk.sysroot, *kernel)?;
    log::debug!("the new root was put in place in {} us", start.elapsed().as_micros());
    swap::settle_propagation(tree.as_fd(), plan.shared());
    tree.leave_open();
    Ok(plan)
}

/// Why a mount was not made.
#[derive(Debug)]
enum Failure {
    /// The kernel refused as one does that has not this ability: there is an older way.
    Lacks(Ability, Error),
    /// There is none.
    Refused(Error),
}

impl Failure {
    /// The kernel refused with `errno` what uses these abilities. The first that it is not known to
    /// lack yet is the one it lacks, if that is how older kernels refuse; so every failure of this
    /// kind leaves one ability fewer, and trying again comes to an end.
    fn of(errno: Errno, uses: &[Ability], kernel: Kernel, error: impl FnOnce(Errno) -> Error) -> Failure {
        match uses.iter().find(|ability| kernel.has(**ability)) {
            Some(ability) if Ability::refused_with(errno) => Failure::Lacks(*ability, error(errno)),
            _ => Failure::Refused(error(errno)),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Refused(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses what uses these abilities until there is no older way; how often it was tried.
    fn tries(errno: Errno, uses: &[Ability]) -> usize {
        let mut kernel = Kernel::NEWEST;
        for tries in 1.. {
            match Failure::of(errno, uses, kernel, |errno| Error::errno(Class::Mount, "mount", errno)) {
                Failure::Lacks(ability, _) => kernel.forget(ability),
                Failure::Refused(_) => return tries,
            }
        }
        unreachable!("every number was tried")
    }

    #[test]
    fn trying_older_ways_comes_to_an_end() {
        let uses = [Ability::DetachedTree, Ability::AppendedLayers];
        assert_eq!(tries(Errno::INVAL, &uses), 3);
        assert_eq!(tries(Errno::INVAL, &[]), 1);
        // No kernel says so because it is old.
        assert_eq!(tries(Errno::IO, &uses), 1);
    }
}
