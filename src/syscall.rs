//! System calls without a safe wrapper in rustix 1.1, each with the reason it is needed. All `unsafe`
//! of the library is here.

#![allow(unsafe_code)]

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// What `mount_setattr(2)` changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// `Some(true)` sets the mount read-only, `Some(false)` lifts that, `None` leaves it.
    pub readonly: Option<bool>,
    /// The new propagation type, if any.
    pub propagation: Option<Propagation>,
}

/// A propagation type.
#[derive(Clone, Copy, Debug)]
pub enum Propagation {
    /// `MS_PRIVATE`
    Private,
    /// `MS_SHARED`
    Shared,
}

/// Changes a mount and, with `recursive`, all mounts below it; all or none (Linux 5.12).
pub fn mount_setattr(mount: impl AsFd, recursive: bool, attributes: Attributes) -> rustix::io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: if attributes.readonly == Some(true) { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: if attributes.readonly == Some(false) { libc::MOUNT_ATTR_RDONLY } else { 0 },
        propagation: match attributes.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` a `struct mount_attr` of the size given; both live
    // until the call returns, and the kernel only reads them.
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
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Whether something is mounted below a mount, by its unique number (`listmount(2)`, Linux 6.8).
///
/// # Errors
/// ENOSYS from older kernels; ENOENT for a mount that is not in our mount namespace.
pub fn has_mounts_below(mount: u64) -> rustix::io::Result<bool> {
    /// `struct mnt_id_req` of `linux/mount.h`, `MNT_ID_REQ_SIZE_VER0`.
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        after: u64,
    }
    /// The same on all architectures.
    const SYS_LISTMOUNT: libc::c_long = 458;
    let request = Request { size: size_of::<Request>() as u32, spare: 0, mount, after: 0 };
    let mut found = 0_u64;
    // SAFETY: the request has the size that it says, and the kernel writes one number at most.
    let count = unsafe { libc::syscall(SYS_LISTMOUNT, &raw const request, &raw mut found, 1_usize, 0_u32) };
    if count >= 0 { Ok(count > 0) } else { Err(last_errno()) }
}

/// Whether this process has the rights of root. The kernel told that at its start (`AT_EUID`, `getauxval(3)`).
pub fn is_root() -> bool {
    // SAFETY: it reads what the kernel left on the stack.
    unsafe { libc::getauxval(libc::AT_EUID) == 0 }
}

/// Gives this process a mount namespace of its own.
pub fn unshare_mounts() -> rustix::io::Result<()> {
    // SAFETY: the call is unsafe for `CLONE_FILES`, which lets file descriptors diverge between threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// A second process like this one (`fork(2)`): `None` in that, its number here.
pub fn fork() -> rustix::io::Result<Option<Pid>> {
    // SAFETY: there are no other threads, whose locks the second process would have for ever.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        number => Ok(Pid::from_raw(number)),
    }
}

/// Becomes another program, with these arguments after its own name. Returns only why not (`execve(2)`).
pub fn execute(path: &CStr, arguments: &[CString]) -> Errno {
    let mut pointers: Vec<*const libc::c_char> = vec![path.as_ptr()];
    pointers.extend(arguments.iter().map(|argument| argument.as_ptr()));
    pointers.push(core::ptr::null());
    // SAFETY: a C string, and an array of such that ends with a null pointer; all live until the call returns.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    last_errno()
}

/// Ends this process.
pub fn exit(status: i32) -> ! {
    // SAFETY: nothing is left to be done: no buffers, no handlers.
    unsafe { libc::_exit(status) }
}

/// The time since some moment (`CLOCK_MONOTONIC`), from the C library, which can ask without a system call.
pub fn monotonic_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives until the call returns. It cannot fail: every kernel has that clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The C library's words for an errno.
pub fn error_text(errno: Errno) -> String {
    let mut text = [0; 128];
    // SAFETY: at most that many bytes are written, with a NUL at the end.
    unsafe { libc::strerror_r(errno.raw_os_error(), text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy().into_owned()
}

/// Standard input.
pub fn stdin() -> BorrowedFd<'static> {
    standard_file(libc::STDIN_FILENO)
}

/// The number of this process. Its only thread has the same, which the C library knows from its start.
pub fn process() -> u32 {
    // SAFETY: it has no conditions.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// Standard output.
pub fn stdout() -> BorrowedFd<'static> {
    standard_file(libc::STDOUT_FILENO)
}

/// Standard error.
pub fn stderr() -> BorrowedFd<'static> {
    standard_file(libc::STDERR_FILENO)
}

fn standard_file(number: i32) -> BorrowedFd<'static> {
    // SAFETY: it is open before the program begins, and nobody closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Writes to a standard file. Whoever does not read it must not end us between two mounts, so from here on SIGPIPE is
/// ignored.
pub fn say(file: BorrowedFd<'_>, text: &[u8]) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // If nobody can read it, there is nobody to tell.
    let _ = crate::lookup::write_all(file, text);
}

/// Lets SIGPIPE end the process, as the kernel started it: a program that is executed inherits what [`say`] did.
pub fn default_pipe_signal() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The SHA-256 fs-verity digest of an open file, measured by the kernel
/// (`Documentation/filesystems/fsverity.rst`, Linux 5.4).
///
/// # Errors
/// ENODATA: the file has none. ENOTTY, EOPNOTSUPP: the kernel has no fs-verity for this file system,
/// or the file system was made without. EOVERFLOW: it is longer, that is, not SHA-256.
pub fn measure_verity(file: BorrowedFd<'_>) -> rustix::io::Result<[u8; 32]> {
    /// `struct fsverity_digest` with room for a digest.
    #[repr(C)]
    struct Measured {
        algorithm: u16,
        size: u16,
        digest: [u8; 32],
    }
    /// `_IOWR('f', 134, struct fsverity_digest)`, whose size is without the digest.
    const FS_IOC_MEASURE_VERITY: u32 = read_write(b'f', 134, 4);
    const FS_VERITY_HASH_ALG_SHA256: u16 = 1;
    let mut measured = Measured { algorithm: 0, size: 32, digest: [0; 32] };
    // SAFETY: the kernel writes at most `size` bytes to `digest`.
    unsafe { ioctl(file, FS_IOC_MEASURE_VERITY, (&raw mut measured).addr()) }?;
    match measured {
        Measured { algorithm: FS_VERITY_HASH_ALG_SHA256, size: 32, digest } => Ok(digest),
        _ => Err(Errno::OVERFLOW),
    }
}

/// A read-only loop device of `file` that disappears with its last user, and its path (`loop(4)`,
/// `LOOP_CONFIGURE`: Linux 5.8).
///
/// # Errors
/// ENOENT, ENXIO: there are no loop devices.
pub fn loop_device(file: BorrowedFd<'_>) -> rustix::io::Result<(OwnedFd, CString)> {
    /// `struct loop_config` of `linux/loop.h`, with the fields of `struct loop_info64` that follow
    /// the flags in one piece.
    #[repr(C)]
    struct Config {
        fd: u32,
        block_size: u32,
        before_flags: [u64; 5],
        numbers: [u32; 3],
        flags: u32,
        after_flags: [u64; 22],
        reserved: [u64; 8],
    }
    const LOOP_CTL_GET_FREE: u32 = 0x4c82;
    const LOOP_CONFIGURE: u32 = 0x4c0a;
    const LO_FLAGS_READ_ONLY: u32 = 1;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    /// How often another process may be faster in taking the free device.
    const TRIES: usize = 64;

    let open = |path: &CStr, flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
    let control = open(c"/dev/loop-control", OFlags::RDWR)?;
    let config = Config {
        fd: file.as_raw_fd().cast_unsigned(),
        block_size: 0,
        before_flags: [0; 5],
        numbers: [0; 3],
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        after_flags: [0; 22],
        reserved: [0; 8],
    };
    let mut tries = 0;
    loop {
        tries += 1;
        // SAFETY: it takes no argument.
        let number = unsafe { ioctl(control.as_fd(), LOOP_CTL_GET_FREE, 0) }?;
        let path = CString::new(format!("/dev/loop{number}")).unwrap_or_default();
        let device = open(&path, OFlags::RDONLY);
        let configured = device.and_then(|device| {
            // SAFETY: `config` is as large as the kernel's structure, which it only reads.
            unsafe { ioctl(device.as_fd(), LOOP_CONFIGURE, (&raw const config).addr()) }?;
            Ok(device)
        });
        match configured {
            // Taken, or removed again.
            Err(Errno::BUSY | Errno::NOENT | Errno::NXIO) if tries < TRIES => {}
            configured => return Ok((configured?, path)),
        }
    }
}

/// The path of the device of a btrfs that has only one (`linux/btrfs.h`); its files have a device
/// number that belongs to no device.
///
/// # Errors
/// ENOTTY for another file system; ENODEV for a btrfs of several devices.
pub fn btrfs_device(directory: BorrowedFd<'_>) -> rustix::io::Result<CString> {
    /// `struct btrfs_ioctl_fs_info_args`
    #[repr(C)]
    struct FsInfo {
        max_id: u64,
        num_devices: u64,
        rest: [u64; 126],
    }
    /// `struct btrfs_ioctl_dev_info_args`
    #[repr(C)]
    struct DeviceInfo {
        id: u64,
        rest: [u64; 383],
        path: [u8; 1024],
    }
    const BTRFS_IOC_FS_INFO: u32 = read_only(0x94, 31, 1024);
    const BTRFS_IOC_DEV_INFO: u32 = read_write(0x94, 30, 4096);
    let mut info = FsInfo { max_id: 0, num_devices: 0, rest: [0; 126] };
    // SAFETY: `info` is as large as the kernel's structure.
    unsafe { ioctl(directory, BTRFS_IOC_FS_INFO, (&raw mut info).addr()) }?;
    if info.num_devices != 1 {
        return Err(Errno::NODEV);
    }
    // Numbers are given once; after replacements the only device may have a higher one. The highest
    // is what the disk says, so it is not believed.
    for id in 1..=info.max_id.min(1 << 12) {
        let mut device = DeviceInfo { id, rest: [0; 383], path: [0; 1024] };
        // SAFETY: `device` is as large as the kernel's structure.
        match unsafe { ioctl(directory, BTRFS_IOC_DEV_INFO, (&raw mut device).addr()) } {
            Err(Errno::NODEV) => {}
            Err(errno) => return Err(errno),
            Ok(_) => {
                return CStr::from_bytes_until_nul(&device.path).map(CString::from).map_err(|_| Errno::INVAL);
            }
        }
    }
    Err(Errno::NODEV)
}

/// `_IOR` of `asm-generic/ioctl.h`, which x86, Arm and RISC-V share.
const fn read_only(kind: u8, number: u8, size: u32) -> u32 {
    2 << 30 | size << 16 | (kind as u32) << 8 | number as u32
}

/// `_IOWR`
const fn read_write(kind: u8, number: u8, size: u32) -> u32 {
    3 << 30 | size << 16 | (kind as u32) << 8 | number as u32
}

/// # Safety
/// `argument` must be what the request wants.
unsafe fn ioctl(file: BorrowedFd<'_>, request: u32, argument: usize) -> rustix::io::Result<i64> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, file.as_raw_fd(), request, argument) };
    if result >= 0 { Ok(result) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    // SAFETY: the address is that of this thread's errno.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_headers() {
        // FS_IOC_MEASURE_VERITY, BTRFS_IOC_FS_INFO, BTRFS_IOC_DEV_INFO as a C compiler has them.
        assert_eq!(read_write(b'f', 134, 4), 0xc004_6686);
        assert_eq!(read_only(0x94, 31, 1024), 0x8400_941f);
        assert_eq!(read_write(0x94, 30, 4096), 0xd000_941e);
    }

    #[test]
    fn a_file_without_verity_is_told_from_one_with() {
        let file = rustix::fs::open("/proc/self/exe", OFlags::RDONLY, Mode::empty()).unwrap();
        let errno = measure_verity(file.as_fd()).unwrap_err();
        assert!([Errno::NODATA, Errno::NOTTY, Errno::OPNOTSUPP].contains(&errno), "{errno}");
    }
}
