//! What is compared: what a run made, in words that do not depend on the disk.
//!
//! What belongs to a disk (its device number, the inode and the checksum of a deployment) is called
//! by its role. Nothing is lost by that, and what two disks lead to can be compared.

use crate::support::failure::{Context, Result};
use crate::support::mounts::{Row, difference};
use crate::support::random::{without_random, without_random_rows};
use crate::support::sandbox::{Ran, SYSROOT};
use crate::support::sysroots::Disk;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files to look at: those of the operating system that tell deployments and layers apart.
pub const FILES: [&str; 3] =
    ["/sysroot/etc/hostname", "/sysroot/usr/etc/hostname", "/sysroot/usr/lib/os-release"];

/// What a run made. If it failed, nothing: what was left behind is no result.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The exit status was zero.
    pub succeeded: bool,
    /// The mounts at and below `/sysroot`.
    pub mounts: Vec<Row>,
    /// Everything in `/run`: path, type, mode, owner, contents.
    pub run: Vec<String>,
    /// The contents of [`FILES`].
    pub files: Vec<String>,
    /// What it said if it failed: for the person who reads the test's output, and not compared.
    pub complaint: String,
}

impl Seen {
    /// What that run made of that disk.
    pub fn of(ran: &Ran, disk: &Disk) -> Result<Seen> {
        if ran.status != Some(0) {
            let complaint = format!("{}{}", ran.stdout, ran.stderr);
            return Ok(Seen { complaint, ..Seen::default() });
        }
        let roles = Roles::of(disk)?;
        let mut mounts = without_random_rows(ran.after.mounts.below(SYSROOT));
        mounts.iter_mut().for_each(|row| roles.rename(row));
        let file = |path: &&str| {
            let contents = ran.files.get(*path);
            format!("{path}: {}", contents.map_or("cannot be read", |contents| contents.trim_end()))
        };
        Ok(Seen {
            succeeded: true,
            mounts,
            run: ran.after.run.iter().map(|entry| roles.replace(without_random(entry))).collect(),
            files: FILES.iter().map(file).collect(),
            complaint: String::new(),
        })
    }

    /// The only mount at that place.
    pub fn mount(&mut self, point: &str) -> Result<&mut Row> {
        let mut mounts = self.mounts.iter_mut().filter(|row| row.point == point);
        match (mounts.next(), mounts.next()) {
            (Some(row), None) => Ok(row),
            (None, _) => Err(format!("no mount at {point}")),
            _ => Err(format!("two mounts at {point}")),
        }
    }

    /// What is expected (`-`) and what was found (`+`), where they are not the same.
    pub fn difference(&self, found: &Seen) -> Option<String> {
        let outcome = |seen: &Seen| [if seen.succeeded { "succeeds" } else { "fails" }];
        let differences = [
            ("exit status", difference(&outcome(self), &outcome(found))),
            ("mounts", difference(&self.mounts, &found.mounts)),
            ("/run", difference(&self.run, &found.run)),
            ("files", difference(&self.files, &found.files)),
        ];
        let differences =
            differences.iter().filter_map(|(what, text)| Some(format!("{what}:\n{}", text.as_ref()?)));
        let text = differences.collect::<String>();
        (!text.is_empty()).then_some(text)
    }
}

/// What the names and numbers of a disk stand for.
struct Roles {
    device: (u64, u64),
    names: Vec<(String, String)>,
}

impl Roles {
    fn of(disk: &Disk) -> Result<Roles> {
        let number = |path: &Path| path.metadata().context(format!("look at {}", path.display()));
        let device = number(&disk.mounted)?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let mut names = vec![(format!("/dev/block/{major}:{minor}"), "/dev/block/DISK".to_owned())];
        for (at, deployment) in disk.deployments.iter().enumerate() {
            // As the GVariant in /run/ostree-booted has the pair, with the bytes escaped.
            let inode = number(&disk.mounted.join(deployment))?.ino();
            let pair = [device.to_le_bytes(), inode.to_le_bytes()].concat();
            names.push((pair.escape_ascii().to_string(), format!("DEVICE AND INODE {at}")));
            names.push((format!("/{deployment}"), format!("/DEPLOYMENT-{at}")));
        }
        Ok(Roles { device: (major, minor), names })
    }

    fn rename(&self, row: &mut Row) {
        row.root = self.replace(std::mem::take(&mut row.root));
        if row.device == self.device {
            row.device = (0, 0);
            if row.source == format!("/dev/loop{}", self.device.1) {
                "DISK".clone_into(&mut row.source);
            }
        }
    }

    fn replace(&self, text: String) -> String {
        self.names.iter().fold(text, |text, (name, role)| text.replace(name, role))
    }
}
