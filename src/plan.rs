//! Policy: which mounts make the new root, and why. No system call happens here.

pub mod kept;
pub mod print;

use crate::booted::Booted;
use crate::config::{Config, Enabled, MountHere, Transient};
use crate::contents::{Condition, Contents, Questions};
use crate::deployment::Facts;
use crate::error::{Class, Error, Result};
use crate::name::Name;
use alloc::string::String;
use alloc::vec::Vec;
use kept::Kept;

/// The mounts that make the new root, in order, and what is announced of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The deployment that becomes the root.
    pub name: Name,
    /// The mounts; the first is the root itself.
    pub steps: Vec<Step>,
    /// The contents of `/run/ostree-booted`.
    pub booted: Booted,
    /// What else is left under `/run`.
    pub traces: Traces,
    /// What a person should know although the boot goes on.
    pub warnings: Vec<&'static str>,
    /// The contents of the new root have not been looked at yet.
    pub unsettled: bool,
    /// The new system's generator, if there is one, finds something to do.
    generator_acts: bool,
}

/// What is left under `/run`, besides `/run/ostree-booted`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// libostree's mount point for the image, which stays behind empty.
    pub image_mount_point: bool,
    /// The device of the physical root, for `/run/systemd/volatile-root`: systemd looks there for
    /// the device of an overlay.
    pub volatile_root: Option<u64>,
    /// A drop-in for `systemd-remount-fs.service`.
    pub remount_fs_dropin: bool,
    /// Why this deployment is booted and not the one of the boot entry, for
    /// `/run/ostree/prepare-root.json`.
    pub instead: Option<String>,
    /// What keeps our mounts over a soft-reboot, where nobody else is known to. That is known when the plan is settled.
    pub kept: Vec<Kept>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where, in the new root, without a leading slash.
    pub at: Vec<u8>,
    /// What is mounted there.
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

impl Step {
    /// Whether the physical root below the new root's `/sysroot` has that there already: only the access is another.
    pub fn is_in_place(&self) -> bool {
        self.path_in_place() != b""
    }

    /// Where it has that.
    pub fn path_in_place(&self) -> &[u8] {
        match (&self.source, self.at.strip_prefix(b"sysroot/")) {
            (Source::Physical(path), Some(at)) if path == at => path,
            _ => b"",
        }
    }
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory in the deployment, without a leading slash.
    Deployment(&'static str),
    /// A directory in the physical root, without a leading slash.
    Physical(Vec<u8>),
    /// The deployment's composefs image, which takes the contents of files from the repository.
    Image {
        /// The files must have the fs-verity digests that the image has of them.
        verity: bool,
        /// Covered by a writable layer.
        layer: Option<Layer>,
    },
    /// A directory of the new root, without a leading slash, covered by a layer.
    Covered(&'static str, Layer),
    /// Memory, filled with what the new root has for a new `/var`.
    Memory(Transient),
}

/// An upper layer of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// In memory: gone at reboot.
    Transient(Transient),
    /// In the deployment, left there by `ostree admin unlock --hotfix`. If the step is read-only, it
    /// is an ordinary lower layer.
    Hotfix,
}

/// The write access a mount gives; other options of a bind mount are those of the mount it is made
/// from.
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

/// Directories that every deployment has. Whether it has those where something is mounted, such as `/sysroot`, tells the
/// mount.
const NEEDED: [&str; 2] = ["usr", "etc"];

impl Plan {
    /// Decides the conditions, and whether the new root has what the mounts need.
    ///
    /// # Errors
    /// [`Class::Incomplete`] when a directory is missing that one of the mounts needs.
    pub fn settle(mut self, contents: &Contents) -> Result<Plan> {
        self.steps.retain_mut(|step| step.only_if.take().is_none_or(|condition| condition.holds(contents)));
        self.unsettled = false;
        if contents.systemd_is_init && !contents.generator.keeps_mounts(self.generator_acts) {
            self.traces.kept = kept::kept(&self.steps);
        }
        let missing: Vec<_> =
            self.directories().into_iter().filter(|directory| !contents.has(directory)).collect();
        if !missing.is_empty() {
            return Err(incomplete(&self.name, &format!("/{} of the deployment", missing.join(", /"))));
        }
        Ok(self)
    }

    /// The directories that the new root must have.
    fn directories(&self) -> Vec<&'static str> {
        let is_mounted = |directory: &&str| self.steps.iter().any(|step| step.at == directory.as_bytes());
        let mut directories: Vec<_> = NEEDED.into_iter().filter(|directory| !is_mounted(directory)).collect();
        for step in self.steps.iter().filter(|step| step.only_if.is_none()) {
            directories.extend(match (&*step.at, &step.source) {
                (b"etc", Source::Covered(lower, _)) => Some(*lower),
                _ => None,
            });
        }
        directories
    }

    /// The transient layer over `/` (`at` is empty) or `/etc`.
    pub fn transient(&self, at: &[u8]) -> Option<&Transient> {
        match &self.steps.iter().find(|step| step.at == at)?.source {
            Source::Image { layer: Some(Layer::Transient(transient)), .. }
            | Source::Covered(_, Layer::Transient(transient)) => Some(transient),
            _ => None,
        }
    }

    /// Where mounts are to be shared.
    pub fn shared(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().filter(|step| step.propagation == Propagation::Shared).map(|step| &*step.at)
    }

    /// What must be known of the new root to settle the plan.
    pub fn questions(&self) -> Questions {
        Questions {
            directories: self.directories(),
            conditions: self.steps.iter().filter_map(|step| step.only_if).collect(),
            transient_etc: self.transient(b"etc").is_some(),
            generator_acts: self.generator_acts,
        }
    }
}

/// Makes the plan. `image`: the deployment has a composefs image, which is to be the root.
///
/// # Errors
/// [`Class::Config`] for a transient root without composefs.
pub fn plan(config: &Config, facts: &Facts, image: bool) -> Result<Plan> {
    if config.root_transient.is_some() && !image {
        return Err(config.transient_root_without_composefs());
    }
    let readonly =
        config.sysroot_readonly.unwrap_or(config.composefs.enabled == Enabled::On) || facts.legacy_readonly;
    let signed = image && config.composefs.signed;
    let hotfix = facts.hotfix && !signed;
    let mut warnings = Vec::new();
    if facts.hotfix && signed {
        warnings.push("the deployment has a hotfix layer for /usr, and nobody signed that: left out");
    }
    if hotfix && facts.physical_readonly {
        warnings.push("the physical root is read-only: the hotfix layer of /usr is mounted read-only");
    }
    if config.etc_transient.is_some() && !readonly && !image {
        warnings.push("[etc] transient=true has no effect without composefs and [sysroot] readonly=true");
    }

    let physical = |path: &[u8]| Source::Physical(path.to_vec());
    let mut steps = vec![root(config, image)];
    if readonly || image {
        steps.push(etc(config));
    }
    if hotfix {
        let access = if facts.physical_readonly { Access::ReadOnly } else { Access::Inherited };
        let source = Source::Covered("usr", Layer::Hotfix);
        steps.push(step(b"usr", source, access, "the deployment has a hotfix layer (.usr-ovl-upper)"));
    } else if !image {
        let why = "the operating system is not modified in place";
        steps.push(step(b"usr", Source::Deployment("usr"), Access::ReadOnly, why));
    }
    let access = if readonly { Access::ReadOnly } else { Access::Inherited };
    steps.push(step(b"sysroot", physical(b""), access, "the physical root, for ostree"));
    if readonly && config.var_transient.is_none() {
        let at = [b"sysroot/", &facts.name.var_path()[..]].concat();
        let source = physical(&facts.name.var_path());
        steps.push(step(&at, source, Access::Writable, "stays writable on a read-only physical root"));
    }
    steps.extend(var(config, facts, readonly));
    steps.extend(boot(config, facts));

    let composefs = image.then_some(config.composefs);
    Ok(Plan {
        name: facts.name.clone(),
        steps,
        booted: Booted {
            device: facts.device,
            inode: facts.inode,
            root_transient: config.root_transient.is_some(),
            root_transient_readonly: config.root_transient_readonly,
            composefs_verity: composefs.map(|composefs| composefs.verity),
            signed_by: signed.then(|| config.keypath.clone()),
            sysroot_readonly: readonly,
        },
        traces: Traces {
            image_mount_point: config.composefs.enabled != Enabled::Off,
            volatile_root: facts.backing_device.filter(|_| image && config.volatile_root),
            remount_fs_dropin: image && config.remount_fs_dropin,
            instead: None,
            kept: Vec::new(),
        },
        warnings,
        unsettled: true,
        // It reads the command line itself, and the marker silences it.
        generator_acts: config.generator.target && !facts.mount_var_marker,
    })
}

fn step(at: &[u8], source: Source, access: Access, why: &'static str) -> Step {
    Step { at: at.to_vec(), source, access, propagation: Propagation::Private, only_if: None, why }
}

fn root(config: &Config, image: bool) -> Step {
    if !image {
        return step(b"", Source::Deployment(""), Access::Inherited, "the deployment is the root");
    }
    let layer = config.root_transient.clone().map(Layer::Transient);
    let (access, why) = match layer {
        None => (Access::ReadOnly, "the deployment's image is the root"),
        Some(_) if config.root_transient_readonly => (Access::ReadOnly, "[root] transient-ro=true"),
        Some(_) => (Access::Inherited, "[root] transient=true"),
    };
    step(b"", Source::Image { verity: config.composefs.verity, layer }, access, why)
}

fn etc(config: &Config) -> Step {
    match &config.etc_transient {
        Some(transient) => {
            let source = Source::Covered("usr/etc", Layer::Transient(transient.clone()));
            step(b"etc", source, Access::Inherited, "changes last until reboot")
        }
        None => {
            step(b"etc", Source::Deployment("etc"), Access::Writable, "stays writable on a read-only root")
        }
    }
}

fn var(config: &Config, facts: &Facts, readonly: bool) -> Option<Step> {
    if let Some(transient) = &config.var_transient {
        let source = Source::Memory(transient.clone());
        return Some(step(b"var", source, Access::Inherited, "[var] transient=true"));
    }
    let Here { only_if, why } = mounts_var(config, facts)?;
    let access = if readonly { Access::Writable } else { Access::Inherited };
    let var = step(b"var", Source::Physical(facts.name.var_path()), access, why);
    // Shared, so that mounts below /var reach the copies of it and not the stateroot:
    // https://github.com/ostreedev/ostree/issues/2086
    Some(Step { propagation: Propagation::Shared, only_if, ..var })
}

fn boot(config: &Config, facts: &Facts) -> Option<Step> {
    let Here { only_if, why } = mounts_boot(config, facts)?;
    let boot = step(b"boot", Source::Physical(b"boot".to_vec()), Access::Inherited, why);
    Some(Step { only_if, ..boot })
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
        MountHere::Auto if !facts.boot_on_physical_root => None,
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

/// A directory is missing, or something else is in its place; `directory`: "/usr of the deployment".
pub fn incomplete(name: &Name, directory: &str) -> Error {
    let found = format!("{directory} is missing or no directory");
    Error::found(Class::Incomplete, format!("prepare {name}"), found).hint(
        "the deployment was not written completely: choose another boot entry and deploy this one again",
    )
}

#[cfg(test)]
mod tests;
