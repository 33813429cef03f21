//! The floor: the same result as that of `ostree-prepare-root`, with the fewest system calls that lead to it.
//!
//! Nothing is looked up, read or decided: the paths, the contents of files and the line for the kernel log come as
//! arguments, or stand here. Nothing is undone if a call fails; its error number is the exit status then. The
//! benchmark compares what was left with what our program leaves.
//!
//!     floor CONFIGURATION DEPLOYMENT VAR BOOTED LINE DEVICE DROPIN
//!
//! DEPLOYMENT and VAR are paths, BOOTED is `/run/ostree-booted` in hexadecimal digits, DEVICE is where
//! `/run/systemd/volatile-root` leads and DROPIN what tells systemd not to mount `/` again.
//!
//! All mounts are shared, as systemd makes them. So a clone has to be made private before anything is attached to
//! it, which would else appear in the original, too; and what is attached to the root becomes shared.

#![cfg_attr(panic = "abort", no_std)]
#![no_main]
#![allow(unsafe_code, reason = "the C library calls a function by its name; rustix has no mount_setattr(2)")]

mod without_std;

use core::ffi::{CStr, c_char, c_int};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdir, open, openat, symlink};
use rustix::io::{self, Errno, write};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

/// A file or mount that is closed by the end of the program: `close` would be a call more.
type Handle = BorrowedFd<'static>;

/// What is known beforehand.
struct Known {
    deployment: &'static CStr,
    var: &'static CStr,
    booted: &'static CStr,
    line: &'static CStr,
    device: &'static CStr,
    dropin: &'static CStr,
}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let argument = |index: usize| match usize::try_from(count) {
        // SAFETY: the C library passes so many pointers to C strings, which last as long as the program.
        Ok(count) if index < count => unsafe { CStr::from_ptr(*arguments.add(index)) },
        _ => c"",
    };
    let known = Known {
        deployment: argument(2),
        var: argument(3),
        booted: argument(4),
        line: argument(5),
        device: argument(6),
        dropin: argument(7),
    };
    let result = match argument(1).to_bytes() {
        b"bind" => bind(&known),
        b"readonly" => readonly(&known),
        b"composefs" => composefs(&known, false, false),
        b"composefs-transient" => composefs(&known, true, false),
        b"signed" => composefs(&known, false, true),
        b"hotfix" => hotfix(&known),
        _ => Err(Errno::INVAL),
    };
    match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error(),
    }
}

fn bind(known: &Known) -> io::Result<()> {
    let root = deployment(known)?;
    let usr = clone(&path(known.deployment, b"/usr"))?;
    set(usr, false, libc::MOUNT_ATTR_RDONLY, 0)?;
    attach(usr, root, c"usr")?;
    attach(clone(c"/sysroot")?, root, c"sysroot")?;
    finish(root, known)
}

fn readonly(known: &Known) -> io::Result<()> {
    let root = deployment(known)?;
    let usr = clone(&path(known.deployment, b"/usr"))?;
    set(usr, false, libc::MOUNT_ATTR_RDONLY, 0)?;
    attach(usr, root, c"usr")?;
    attach(clone(&path(known.deployment, b"/etc"))?, root, c"etc")?;
    disk_and_var(root, known)?;
    finish(root, known)
}

fn hotfix(known: &Known) -> io::Result<()> {
    let root = deployment(known)?;
    let usr = keep(fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?);
    fsconfig_set_string(usr, c"source", c"overlay")?;
    fsconfig_set_string(usr, c"lowerdir+", &*path(known.deployment, b"/usr"))?;
    fsconfig_set_string(usr, c"upperdir", &*path(known.deployment, b"/.usr-ovl-upper"))?;
    fsconfig_set_string(usr, c"workdir", &*path(known.deployment, b"/.usr-ovl-work"))?;
    attach(create(usr, MountAttrFlags::empty())?, root, c"usr")?;
    attach(clone(c"/sysroot")?, root, c"sysroot")?;
    finish(root, known)
}

fn composefs(known: &Known, transient: bool, signed: bool) -> io::Result<()> {
    private_folder()?;
    for (folder, mode) in [
        (c"/run/ostree/.private/cfsroot-lower", Mode::RWXU),
        (c"/run/systemd", DIRECTORY),
        (c"/run/systemd/system", DIRECTORY),
        (c"/run/systemd/system/systemd-remount-fs.service.d", DIRECTORY),
    ] {
        mkdir(folder, mode)?;
    }
    if !signed {
        symlink(known.device, c"/run/systemd/volatile-root")?;
    }
    file(
        c"/run/systemd/system/systemd-remount-fs.service.d/50-ostree-prepare-root.conf",
        known.dropin.to_bytes(),
    )?;

    let image = keep(fsopen(c"erofs", FsOpenFlags::FSOPEN_CLOEXEC)?);
    fsconfig_set_string(image, c"source", &*path(known.deployment, b"/.ostree.cfs"))?;
    fsconfig_set_flag(image, c"noacl")?;
    let image = create(image, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let root = keep(fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?);
    fsconfig_set_string(root, c"source", c"composefs")?;
    fsconfig_set_string(root, c"metacopy", c"on")?;
    if signed {
        fsconfig_set_string(root, c"verity", c"require")?;
    }
    fsconfig_set_fd(root, c"lowerdir+", image)?;
    fsconfig_set_string(root, c"datadir+", c"/sysroot/ostree/repo/objects")?;
    if transient {
        mkdir(c"/run/ostree/.private/root", DIRECTORY)?;
        mkdir(c"/run/ostree/.private/root/upper", DIRECTORY)?;
        mkdir(c"/run/ostree/.private/root/work", Mode::RWXU)?;
        fsconfig_set_string(root, c"upperdir", c"/run/ostree/.private/root/upper")?;
        fsconfig_set_string(root, c"workdir", c"/run/ostree/.private/root/work")?;
    }
    let writable = if transient { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
    let root = create(root, writable)?;

    if transient {
        attach(transient_etc(root)?, root, c"etc")?;
    } else {
        attach(clone(&path(known.deployment, b"/etc"))?, root, c"etc")?;
    }
    disk_and_var(root, known)?;
    finish(root, known)
}

/// The new root, where a directory is that.
fn deployment(known: &Known) -> io::Result<Handle> {
    private_folder()?;
    let root = clone(known.deployment)?;
    set(root, false, 0, libc::MS_PRIVATE)?;
    Ok(root)
}

/// The disk, read-only, and `/var` in it, writable.
fn disk_and_var(root: Handle, known: &Known) -> io::Result<()> {
    let disk = clone(c"/sysroot")?;
    set(disk, false, libc::MOUNT_ATTR_RDONLY, libc::MS_PRIVATE)?;
    attach(disk, root, c"sysroot")?;
    // Below the new root, it is where it was below /.
    let place = CStr::from_bytes_with_nul(&known.var.to_bytes_with_nul()[1..]).map_err(|_| Errno::INVAL)?;
    attach(clone(known.var)?, root, place)
}

/// An overlay over `/usr/etc` of the new root.
fn transient_etc(root: Handle) -> io::Result<Handle> {
    mkdir(c"/run/ostree/transient-etc.000000", Mode::RWXU)?;
    mkdir(c"/run/ostree/transient-etc.000000/upper", DIRECTORY)?;
    mkdir(c"/run/ostree/transient-etc.000000/work", DIRECTORY)?;
    let lower = keep(openat(root, c"usr/etc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let etc = keep(fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?);
    fsconfig_set_string(etc, c"source", c"overlay")?;
    fsconfig_set_fd(etc, c"lowerdir+", lower)?;
    fsconfig_set_string(etc, c"upperdir", c"/run/ostree/transient-etc.000000/upper")?;
    fsconfig_set_string(etc, c"workdir", c"/run/ostree/transient-etc.000000/work")?;
    create(etc, MountAttrFlags::empty())
}

/// Puts the new root where the disk is, and says so.
fn finish(root: Handle, known: &Known) -> io::Result<()> {
    let mut booted = [0; 512];
    file(c"/run/ostree-booted", from_hexadecimal(known.booted, &mut booted)?)?;
    let beneath = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_BENEATH;
    move_mount(root, c"", CWD, c"/sysroot", beneath)?;
    unmount(c"/sysroot", UnmountFlags::DETACH)?;
    set(root, true, 0, libc::MS_PRIVATE)?;
    let log = keep(open(c"/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?);
    write(log, known.line.to_bytes())?;
    Ok(())
}

const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

fn private_folder() -> io::Result<()> {
    mkdir(c"/run/ostree", DIRECTORY)?;
    mkdir(c"/run/ostree/.private", Mode::empty())
}

fn file(path: &CStr, contents: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    write(keep(open(path, flags, Mode::from_raw_mode(0o644))?), contents)?;
    Ok(())
}

fn clone(path: &CStr) -> io::Result<Handle> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(keep(open_tree(CWD, path, flags)?))
}

fn create(context: Handle, attributes: MountAttrFlags) -> io::Result<Handle> {
    fsconfig_create(context)?;
    Ok(keep(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
}

fn attach(mount: Handle, root: Handle, place: &CStr) -> io::Result<()> {
    move_mount(mount, c"", root, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn set(mount: Handle, recursive: bool, attributes: u64, propagation: u64) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` a `struct mount_attr` of the size given; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

fn keep(file: OwnedFd) -> Handle {
    // SAFETY: nobody closes it before the end of the program.
    unsafe { BorrowedFd::borrow_raw(file.into_raw_fd()) }
}

/// A path put together, on the stack.
struct Path([u8; 256]);

fn path(start: &CStr, end: &[u8]) -> Path {
    let mut path = Path([0; 256]);
    let bytes = start.to_bytes().iter().chain(end);
    // The last byte stays 0.
    path.0[..255].iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    path
}

impl core::ops::Deref for Path {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

fn from_hexadecimal<'a>(digits: &CStr, bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let (pairs, _) = digits.to_bytes().as_chunks::<2>();
    let value = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
    let bytes = bytes.get_mut(..pairs.len()).ok_or(Errno::NAMETOOLONG)?;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high) << 4 | value(*low);
    }
    Ok(bytes)
}
