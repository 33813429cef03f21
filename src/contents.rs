//! What only the contents of the new root tell. In a verified image they may be looked at only after
//! it was verified, so plans ask questions, and these are the answers.

use crate::error::{Class, Error, Result};
use crate::generator::{Generator, or_log};
use crate::lookup;
use alloc::vec::Vec;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags};

/// What is to be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Which of these directories are there?
    pub directories: Vec<&'static str>,
    /// Who mounts `/var`?
    pub var: bool,
    /// Who mounts `/boot`?
    pub boot: bool,
    /// `/etc` is going to be transient: the new system sees what is in `usr/etc`.
    pub transient_etc: bool,
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Which of the directories are there.
    pub directories: Vec<&'static str>,
    /// What the new system mounts by itself.
    pub generator: Generator,
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
    /// that is.
    ///
    /// # Errors
    /// [`Class::Incomplete`] when a directory cannot be looked for; about who mounts what, what cannot be
    /// read is logged and taken as not there.
    pub fn read(root: BorrowedFd<'_>, deployment: BorrowedFd<'_>, questions: &Questions) -> Result<Contents> {
        let mut contents = Contents::default();
        for path in &questions.directories {
            let kind = lookup::kind_beneath(root, path.as_bytes(), OFlags::NOFOLLOW).map_err(|errno| {
                Error::errno(Class::Incomplete, format!("look for /{path} in the deployment"), errno)
                    .hint("choose another boot entry, and check the file system")
            })?;
            if kind == Some(FileType::Directory) {
                contents.directories.push(path);
            }
        }
        if !questions.var && !questions.boot {
            return Ok(contents);
        }
        let (of, path) = if questions.transient_etc { (root, "usr/etc") } else { (deployment, "etc") };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let etc = lookup::if_there(lookup::open_beneath(of, path.as_bytes(), flags));
        // Without it the plan cannot be carried out anyway.
        let Some(etc) = or_log(path.as_bytes(), etc).flatten() else { return Ok(contents) };
        let fstab = lookup::read_beneath(etc.as_fd(), b"fstab", lookup::SIZE_LIMIT);
        let fstab = or_log(b"etc/fstab", fstab).flatten().unwrap_or_default();
        contents.fstab_var = fstab_mounts(&fstab, b"/var");
        contents.fstab_boot = fstab_mounts(&fstab, b"/boot");
        let boot = questions.boot && !contents.fstab_boot;
        contents.generator = Generator::of(root, etc.as_fd(), boot);
        Ok(contents)
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
