//! What an initramfs mounts before anything else: the file systems of the kernel, `/run`, and the physical root.

use super::context::Context;
use crate::error::{Class, Error, Result, printable};
use crate::lookup;
use crate::syscall;
use alloc::ffi::CString;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use rustix::path::Arg;

/// A file system that is the same on every machine.
struct Early {
    kind: &'static CStr,
    place: &'static CStr,
    options: &'static [(&'static CStr, &'static CStr)],
    attributes: MountAttrFlags,
}

// The options are those with which systemd would mount them, since it leaves alone what is mounted
// (`mount_table` in `src/shared/mount-setup.c`).
const PROC: Early = Early {
    kind: c"proc",
    place: c"/proc",
    options: &[],
    attributes: NO_PROGRAMS.union(MountAttrFlags::MOUNT_ATTR_RELATIME),
};
const SYS: Early = Early { kind: c"sysfs", place: c"/sys", ..PROC };
const DEV: Early = Early {
    kind: c"devtmpfs",
    place: c"/dev",
    options: &[(c"mode", c"0755")],
    attributes: MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_STRICTATIME),
};
const RUN: Early = Early {
    kind: c"tmpfs",
    place: c"/run",
    options: &[(c"mode", c"0755"), (c"size", c"20%"), (c"nr_inodes", c"800k")],
    attributes: MountAttrFlags::MOUNT_ATTR_NOSUID
        .union(MountAttrFlags::MOUNT_ATTR_NODEV)
        .union(MountAttrFlags::MOUNT_ATTR_STRICTATIME),
};

const NO_PROGRAMS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Options of `rootflags=` that belong to the mount and not to the file system (`mount(8)`,
/// `FILESYSTEM-INDEPENDENT MOUNT OPTIONS`), which the kernel would refuse as those of one.
const OF_THE_MOUNT: [(&[u8], MountAttrFlags); 8] = [
    (b"nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    (b"nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID),
    (b"nodev", MountAttrFlags::MOUNT_ATTR_NODEV),
    (b"noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
    (b"noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
    (b"nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    (b"strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    (b"relatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
];

/// Options that are for `mount(8)`, or say what is so without them; `ro` and `rw` have arguments of their own.
const WITHOUT_EFFECT: [&[u8]; 17] = [
    b"",
    b"defaults",
    b"ro",
    b"rw",
    b"auto",
    b"noauto",
    b"nofail",
    b"user",
    b"nouser",
    b"_netdev",
    b"suid",
    b"dev",
    b"exec",
    b"atime",
    b"diratime",
    b"norelatime",
    b"nostrictatime",
];

/// How the physical root is to be mounted.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// `ro`
    pub readonly: bool,
    /// `rootflags=`
    pub flags: &'a [u8],
}

/// Mounts `proc`, which everything else needs.
///
/// # Errors
/// [`Class::Mount`]
pub fn proc() -> Result<()> {
    mount(&PROC)
}

/// Mounts `sysfs`, which knows the block devices.
///
/// # Errors
/// [`Class::Mount`]
pub fn sys() -> Result<()> {
    mount(&SYS)
}

/// Mounts the devices.
///
/// # Errors
/// [`Class::Mount`]
pub fn dev() -> Result<()> {
    mount(&DEV)
}

/// Mounts a tmpfs for what tells the running system how it was prepared.
///
/// # Errors
/// [`Class::Mount`]
pub fn run() -> Result<()> {
    mount(&RUN)
}

fn mount(file_system: &Early) -> Result<()> {
    let place = file_system.place;
    let what = format!("{} on {}", file_system.kind.to_string_lossy(), place.to_string_lossy());
    let directory = open(place).map_err(|errno| {
        let hint = "make an empty directory of that name on the physical root, or in the initramfs";
        Error::errno(Class::Mount, format!("mount {what}"), errno).hint(hint)
    })?;
    if lookup::is_mount_point(directory.as_fd()).is_ok_and(|mounted| mounted) {
        return Ok(());
    }
    let context = Context::open(file_system.kind, what)?;
    let source = (c"source", file_system.kind);
    let configured =
        [source].iter().chain(file_system.options).try_for_each(|(key, value)| context.string(key, value));
    configured.and_then(|()| context.create()).map_err(|errno| context.error(errno))?;
    attach(&context.mount_with(file_system.attributes)?, place).map_err(|errno| context.error(errno))
}

/// Mounts the root device on `place`. `kinds`: the types of file system to try, in that order.
///
/// # Errors
/// [`Class::Sysroot`]
pub fn root(device: &CStr, kinds: &[CString], access: Access<'_>, place: &str) -> Result<()> {
    let mut before = None;
    for kind in kinds {
        let mut mounted = one_kind(device, kind, access);
        if let Err((Errno::ACCESS | Errno::ROFS, error)) = &mounted
            && !access.readonly
        {
            log::warn!("{}: trying it read-only", error.summary());
            mounted = one_kind(device, kind, Access { readonly: true, ..access });
        }
        match mounted {
            Ok(mount) => {
                let _ = rustix::fs::mkdir(place, Mode::from_raw_mode(0o755));
                return attach(&mount, place).map_err(|errno| {
                    let what = format!("mount the root device on {place}");
                    Error::errno(Class::Sysroot, what, errno)
                });
            }
            Err((_, error)) => before = Some(error.after(before.take())),
        }
    }
    Err(before.unwrap_or_else(|| {
        let what = format!("mount the root device {}", printable(device.to_bytes()));
        Error::found(Class::Sysroot, what, "nothing tells the type of its file system")
            .hint("name it on the kernel command line: rootfstype=ext4")
    }))
}

fn one_kind(device: &CStr, kind: &CStr, access: Access<'_>) -> Result<OwnedFd, (Errno, Error)> {
    let name = format!("the root device {} ({})", printable(device.to_bytes()), printable(kind.to_bytes()));
    let context = Context::open(kind, name).map_err(|error| (Errno::NODEV, error))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RELATIME;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, access.readonly);
    let mut configure = || {
        context.string(c"source", device)?;
        if access.readonly {
            context.flag(c"ro")?;
        }
        for option in access.flags.split(|&byte| byte == b',') {
            set(&context, option, &mut attributes)?;
        }
        context.create()
    };
    configure().map_err(|errno| {
        let hint = "look at rootfstype= and rootflags=, and at the lines above; is the file system damaged?";
        (errno, context.error(errno).hint(hint))
    })?;
    context.mount_with(attributes).map_err(|error| (Errno::INVAL, error))
}

/// Sets one option of `rootflags=`.
fn set(context: &Context, option: &[u8], attributes: &mut MountAttrFlags) -> rustix::io::Result<()> {
    /// The four ways to treat access times are values of one field.
    const TIMES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;
    if let Some((_, attribute)) = OF_THE_MOUNT.iter().find(|(name, _)| *name == option) {
        if TIMES.contains(*attribute) {
            attributes.remove(TIMES);
        }
        attributes.insert(*attribute);
        return Ok(());
    }
    if option.starts_with(b"x-") || WITHOUT_EFFECT.contains(&option) {
        return Ok(());
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL);
    match option.iter().position(|&byte| byte == b'=') {
        Some(at) => context.string(&text(&option[..at])?, &text(&option[at + 1..])?),
        None => context.flag(&text(option)?),
    }
}

/// Mounts the root directory a second time, without what is mounted in it.
///
/// # Errors
/// [`Class::Mount`]
pub fn root_again(place: &str) -> Result<()> {
    let again = || {
        rustix::fs::mkdir(place, Mode::from_raw_mode(0o755))?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let root = rustix::mount::open_tree(CWD, c"/", clone)?;
        attach(&root, place)
    };
    again().map_err(|errno| Error::errno(Class::Mount, format!("mount / again on {place}"), errno))
}

/// Opens the console in place of what `runtime.rs` put where the kernel had none for us: there were no devices then.
pub fn console() {
    let stand_in = |file: BorrowedFd<'_>| {
        rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
    };
    let open = |path| rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    let Ok(file) = open(c"/dev/console").or_else(|_| open(c"/dev/null")) else { return };
    // What fails here could not be told either.
    if stand_in(syscall::stdin()) {
        let _ = rustix::stdio::dup2_stdin(&file);
    }
    if stand_in(syscall::stdout()) {
        let _ = rustix::stdio::dup2_stdout(&file);
    }
    if stand_in(syscall::stderr()) {
        let _ = rustix::stdio::dup2_stderr(&file);
    }
}

fn open(place: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, place, flags, Mode::empty())
}

fn attach(mount: &OwnedFd, place: impl Arg) -> rustix::io::Result<()> {
    rustix::mount::move_mount(mount, c"", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
