//! Policy: which mounts make the new root, and why. No system call happens here.

pub mod print;

use crate::booted::Booted;
use crate::config::{Composefs, Config, MountHere, Root};
use crate::deployment::{Facts, Name};
use crate::error::{Class, Error, Result};
use crate::generator::{Contents, Questions};

/// The mounts that make the new root, in order, and what is announced of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The deployment that becomes the root.
    pub name: Name,
    /// The mounts; the first is the root itself.
    pub steps: Vec<Step>,
    /// The contents of `/run/ostree-booted`.
    pub booted: Booted,
    /// What a person should know although the boot goes on.
    pub warnings: Vec<&'static str>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where, in the new root, without a leading slash.
    pub at: Vec<u8>,
    /// The directory that is mounted there.
    pub source: Source,
    /// Whether it can be written to.
    pub access: Access,
    /// Whether mounts below it propagate.
    pub propagation: Propagation,
    /// Left out unless this holds of the new root's contents.
    pub only_if: Option<Condition>,
    /// Why the mount exists, for people.
    pub why: &'static str,
}

/// A directory on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the deployment, without a leading slash.
    Deployment(&'static str),
    /// In the physical root, without a leading slash.
    Physical(Vec<u8>),
    /// In the deployment, covered by a writable layer that lasts until reboot.
    TransientOver(&'static str),
}

/// The write access a bind mount gives; other options are those of the mount it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// That of the mount it is made from.
    Inherited,
    /// Read-only.
    ReadOnly,
    /// Writable, as far as the file system is.
    Writable,
}

/// How mounts below propagate, `mount_namespaces(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Among the copies of this mount.
    Shared,
}

/// A question about the contents of the new root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody mounts `/var` after the switch to the new root.
    NobodyElseMountsVar {
        /// The generator, if there is one, finds the stateroot.
        generator_finds_stateroot: bool,
    },
    /// Nobody mounts `/boot` after the switch to the new root.
    NobodyElseMountsBoot {
        /// The generator, if there is one, finds that a deployment was asked for.
        generator_finds_target: bool,
    },
}

impl Condition {
    /// The answer.
    pub fn holds(&self, contents: &Contents) -> bool {
        match self {
            Condition::NobodyElseMountsVar { generator_finds_stateroot } => {
                let generated = contents.generator && *generator_finds_stateroot;
                !contents.fstab_var && !generated
            }
            Condition::NobodyElseMountsBoot { generator_finds_target } => {
                let generated = contents.generator_mounts_boot && *generator_finds_target;
                !contents.fstab_boot && !generated
            }
        }
    }
}

impl Plan {
    /// Decides the conditions.
    ///
    /// # Errors
    /// [`Class::Incomplete`] when a directory is missing that one of the mounts needs.
    pub fn settle(mut self, contents: &Contents, facts: &Facts) -> Result<Plan> {
        self.steps.retain_mut(|step| step.only_if.take().is_none_or(|condition| condition.holds(contents)));
        match self.steps.iter().find_map(|step| missing(step, facts)) {
            None => Ok(self),
            Some(directory) => Err(incomplete(&self.name, &directory)),
        }
    }

    /// `/etc` is to be transient.
    pub fn transient_etc(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.source, Source::TransientOver(_)))
    }

    /// What must be known of the new root to decide the conditions.
    pub fn questions(&self) -> Questions {
        let asks = |question: fn(&Condition) -> bool| {
            self.steps.iter().filter_map(|step| step.only_if.as_ref()).any(question)
        };
        Questions {
            var: asks(|condition| matches!(condition, Condition::NobodyElseMountsVar { .. })),
            boot: asks(|condition| matches!(condition, Condition::NobodyElseMountsBoot { .. })),
            transient_etc: self.transient_etc(),
        }
    }
}

/// Makes the plan.
///
/// # Errors
/// [`Class::Unsupported`] for a configuration this version does not offer; [`Class::Incomplete`]
/// when a directory is missing that every deployment has.
pub fn plan(config: &Config, facts: &Facts) -> Result<Plan> {
    refuse_unsupported(config, facts)?;
    if !facts.missing.is_empty() {
        return Err(incomplete(&facts.name, &format!("/{} of the deployment", facts.missing.join(", /"))));
    }
    let readonly = config.sysroot_readonly.unwrap_or(false) || facts.legacy_readonly;
    let (var, boot) = (mounts_var(config, facts), mounts_boot(config, facts));
    let step = |at: &[u8], source, access, why| Step {
        at: at.to_vec(),
        source,
        access,
        propagation: Propagation::Private,
        only_if: None,
        why,
    };
    let physical = |path: &[u8]| Source::Physical(path.to_vec());
    let mut steps = vec![step(b"", Source::Deployment(""), Access::Inherited, "the deployment is the root")];
    if readonly && config.etc_transient {
        steps.push(step(
            b"etc",
            Source::TransientOver("usr/etc"),
            Access::Inherited,
            "changes last until reboot",
        ));
    } else if readonly {
        steps.push(step(
            b"etc",
            Source::Deployment("etc"),
            Access::Writable,
            "stays writable on a read-only root",
        ));
    }
    steps.push(step(
        b"usr",
        Source::Deployment("usr"),
        Access::ReadOnly,
        "the operating system is not modified in place",
    ));
    let access = if readonly { Access::ReadOnly } else { Access::Inherited };
    steps.push(step(b"sysroot", physical(b""), access, "the physical root, for ostree"));
    if readonly {
        let at = [b"sysroot/", &facts.name.var_path()[..]].concat();
        let source = physical(&facts.name.var_path());
        steps.push(step(&at, source, Access::Writable, "stays writable on a read-only physical root"));
    }
    if let Some(Here { only_if, why }) = var {
        let access = if readonly { Access::Writable } else { Access::Inherited };
        let var = step(b"var", physical(&facts.name.var_path()), access, why);
        // Shared, so that mounts below /var reach the copies of it and not the stateroot:
        // https://github.com/ostreedev/ostree/issues/2086
        steps.push(Step { propagation: Propagation::Shared, only_if, ..var });
    }
    if let Some(Here { only_if, why }) = boot {
        steps.push(Step { only_if, ..step(b"boot", physical(b"boot"), Access::Inherited, why) });
    }

    let booted = Booted { device: facts.device, inode: facts.inode, sysroot_readonly: readonly };
    let mut warnings = Vec::new();
    if config.etc_transient && !readonly {
        warnings.push("[etc] transient=true has no effect without composefs and [sysroot] readonly=true");
    }
    if facts.hotfix {
        warnings.push("the deployment has a hotfix layer (.usr-ovl-work): /usr is mounted without it");
    }
    Ok(Plan { name: facts.name.clone(), steps, booted, warnings })
}

/// A mount that others may make too.
struct Here {
    only_if: Option<Condition>,
    why: &'static str,
}

fn mounts_var(config: &Config, facts: &Facts) -> Option<Here> {
    match config.var {
        MountHere::No => None,
        MountHere::Yes => Some(Here { only_if: None, why: "[var] mount=true" }),
        MountHere::Auto if facts.mount_var_marker => Some(Here { only_if: None, why: MARKER }),
        MountHere::Auto if !facts.has_var => None,
        MountHere::Auto => {
            let generator_finds_stateroot = facts.generator_finds_stateroot;
            let condition = Condition::NobodyElseMountsVar { generator_finds_stateroot };
            Some(Here { only_if: Some(condition), why: NOBODY_ELSE })
        }
    }
}

fn mounts_boot(config: &Config, facts: &Facts) -> Option<Here> {
    match config.boot {
        MountHere::No => None,
        MountHere::Yes => Some(Here { only_if: None, why: "[boot] mount=true" }),
        MountHere::Auto if !facts.boot_on_physical_root || !facts.has_boot => None,
        // The marker silences the generator, so nobody else will.
        MountHere::Auto if facts.mount_var_marker => Some(Here { only_if: None, why: MARKER }),
        MountHere::Auto => {
            let generator_finds_target = config.generator.target;
            let condition = Condition::NobodyElseMountsBoot { generator_finds_target };
            Some(Here { only_if: Some(condition), why: NOBODY_ELSE })
        }
    }
}

const MARKER: &str = "/run/ostree/initramfs-mount-var exists";
const NOBODY_ELSE: &str = "nobody mounts it later";

fn refuse_unsupported(config: &Config, facts: &Facts) -> Result<()> {
    let refuse = |asked: &str, why: &str, hint: &str| {
        Err(Error::found(Class::Unsupported, format!("obey {asked}"), why).hint(hint))
    };
    let composefs = match config.composefs {
        Composefs::Off => false,
        Composefs::Maybe => facts.composefs_image,
        Composefs::On | Composefs::Verity | Composefs::Signed => true,
    };
    if composefs {
        let hint = "boot with ostree.prepare-root.composefs=no, if the deployment is one that can do without";
        return refuse("the composefs setting", "this version has no composefs", hint);
    }
    if config.root != Root::Persistent {
        let hint =
            "take [root] transient and transient-ro out of prepare-root.conf and rebuild the initramfs";
        return refuse("[root] transient", "this version has no transient root", hint);
    }
    Ok(())
}

/// The directory that the step needs and the disk has not.
fn missing(step: &Step, facts: &Facts) -> Option<String> {
    let var = facts.name.var_path();
    if step.source == Source::Physical(var.clone()) && !facts.has_stateroot_var {
        return Some(format!("/{} of the physical root", var.escape_ascii()));
    }
    let there = match (&*step.at, &step.source) {
        (b"var", _) => facts.has_var,
        (b"boot", _) => facts.has_boot,
        (b"etc", Source::TransientOver(_)) => facts.has_usr_etc,
        _ => true,
    };
    let needed =
        if let Source::TransientOver(lower) = step.source { format!("/{lower}") } else { step.place() };
    (!there).then(|| format!("{needed} of the deployment"))
}

fn incomplete(name: &Name, directory: &str) -> Error {
    let found = format!("{directory} is missing or no directory");
    Error::found(Class::Incomplete, format!("prepare {name}"), found).hint(
        "the deployment was not written completely: choose another boot entry and deploy this one again",
    )
}

#[cfg(test)]
mod tests;
