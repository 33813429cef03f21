//! What is on the disk: all deployments and boot links, for whoever has to choose another than the one
//! that was asked for. A normal boot does not look.
//!
//! Nothing here is to be believed, and nothing fails: what cannot be read is not there.

use crate::boot_link::{BootLink, VERSIONS};
use crate::commit::Commit;
use crate::error::printable;
use crate::lookup::{self, RegularFile};
use crate::name::Name;
use crate::sysroot::Sysroot;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Dir, FileType, OFlags};

/// The most names that are read, and the most links that are followed, of a whole disk. A hostile disk has
/// more; the person in front of it still wants an answer.
const BUDGET: usize = 20_000;

/// The most deployments that are listed.
const DEPLOYMENTS: usize = 64;

/// The most bytes of a commit that are read to describe it.
const COMMIT: usize = 4 << 20;

/// The most bytes of a boot entry.
const ENTRY: usize = 64 << 10;

/// The most bytes of what is known of failed boots.
const ASSESSMENT: usize = 4 << 10;

/// The most characters of a version that are shown.
const VERSION: usize = 64;

/// The deployments and boot links of a disk.
#[derive(Debug, Default)]
pub struct Survey {
    /// In the order of their index: that of the boot entries where the disk has them, then the newest
    /// first.
    pub deployments: Vec<Listed>,
    /// Boot links, as `ostree=` may name them.
    pub links: Vec<FoundLink>,
    /// There is more than is listed.
    pub more: bool,
    /// How many names and links have been looked at.
    spent: usize,
}

/// A deployment.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// A boot link that leads to it.
    pub link: Option<BootLink>,
    /// The version its commit has.
    pub version: Option<String>,
    /// How its boots failed, if they did.
    pub assessment: Option<String>,
    /// The position in the boot menu, from the last.
    entry: Option<u64>,
    /// When its commit was made: seconds since 1970.
    time: u64,
}

/// A boot link, and the deployment it leads to.
#[derive(Debug)]
pub struct FoundLink {
    /// The link.
    pub link: BootLink,
    /// Nothing if it leads nowhere.
    pub name: Option<Name>,
}

impl Survey {
    /// Looks around.
    pub fn of(sysroot: &Sysroot) -> Survey {
        let mut survey = Survey::default();
        survey.read_links(sysroot);
        survey.read_deployments(sysroot);
        survey.read_entries(sysroot);
        survey.sort();
        survey
    }

    /// By insertion: there are few, and the standard library's way is 4 kB of the program.
    fn sort(&mut self) {
        let key = |listed: &Listed| (listed.entry, listed.time);
        let unsorted = core::mem::take(&mut self.deployments);
        for listed in unsorted {
            let before = |other: &Listed| {
                (key(other), &listed.name.path()[..]) > (key(&listed), &other.name.path()[..])
            };
            let at = self.deployments.partition_point(before);
            self.deployments.insert(at, listed);
        }
    }

    fn read_links(&mut self, sysroot: &Sysroot) {
        for version in VERSIONS {
            let of = format!("ostree/{version}").into_bytes();
            for stateroot in self.names(sysroot.handle(), &of) {
                let of = [&of[..], &stateroot].join(&b'/');
                for bootcsum in self.names(sysroot.handle(), &of) {
                    let of = [&of[..], &bootcsum].join(&b'/');
                    for serial in self.names(sysroot.handle(), &of) {
                        let path = [&of[..], &serial].join(&b'/');
                        let Some(link) = BootLink::parse(&path) else { continue };
                        self.links.push(FoundLink { link, name: follow(sysroot, &path) });
                    }
                }
            }
        }
    }

    fn read_deployments(&mut self, sysroot: &Sysroot) {
        for stateroot in self.names(sysroot.handle(), b"ostree/deploy") {
            let of = [b"ostree/deploy/", &stateroot[..], b"/deploy"].concat();
            for directory in self.names(sysroot.handle(), &of) {
                let name = Name { stateroot: stateroot.clone(), directory };
                let kind = lookup::kind_at(sysroot.handle(), &name.path());
                if kind != Ok(Some(FileType::Directory)) {
                    continue;
                }
                if self.deployments.len() == DEPLOYMENTS {
                    self.more = true;
                    return;
                }
                let (version, time) = describe(sysroot, &name).unwrap_or_default();
                let link = self.links.iter().find(|listing| listing.name.as_ref() == Some(&name));
                let link = link.map(|listing| listing.link.clone());
                let assessment = assessment(sysroot, &name);
                self.deployments.push(Listed { name, link, version, assessment, entry: None, time });
            }
        }
    }

    /// Boot Loader Specification, <https://uapi-group.org/specifications/specs/boot_loader_specification/>;
    /// OSTree numbers its entries in `version`, and the highest is the first in the menu.
    fn read_entries(&mut self, sysroot: &Sysroot) {
        let of = b"boot/loader/entries";
        for file in self.names(sysroot.handle(), of) {
            let path = [&of[..], &file].join(&b'/');
            let Ok(Some(text)) = lookup::read_beneath(sysroot.handle(), &path, ENTRY) else { continue };
            let Some((version, boot_link)) = parse_entry(&text) else { continue };
            let Some(name) = follow_entry(sysroot, &boot_link) else { continue };
            if let Some(listed) = self.deployments.iter_mut().find(|listed| listed.name == name) {
                listed.entry = listed.entry.max(Some(version));
            }
        }
    }

    /// The names in a directory, as far as they can be afforded.
    fn names(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Vec<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let mut names = Vec::new();
        if !self.afford_one() {
            return names;
        }
        let Ok(directory) = lookup::open_beneath(directory, path, flags) else { return names };
        let Ok(entries) = Dir::new(directory) else { return names };
        for entry in entries.map_while(Result::ok) {
            let name = entry.file_name().to_bytes();
            if name.starts_with(b".") {
                continue;
            }
            if !self.afford_one() {
                break;
            }
            names.push(name.to_vec());
        }
        names
    }

    fn afford_one(&mut self) -> bool {
        self.spent += 1;
        self.more |= self.spent > BUDGET;
        self.spent <= BUDGET
    }
}

/// The deployment that a link on the disk leads to.
pub fn follow(sysroot: &Sysroot, link: &[u8]) -> Option<Name> {
    let link = &link[link.iter().take_while(|&&byte| byte == b'/').count()..];
    let handle = lookup::open_beneath(sysroot.handle(), link, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    let path = lookup::canonical_path(handle.as_fd()).ok()?;
    sysroot.deployment_at(&path)
}

/// The deployment that a boot entry means: its link may have gone to another boot version.
fn follow_entry(sysroot: &Sysroot, link: &[u8]) -> Option<Name> {
    let others =
        || BootLink::parse(link)?.under_other_versions().find_map(|link| follow(sysroot, &link.path()));
    follow(sysroot, link).or_else(others)
}

/// Version and time of the deployment's commit.
pub fn describe(sysroot: &Sysroot, name: &Name) -> Option<(Option<String>, u64)> {
    let checksum = name.checksum()?;
    let path = format!("ostree/repo/objects/{}/{}.commit", &checksum[..2], &checksum[2..]);
    let bytes = lookup::read_beneath(sysroot.handle(), path.as_bytes(), COMMIT).ok()??;
    let commit = Commit::parse(&bytes)?;
    let shown = |version: &str| printable(version.as_bytes()).chars().take(VERSION).collect();
    Some((commit.version().map(shown), commit.time()))
}

/// Where `prepare-root-assess-failed.service` writes down how boots of a deployment failed, below `/var`: a file
/// `STATEROOT/DEPLOYMENT`, of which the first line is for people.
const ASSESSMENTS: &[u8] = b"lib/prepare-root/assess";

/// How boots of a deployment failed: that is in the stateroot's `var`, or in `/var` if that is a file system of its own.
fn assessment(sysroot: &Sysroot, name: &Name) -> Option<String> {
    let file = [ASSESSMENTS, &name.stateroot, &name.directory].join(&b'/');
    let on_disk = [&name.var_path()[..], &file].join(&b'/');
    let text = lookup::read_beneath(sysroot.handle(), &on_disk, ASSESSMENT).ok().flatten().or_else(|| {
        let path = CString::new([b"/var/", &file[..]].concat()).ok()?;
        let file = RegularFile::of(lookup::open(&path).ok()?).ok()?;
        file.contents(ASSESSMENT).ok()
    })?;
    let line = text.split(|&byte| byte == b'\n').next()?;
    Some(printable(line)).filter(|line| !line.is_empty())
}

/// The `version` of a boot entry of OSTree's, and its `ostree=`.
fn parse_entry(text: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (mut version, mut boot_link) = (0, None);
    for line in text.split(|&byte| byte == b'\n') {
        let (key, value) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
        match key {
            b"version" => version = str::from_utf8(value).ok()?.trim().parse().unwrap_or(0),
            b"options" => {
                let mut arguments = value.split(u8::is_ascii_whitespace);
                boot_link = arguments.find_map(|argument| argument.strip_prefix(b"ostree=")).or(boot_link);
            }
            _ => {}
        }
    }
    Some((version, boot_link?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_entries() {
        let entry = b"title Debian\nversion 2\noptions root=x ostree=/ostree/boot.1/d/c/0 quiet\nlinux /l\n";
        assert_eq!(parse_entry(entry), Some((2, b"/ostree/boot.1/d/c/0".to_vec())));
        assert_eq!(parse_entry(b"version x\noptions\tostree=a"), Some((0, b"a".to_vec())));
        assert_eq!(parse_entry(b"version 2\noptions root=x\n"), None);
        assert_eq!(parse_entry(b"\xff\xfe"), None);
    }
}
