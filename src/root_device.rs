//! Finding the root device, in an initramfs where nobody else does it.
//!
//! The kernel names devices as it finds them, and only what is on them says which one is the root. So the
//! devices there are get looked at, and each new one as soon as the kernel reports it: nothing is asked
//! twice, and there is no pause in which a device may already be there.
//!
//! | module              | what it knows                                                    |
//! |---------------------|------------------------------------------------------------------|
//! | [`argument`]        | the kernel command line: which device, how long to wait          |
//! | [`superblock`]      | the first bytes of file systems and of what is none              |
//! | [`partition_table`] | GPT and MBR                                                      |
//! | [`device`]          | `/sys/class/block` and the nodes in `/dev`                       |
//! | [`uevent`]          | the kernel's events                                              |
//! | [`listing`]         | what a person at the console needs when the device is not found  |

pub mod argument;
mod bytes;
pub mod device;
pub mod listing;
pub mod partition_table;
pub mod superblock;
pub mod uevent;

use crate::clock;
use crate::clock::Instant;
use crate::error::{Class, Error, Result, describe, printable};
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use argument::{By, ELSEWHERE, RootArgument, Wait};
use core::time::Duration;
use device::{Content, Device, PLACES, Places};
use rustix::fs::Access;
use rustix::io::Errno;
use superblock::{Kind, Superblock};
use uevent::{Event, Monitor};

/// The root device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path of its node.
    pub path: CString,
    /// Major and minor number.
    pub number: (u32, u32),
    /// What is on it; `None` if that is unknown here, and the kernel command line says what it is.
    pub kind: Option<Kind>,
    /// The types of file systems to mount it as, in order, the first that works; never empty.
    pub kinds: Vec<CString>,
}

/// Finds the root device, and waits for it: for as long as the kernel command line says or, if it does not, the
/// `limit`. If it says to wait for ever, `waiting` is called once after the `limit`, with what would
/// have been the error.
///
/// # Errors
/// [`Class::Sysroot`]: the device is not there in time, or nothing is on it that could be the root. The hint lists
/// the devices that are there.
pub fn find(argument: &RootArgument, limit: Duration, waiting: &mut dyn FnMut(&Error)) -> Result<Found> {
    // Before the first look, so that nothing is missed that comes after it.
    let monitor = Monitor::open().map_err(|errno| fail("listen to the kernel's events", errno))?;
    // As the kernel does: for devices that show up and are not ready yet.
    clock::sleep(argument.delay);
    let mut next = |limit| monitor.next(limit);
    Search { places: PLACES, argument, next: &mut next }.find(limit, waiting)
}

fn fail(operation: &str, errno: Errno) -> Error {
    Error::errno(Class::Sysroot, operation, errno)
}

/// Tests have other places, and other events.
/// The devices that are there and what is on them, as a table, if there are any; where `/sys` is not mounted there are none.
pub fn seen() -> Option<String> {
    let mut devices = PLACES.devices().unwrap_or_default();
    PLACES.identify_all(&mut devices);
    let table = listing::table(&devices, By::Label);
    (!table.is_empty()).then(|| table.join("\n"))
}

struct Search<'a> {
    places: Places<'a>,
    argument: &'a RootArgument,
    next: &'a mut dyn FnMut(Option<Duration>) -> rustix::io::Result<Event>,
}

impl Search<'_> {
    fn find(&mut self, limit: Duration, waiting: &mut dyn FnMut(&Error)) -> Result<Found> {
        let limit = match self.argument.wait {
            Wait::Seconds(seconds) => Duration::from_secs(seconds.into()),
            Wait::Limited | Wait::Forever => limit,
        };
        let start = Instant::now();
        let mut left = Some(limit);
        let mut devices = self.devices()?;
        loop {
            if let Some(found) = self.choose(&mut devices)? {
                return Ok(found);
            }
            if left == Some(Duration::ZERO) {
                let error = self.missing(&mut devices, limit);
                if self.argument.wait != Wait::Forever {
                    return Err(error);
                }
                waiting(&error);
                left = None;
            }
            match (self.next)(left).map_err(|errno| fail("wait for the kernel's events", errno))? {
                Event::Block(name) => self.places.update(&mut devices, &name),
                Event::Lost => devices = self.devices()?,
                Event::Nothing => {}
            }
            left = left.map(|_| limit.saturating_sub(start.elapsed()));
        }
    }

    fn devices(&self) -> Result<Vec<Device>> {
        self.places.devices().map_err(|errno| fail("list the devices in /sys/class/block", errno))
    }

    /// The device that is asked for and can be the root. If there are several, it is the first: the kernel's own search
    /// takes the first it meets, and udev leaves a link where it is unless a rule prefers another.
    fn choose(&self, devices: &mut [Device]) -> Result<Option<Found>> {
        self.look(devices);
        let mut found: Vec<Found> = Vec::new();
        let mut refusal = None;
        for index in self.matching(devices) {
            let Some(device) = devices.get_mut(index) else { continue };
            self.places.examine(device);
            match self.judge(device) {
                Ok(usable) => found.extend(usable),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        if let Some(warning) = self.ambiguity(&found) {
            log::warn!("{warning}");
        }
        match (found.into_iter().next(), refusal) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// What to say if several devices are meant. A btrfs of several has the same name on all of them.
    fn ambiguity(&self, found: &[Found]) -> Option<String> {
        let [first, second, ..] = found else { return None };
        let (first, second) = (printable(first.path.to_bytes()), printable(second.path.to_bytes()));
        let warning = || format!("{} is {first} and {second}: taking {first}", self.argument.root);
        (!self.names_devices()).then(warning)
    }

    /// Finds out what is needed to compare.
    fn look(&self, devices: &mut [Device]) {
        for device in devices {
            match self.argument.root.by {
                By::Label | By::Uuid if device.is_disk() => self.places.examine(device),
                By::PartLabel | By::PartUuid => self.places.identify(device),
                _ => {}
            }
        }
    }

    /// The places in the list of those that are asked for.
    fn matching(&self, devices: &[Device]) -> Vec<usize> {
        let root = &self.argument.root;
        let place = |wanted: &dyn Fn(&Device) -> bool| devices.iter().position(wanted);
        let mut matching = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            let found = match root.by {
                By::Number => format!("{}:{}", device.number.0, device.number.1).as_bytes() == root.value,
                by => name(device, by) == Some(&root.value),
            };
            // A disk with partitions may still have what was on it before it had them.
            let is_stale = || {
                let has_parts = place(&|other| other.disk == device.name && other.part != 0).is_some();
                has_parts && matches!(root.by, By::Label | By::Uuid)
            };
            if !found || is_stale() {
                continue;
            }
            let part = device.part.checked_add_signed(root.offset);
            matching.extend(match root.offset {
                0 => Some(index),
                _ => place(&|other| other.disk == device.disk && Some(other.part) == part),
            });
        }
        matching
    }

    /// Whether the root can be on this device; `None` if it cannot be read, or not yet.
    fn judge(&self, device: &Device) -> Result<Option<Found>> {
        let path = self.places.node(&device.name);
        let Some(content) = &device.content else { return Ok(None) };
        let superblock = match content {
            Content::Superblock(superblock) => Some(superblock),
            _ => None,
        };
        let kind = superblock.map(|superblock| superblock.kind);
        let several;
        let (class, what, hint) = match (content, superblock) {
            (Content::Unreadable(_), _) => return Ok(None),
            (Content::Table(_), _) => (Class::Sysroot, "a disk with partitions", OTHER),
            (Content::Unknown, _) if self.argument.kinds.is_empty() => (Class::Sysroot, UNKNOWN, LOOKED_AT),
            (_, Some(Superblock { damaged: true, .. })) => (Class::Sysroot, DAMAGED, REPAIR),
            (_, Some(superblock)) if superblock.devices > 1 && !self.names_devices() => {
                several = format!("one of the {} devices of a btrfs", superblock.devices);
                (Class::Unsupported, several.as_str(), NAME_THEM)
            }
            (_, Some(Superblock { kind, .. })) if !kind.bootable() => match kind.container() {
                Some(container) => (Class::Unsupported, container, ELSEWHERE),
                None => (Class::Sysroot, kind.name(), OTHER),
            },
            // The others must be there as well.
            _ if !self.named_devices().all(|path| self.is_there(path)) => return Ok(None),
            _ => {
                let mut kinds = self.argument.kinds.clone();
                if let (Some(kind), []) = (kind, kinds.as_slice()) {
                    kinds.push(kind.name().into());
                }
                let kinds = kinds.into_iter().filter_map(|kind| CString::new(kind).ok()).collect();
                return Ok(Some(Found { path, number: device.number, kind, kinds }));
            }
        };
        let found = format!("{} is {what}", printable(path.to_bytes()));
        Err(Error::found(class, self.operation(), found).hint(hint))
    }

    fn operation(&self) -> String {
        format!("find the root device {}", self.argument.root)
    }

    /// Whether the kernel command line names the devices of a btrfs that has several.
    fn names_devices(&self) -> bool {
        self.named_devices().next().is_some()
    }

    /// `rootflags=device=`
    fn named_devices(&self) -> impl Iterator<Item = &[u8]> {
        self.argument.flags.split(|&byte| byte == b',').filter_map(|flag| flag.strip_prefix(b"device="))
    }

    fn is_there(&self, path: &[u8]) -> bool {
        let name = path.strip_prefix(b"/dev/").unwrap_or(path);
        rustix::fs::access(self.places.node(name).as_c_str(), Access::EXISTS).is_ok()
    }

    /// What to say when the time is over.
    fn missing(&self, devices: &mut [Device], limit: Duration) -> Error {
        let unreadable = self.matching(devices).into_iter().find_map(|index| {
            let device = devices.get(index)?;
            let Some(Content::Unreadable(errno)) = device.content else { return None };
            let path = self.places.node(&device.name);
            Some(format!("{} cannot be read: {}", printable(path.to_bytes()), describe(errno)))
        });
        let found = unreadable.unwrap_or_else(|| format!("no such device within {} s", limit.as_secs()));
        self.places.identify_all(devices);
        let hint = listing::text(devices, self.argument.root.by);
        Error::found(Class::Sysroot, self.operation(), found).hint(hint)
    }
}

/// What a device is called, as far as that is known.
fn name(device: &Device, by: By) -> Option<&Vec<u8>> {
    match (by, &device.content, &device.identity) {
        (By::Label, Some(Content::Superblock(superblock)), _) => Some(&superblock.label),
        (By::Uuid, Some(Content::Superblock(superblock)), _) => Some(&superblock.uuid),
        (By::PartLabel, _, Some(identity)) => Some(&identity.label),
        (By::PartUuid, _, Some(identity)) => Some(&identity.uuid),
        (By::Name, ..) => Some(&device.name),
        _ => None,
    }
}

const OTHER: &str = "boot with root=UUID=... or root=LABEL=... of the file system";
const DAMAGED: &str = "damaged: the checksum of its superblock is wrong, or its values are impossible";
const REPAIR: &str = "check the file system from another system, or boot from another device";
const UNKNOWN: &str = "damaged, or holds a file system that is not known here";
const LOOKED_AT: &str = "there is no superblock of xfs (at 0), ext4, f2fs, erofs (at 1 KiB) or btrfs (at 64 KiB); boot \
                         from another device, or with rootfstype= if the driver is there";
const NAME_THEM: &str = "name the others, as in rootflags=device=/dev/sdb2, or boot with an initramfs made by dracut or \
                         initramfs-tools";

#[cfg(test)]
mod tests;
