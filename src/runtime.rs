//! What the standard library would bring to the program, and nothing else: how it begins, its memory, and how a panic
//! ends it. docs/decisions.md has what that saves.

#![allow(unsafe_code)]

use crate::memory::Memory;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_int};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use prepare_root::syscall;
use rustix::fs::{CWD, Mode, OFlags};

// The C library: std would have named it to the linker.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

#[global_allocator]
static MEMORY: Memory = Memory::new();

/// What the C library calls when it is ready.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    if syscall::process() == 1 {
        open_standard_files();
    }
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the kernel made an array of so many C strings, and they live until the program ends.
    let argument = |index| unsafe { CStr::from_ptr(*arguments.add(index)) };
    let arguments: Vec<Vec<u8>> = (0..count).map(|index| argument(index).to_bytes().to_vec()).collect();
    crate::run(&arguments).0.into()
}

/// Where the kernel could not open a console for init, none of the three standard files is open. What is opened first would
/// get their numbers, and messages would be written to it. Any file that is always there will do; `/dev/null` is not yet.
///
/// A command needs no such care: what it opens first, and keeps open, cannot be written to, or is the kernel log.
fn open_standard_files() {
    let mut files = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: so many structures, which live until the call returns.
    unsafe { libc::poll(files.as_mut_ptr(), 3, 0) };
    for _ in files.iter().filter(|file| file.revents & libc::POLLNVAL != 0) {
        // SAFETY: a C string. The new descriptor is the lowest that is free, and belongs to nobody yet.
        unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) };
    }
}

/// What `/dev/kmsg` wants in front of a line: KERN_CRIT.
const CRITICAL: &str = "<2>";

/// A bug: says where, to those who may read it, and ends the program as `abort(3)` does. (As process 1 that makes the
/// kernel panic, which obeys `panic=`.)
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut line = Line { bytes: [0; 500], length: 0 };
    let (file, number) = info.location().map_or(("?", 0), |place| (place.file(), place.line()));
    let _ = writeln!(line, "{CRITICAL}ostree-prepare-root: PANIC at {file}:{number}: {}", info.message());
    let text = line.bytes.get(..line.length).unwrap_or_default();
    syscall::say(syscall::stderr(), text.get(CRITICAL.len()..).unwrap_or_default());
    if let Ok(log) = rustix::fs::openat(CWD, c"/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&log, text);
    }
    // SAFETY: it has no conditions.
    unsafe { libc::abort() }
}

/// A line in a place of its own: there may be no memory. What does not fit is left out.
struct Line {
    bytes: [u8; 500],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (free, byte) in self.bytes.iter_mut().skip(self.length).zip(text.bytes()) {
            *free = byte;
            self.length += 1;
        }
        Ok(())
    }
}
