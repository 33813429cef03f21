//! Following `ostree=` to one deployment, and the facts about it that planning needs.

use crate::boot_link::BootLink;
use crate::booted;
use crate::cmdline::Link;
use crate::config::{Config, Enabled, MountHere};
use crate::error::{Class, Error, Result, describe, printable};
use crate::keyfile::{self, KeyFile};
use crate::lookup;
use crate::name::Name;
use crate::sysroot::{self, Sysroot};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

/// libostree's marker: the initramfs wants `/var` mounted here, and the generator is to do nothing.
const MOUNT_VAR_MARKER: &CStr = c"/run/ostree/initramfs-mount-var";

/// One deployment, found and open.
#[derive(Debug)]
pub struct Deployment {
    handle: OwnedFd,
    /// What planning needs to know of it.
    pub facts: Facts,
}

/// What planning needs to know of a deployment and its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which deployment it is.
    pub name: Name,
    /// Device number of its directory.
    pub device: u64,
    /// Inode number of its directory.
    pub inode: u64,
    /// The disk's `ostree/repo/config` has the legacy `[sysroot] readonly=true`, and it counts.
    pub legacy_readonly: bool,
    /// `boot/loader` on the physical root is no directory but a link of OSTree's, so `/boot` is no partition of its own. Looked for
    /// only if the configuration does not say who mounts `/boot`.
    pub boot_on_physical_root: bool,
    /// The physical root cannot be written to: the mount or the file system is read-only. Looked for only if there
    /// is a hotfix.
    pub physical_readonly: bool,
    /// The block device of the physical root; looked for only if the configuration has a use for it.
    pub backing_device: Option<u64>,
    /// `ostree admin unlock --hotfix` left a writable layer for `/usr`.
    pub hotfix: bool,
    /// The initramfs made `/run/ostree/initramfs-mount-var`, which also tells the generator to do
    /// nothing.
    pub mount_var_marker: bool,
    /// The generator will find the stateroot, which it must know for `var.mount`.
    pub generator_finds_stateroot: bool,
}

impl Deployment {
    /// Follows a link to its deployment; `None` when the physical root already *is* that deployment,
    /// because an earlier run put it there.
    ///
    /// # Errors
    /// [`Class::Deployment`] when there is no link, or it does not lead to a deployment inside the
    /// physical root; [`Class::Sysroot`] when the disk cannot be read.
    pub fn follow(config: &Config, sysroot: &Sysroot, link: &Link) -> Result<Option<Deployment>> {
        // libostree insists on a link, and so do we. A boot link's place cannot be a deployment itself.
        let is_boot_link = matches!(link, Link::Boot(path) if BootLink::parse(path).is_some());
        let text = if is_boot_link { None } else { Some(read_link(link, sysroot)?) };
        let fail = |errno| match &text {
            Some(text) => follow_error(link, text, errno),
            None => {
                read_link(link, sysroot).map_or_else(|error| error, |text| follow_error(link, &text, errno))
            }
        };
        let handle = lookup::open_beneath(sysroot.handle(), link.path(), OFlags::PATH | OFlags::DIRECTORY)
            .map_err(fail)?;
        let generator_finds = |name: &Name| match (link, &text) {
            // The generator takes a slot's stateroot from the link's text.
            (Link::Slot(_), Some(text)) => Name::from_path(&[b"ostree/", &text[..]].concat()).is_some(),
            _ => config.generator.stateroot.as_deref() == Some(&name.stateroot),
        };
        let found = Deployment::found(config, sysroot, handle, &format!("follow {link}"), generator_finds);
        found.map_err(|error| match error.class() {
            Class::Deployment if is_boot_link => read_link(link, sysroot).err().unwrap_or(error),
            _ => error,
        })
    }

    /// Opens the deployment of that name; `None` as above.
    ///
    /// # Errors
    /// As above.
    pub fn open(config: &Config, sysroot: &Sysroot, name: &Name) -> Result<Option<Deployment>> {
        let operation = format!("open the deployment {name}");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let handle = lookup::open_beneath(sysroot.handle(), &name.path(), flags).map_err(|errno| {
            Error::errno(Class::Deployment, &*operation, errno).hint("choose another boot entry")
        })?;
        let generator_finds = |name: &Name| config.generator.stateroot.as_deref() == Some(&name.stateroot);
        Deployment::found(config, sysroot, handle, &operation, generator_finds)
    }

    /// `generator_finds`: whether the generator finds the stateroot.
    fn found(
        config: &Config,
        sysroot: &Sysroot,
        handle: OwnedFd,
        operation: &str,
        generator_finds: impl FnOnce(&Name) -> bool,
    ) -> Result<Option<Deployment>> {
        let fail = |errno| Error::errno(Class::Sysroot, operation, errno);
        let stat = rustix::fs::fstat(&handle).map_err(fail)?;
        let path = sysroot::path_of(handle.as_fd(), "deployment")?;
        let below = lookup::below(&path, &sysroot.path).unwrap_or_default();
        let identity = (stat.st_dev, stat.st_ino);
        let name = match (Name::from_path(below), below.strip_prefix(b"sysroot/").and_then(Name::from_path)) {
            (Some(name), _) => name,
            // An earlier run put a deployment in the physical root's place, and that below its sysroot.
            (None, Some(_)) if is_booted(identity) => return Ok(None),
            (None, Some(name)) => {
                let found =
                    format!("{sysroot} already is the root of another deployment, and this would be {name}");
                let hint = "reboot, or unmount it and mount the physical root there";
                return Err(Error::found(Class::Sysroot, operation, found).hint(hint));
            }
            (None, None) => {
                let found = format!("it leads to {}, which is no deployment", printable(&path));
                return Err(Error::found(Class::Deployment, operation, found).hint(
                    "deployments are ostree/deploy/STATEROOT/deploy/CHECKSUM.SERIAL on the physical root",
                ));
            }
        };
        let generator_finds_stateroot = generator_finds(&name);
        let facts = facts(config, sysroot, handle.as_fd(), name, generator_finds_stateroot, identity)
            .map_err(fail)?;
        Ok(Some(Deployment { handle, facts }))
    }

    /// The deployment's directory.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Whether the directory at this path is the deployment that is booted.
pub fn is_booted_at(sysroot: &Sysroot, path: &[u8]) -> bool {
    let opened = lookup::open_beneath(sysroot.handle(), path, OFlags::PATH | OFlags::DIRECTORY);
    let stat = opened.and_then(rustix::fs::fstat);
    stat.is_ok_and(|stat| is_booted((stat.st_dev, stat.st_ino)))
}

/// An earlier run wrote down that this deployment, by device and inode number, is now the root. (What
/// the disk itself shows is no proof of that.)
fn is_booted(identity: (u64, u64)) -> bool {
    let booted = lookup::read(booted::PATH).ok().flatten();
    booted.is_some_and(|bytes| booted::deployment(&bytes) == Some(identity))
}

/// Reads the link itself. A directory in its place is not OSTree's work.
fn read_link(link: &Link, sysroot: &Sysroot) -> Result<Vec<u8>> {
    let operation = || format!("follow {link}");
    let file = lookup::open_beneath(sysroot.handle(), link.path(), OFlags::PATH | OFlags::NOFOLLOW)
        .map_err(|errno| follow_error(link, b"", errno))?;
    match rustix::fs::readlinkat(&file, c"", Vec::new()) {
        Ok(text) => Ok(text.into_bytes()),
        // ENOENT is the kernel's answer to an empty path that is open on something else than a link.
        Err(Errno::NOENT | Errno::INVAL) => {
            Err(Error::found(Class::Deployment, operation(), "it is not a symbolic link").hint(hint(link)))
        }
        Err(errno) => Err(Error::errno(Class::Sysroot, operation(), errno)),
    }
}

fn hint(link: &Link) -> &'static str {
    match link {
        Link::Boot(_) => "choose another boot entry, or see with --explain what there is",
        Link::Slot(_) => "boot the other slot: androidboot.slot_suffix=_a or _b",
    }
}

fn follow_error(link: &Link, link_text: &[u8], errno: Errno) -> Error {
    let what = if link_text.is_empty() {
        String::from("the path")
    } else {
        format!("the link, which reads {},", printable(link_text))
    };
    let found = match errno {
        Errno::NOENT if link_text.is_empty() => format!("there is no such link: {}", describe(errno)),
        Errno::NOENT => format!("{what} points at nothing: {}", describe(errno)),
        Errno::XDEV => format!("{what} leads outside the physical root: {}", describe(errno)),
        Errno::LOOP => format!("{what} runs in circles or through /proc: {}", describe(errno)),
        Errno::NAMETOOLONG | Errno::INVAL => format!("{what} cannot be followed: {}", describe(errno)),
        Errno::NOTDIR => format!("{what} does not lead to a directory: {}", describe(errno)),
        _ => {
            let error = Error::errno(Class::Sysroot, format!("follow {link}"), errno);
            return error.hint("see dmesg, and check the file system");
        }
    };
    Error::found(Class::Deployment, format!("follow {link}"), found).hint(hint(link))
}

fn facts(
    config: &Config,
    sysroot: &Sysroot,
    deployment: BorrowedFd<'_>,
    name: Name,
    generator_finds_stateroot: bool,
    (device, inode): (u64, u64),
) -> rustix::io::Result<Facts> {
    let physical = sysroot.handle();
    let asks_for_device = config.volatile_root && config.composefs.enabled != Enabled::Off;
    let hotfix = lookup::kind_at(deployment, b".usr-ovl-work")?.is_some();
    Ok(Facts {
        device,
        inode,
        legacy_readonly: legacy_flag_counts(config) && legacy_readonly(physical),
        boot_on_physical_root: config.boot == MountHere::Auto
            && lookup::is_no_directory(physical, b"boot/loader")?,
        physical_readonly: hotfix
            && rustix::fs::fstatvfs(physical)?.f_flag.contains(StatVfsMountFlags::RDONLY),
        backing_device: if asks_for_device { sysroot.backing_device() } else { None },
        hotfix,
        mount_var_marker: rustix::fs::statat(CWD, MOUNT_VAR_MARKER, AtFlags::SYMLINK_NOFOLLOW).is_ok(),
        generator_finds_stateroot,
        name,
    })
}

/// libostree reads the flag unless the configuration already said `true` or requires composefs.
fn legacy_flag_counts(config: &Config) -> bool {
    config.sysroot_readonly != Some(true) && config.composefs.enabled != Enabled::On
}

/// `[sysroot] readonly=true` in `ostree/repo/config`. It was never required to be there or valid,
/// so it cannot fail a boot.
fn legacy_readonly(physical: BorrowedFd<'_>) -> bool {
    let path = "ostree/repo/config";
    let bytes = match lookup::read_once(physical, path.as_bytes()) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(errno) => {
            log::warn!("read {path}: {}: taking [sysroot] readonly there as not set", describe(errno));
            return false;
        }
    };
    match KeyFile::parse(&bytes) {
        Ok(file) => file.get("sysroot", "readonly").and_then(keyfile::boolean) == Some(true),
        Err(malformed) => {
            log::warn!("parse {path}: {malformed}: taking [sysroot] readonly there as not set");
            false
        }
    }
}
