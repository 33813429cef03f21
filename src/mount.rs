//! apply: the only code that mounts.
//!
//! [`clone`](mod@clone) and [`overlay`] make the pieces, [`assemble`] joins them to a tree that nobody else can see,
//! [`swap`] puts the tree in place of the physical root, and [`syscall`] has the calls that rustix lacks.

mod assemble;
mod clone;
mod overlay;
mod swap;
mod syscall;

use crate::deployment::Deployment;
use crate::error::Result;
use crate::plan::Plan;
use crate::run::{RunFiles, TransientEtc};
use crate::sysroot::Sysroot;

/// Kernel features that may be used. Whether the kernel has them is found out by using them; a
/// test (or a person who suspects one of them) can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Mounting inside a tree that is not attached anywhere: Linux 6.15.
    pub detached_tree: bool,
    /// `MOVE_MOUNT_BENEATH`: Linux 6.5. Until 2026 (`can_move_mount_beneath` in `fs/namespace.c`) it is refused
    /// right below the root of the mount namespace, which is where an initramfs has its `/sysroot`.
    pub beneath: bool,
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel { detached_tree: true, beneath: true }
    }
}

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
