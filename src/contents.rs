//! What only the contents of the new root tell. In a verified image they may be looked at only after
//! it was verified, so plans ask questions, and these are the answers.

use crate::error::{Class, Error, Result};
use crate::generator::{self, Etc, Generator, or_log};
use crate::lookup;
use alloc::vec::Vec;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::FileType;

/// What is to be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Which of these directories are there?
    pub directories: Vec<&'static str>,
    /// Does this hold?
    pub conditions: Vec<Condition>,
    /// `/etc` is going to be transient: the new system sees what is in `usr/etc`.
    pub transient_etc: bool,
    /// The generator, if there is one, finds something to do.
    pub generator_acts: bool,
}

/// A question about the contents of the new root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is a `/var`, and nobody mounts it after the switch to the new root.
    NobodyElseMountsVar {
        /// The generator, if there is one, finds the stateroot.
        generator_finds_stateroot: bool,
    },
    /// There is a `/boot`, and nobody mounts it after the switch to the new root.
    NobodyElseMountsBoot {
        /// The generator, if there is one, finds that a deployment was asked for.
        generator_finds_target: bool,
    },
}

impl Condition {
    /// The answer.
    pub fn holds(&self, contents: &Contents) -> bool {
        contents.has(self.directory()) && !self.is_mounted_later(contents)
    }

    fn directory(&self) -> &'static str {
        match self {
            Condition::NobodyElseMountsVar { .. } => "var",
            Condition::NobodyElseMountsBoot { .. } => "boot",
        }
    }

    fn is_mounted_later(&self, contents: &Contents) -> bool {
        let Contents { generator, fstab_var, fstab_boot, .. } = contents;
        match self {
            Condition::NobodyElseMountsVar { generator_finds_stateroot } => {
                *fstab_var || (generator.runs && *generator_finds_stateroot)
            }
            Condition::NobodyElseMountsBoot { generator_finds_target } => {
                *fstab_boot || (generator.recent && *generator_finds_target)
            }
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Which of the directories are there.
    pub directories: Vec<&'static str>,
    /// What the new system mounts by itself.
    pub generator: Generator,
    /// Its init is systemd, as far as that was to be found out.
    pub systemd_is_init: bool,
    /// `/etc/fstab` mounts `/var`.
    pub fstab_var: bool,
    /// `/etc/fstab` mounts `/boot`.
    pub fstab_boot: bool,
}

impl Contents {
    /// Whether the new root has this directory, which was asked for.
    pub fn has(&self, directory: &str) -> bool {
        self.directories.contains(&directory)
    }

    /// Looks into the new root and, for a persistent `/etc`, into the deployment's directory, where
    /// that is. What was opened for that goes to `open`: as long as it is, the new root is in use.
    ///
    /// # Errors
    /// [`Class::Incomplete`] when a directory cannot be looked for; about who mounts what, what cannot be
    /// read is logged and taken as not there.
    pub fn read(
        root: BorrowedFd<'_>,
        deployment: BorrowedFd<'_>,
        questions: &Questions,
        open: &mut Vec<OwnedFd>,
    ) -> Result<Contents> {
        let mut contents = Contents::default();
        for path in &questions.directories {
            contents.look_for(root, path)?;
        }
        let (of, path) = if questions.transient_etc { (root, "usr/etc") } else { (deployment, "etc") };
        let etc = Etc { of, path };
        let fstab = or_log(b"etc/fstab", etc.read("fstab")).flatten().unwrap_or_default();
        contents.fstab_var = fstab_mounts(&fstab, b"/var");
        contents.fstab_boot = fstab_mounts(&fstab, b"/boot");
        let boot = |condition: &Condition| matches!(condition, Condition::NobodyElseMountsBoot { .. });
        let boot = questions.conditions.iter().any(boot) && !contents.fstab_boot;
        contents.generator = Generator::of(root, &etc, boot, open);
        let Generator { systemd, .. } = contents.generator;
        contents.systemd_is_init = systemd
            && !contents.generator.keeps_mounts(questions.generator_acts)
            && generator::is_init(root, open);
        for condition in &questions.conditions {
            if !condition.is_mounted_later(&contents) {
                contents.look_for(root, condition.directory())?;
            }
        }
        Ok(contents)
    }

    fn look_for(&mut self, root: BorrowedFd<'_>, path: &'static str) -> Result<()> {
        let kind = lookup::kind_at(root, path.as_bytes()).map_err(|errno| {
            Error::errno(Class::Incomplete, format!("look for /{path} in the deployment"), errno)
                .hint("choose another boot entry, and check the file system")
        })?;
        if kind == Some(FileType::Directory) {
            self.directories.push(path);
        }
        Ok(())
    }
}

/// Whether an fstab has an entry for `mount_point` (`fstab(5)`: the second field; trailing slashes
/// do not matter).
fn fstab_mounts(fstab: &[u8], mount_point: &[u8]) -> bool {
    fstab.split(|&byte| byte == b'\n').any(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (device, place) = (fields.next(), fields.next());
        let place = place
            .map(|place| &place[..place.iter().rposition(|&byte| byte != b'/').map_or(0, |end| end + 1)]);
        device.is_some_and(|device| !device.starts_with(b"#")) && place == Some(mount_point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_entries() {
        let fstab = b"# /dev/x /var ext4\nUUID=1 / ext4 rw 0 1\n\tLABEL=v\t/var/ ext4\n";
        assert!(fstab_mounts(fstab, b"/var"));
        assert!(!fstab_mounts(fstab, b"/boot"));
        assert!(!fstab_mounts(b"#LABEL=v /var ext4\nLABEL=v /var/lib ext4\nLABEL=v\n", b"/var"));
    }
}
