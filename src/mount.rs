//! apply: the only code that mounts.
//!
//! `clone` and `overlay` make the pieces, `assemble` joins them to a tree that nobody else can see,
//! `swap` puts the tree in place of the physical root, and `syscall` has the calls that rustix
//! lacks.

mod assemble;
mod clone;
mod overlay;
mod swap;
mod syscall;

use crate::deployment::Deployment;
use crate::error::Result;
use crate::options::Kernel;
use crate::plan::Plan;
use crate::run::{RunFiles, TransientEtc};
use crate::sysroot::Sysroot;

/// Where the sources of a plan are.
struct Disk<'a> {
    sysroot: &'a Sysroot,
    deployment: &'a Deployment,
    transient_etc: Option<&'a TransientEtc>,
}

/// Carries the plan out: afterwards the new root is where the physical root was mounted.
///
/// # Errors
/// [`Class::Incomplete`](crate::error::Class::Incomplete), [`Class::Mount`](crate::error::Class::Mount)
/// or [`Class::Run`](crate::error::Class::Run): everything is as it was before.
/// [`Class::Undo`](crate::error::Class::Undo): it is not.
pub fn apply(plan: &Plan, sysroot: &Sysroot, deployment: &Deployment, kernel: Kernel) -> Result<()> {
    let mut files = RunFiles::new()?;
    let transient_etc = if plan.transient_etc() { Some(files.transient_etc()?) } else { None };
    let disk = Disk { sysroot, deployment, transient_etc: transient_etc.as_ref() };
    let tree = assemble::assemble(plan, &disk, kernel)?;
    files.write_booted(&plan.booted, transient_etc.as_ref())?;
    swap::swap(&tree, sysroot, kernel)?;
    files.keep();
    swap::settle_propagation(&tree, plan);
    Ok(())
}
