//! Runs a program once in a mount namespace of its own and tells what that took.
//!
//!     launch time|steps [--bind FROM TO]... PROGRAM [ARGUMENT]...
//!
//! It is as small as `nothing`, since a program begins with the peak memory of who started it (`ru_maxrss` in
//! getrusage(2)). Beforehand it makes the mount namespace, in which all mounts are shared among themselves, mounts an
//! empty tmpfs on `/run`, and binds what it is told to. None of that is part of the times.
//!
//! The answer is six numbers of eight bytes on standard output, see [`Answer`]. With `steps` the program is run one
//! instruction at a time (`PTRACE_SINGLESTEP`), and the instructions are counted.

#![cfg_attr(panic = "abort", no_std)]
#![no_main]
#![allow(
    unsafe_code,
    reason = "processes that share their memory; and the C library calls a function by its name"
)]

mod without_std;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null;

/// What the program took.
#[repr(C)]
struct Answer {
    /// From before `execve` to after `wait4`, in nanoseconds.
    wall: i64,
    /// User and system time, in microseconds.
    user: i64,
    system: i64,
    /// Peak memory, in KiB.
    memory: i64,
    /// Instructions in user space; 0 if they were not counted.
    steps: i64,
    /// As `wait4` has it.
    status: i64,
}

/// What the child process uses; it shares the memory of this one, which waits.
struct Start {
    arguments: *const *const c_char,
    environment: [*const c_char; 2],
    traced: bool,
    clock: i64,
}

/// The child needs no more.
const STACK: usize = 16 << 10;

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: the C library passes `count` pointers to C strings and a null pointer after them, and what is called
    // gets those or constants.
    unsafe { launch(count, arguments) }
}

unsafe fn launch(count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: as the caller promises; an index is compared with `count` before it is used.
    unsafe {
        let argument =
            |index: c_int| (index < count).then(|| CStr::from_ptr(*arguments.offset(index as isize)));
        let traced = match argument(1).map(CStr::to_bytes) {
            Some(b"time") => false,
            Some(b"steps") => true,
            _ => return fail(c"usage: launch time|steps [--bind FROM TO]... PROGRAM [ARGUMENT]..."),
        };
        if libc::unshare(libc::CLONE_NEWNS) != 0 || change(libc::MS_PRIVATE) != 0 {
            return fail(c"make a mount namespace");
        }
        let mut at = 2;
        while argument(at) == Some(c"--bind") {
            let (Some(from), Some(to)) = (argument(at + 1), argument(at + 2)) else { return fail(c"--bind") };
            if libc::mount(from.as_ptr(), to.as_ptr(), null(), libc::MS_BIND, null()) != 0 {
                return fail(c"bind");
            }
            at += 3;
        }
        let (run, tmpfs) = (c"/run".as_ptr(), c"tmpfs".as_ptr());
        libc::umount2(run, libc::MNT_DETACH);
        if libc::mount(tmpfs, run, tmpfs, 0, c"mode=0755".as_ptr().cast()) != 0 {
            return fail(c"mount /run");
        }
        if change(libc::MS_SHARED) != 0 {
            return fail(c"make mounts shared");
        }
        if at >= count {
            return fail(c"no program");
        }
        if traced {
            stay_on_one_processor();
        }
        let environment = [c"PATH=/usr/sbin:/usr/bin".as_ptr(), null()];
        let mut start = Start { arguments: arguments.offset(at as isize), environment, traced, clock: 0 };
        measure(&mut start)
    }
}

unsafe fn measure(start: &mut Start) -> c_int {
    let mut stack = [0_u128; STACK / 16];
    let mut answer = Answer { wall: 0, user: 0, system: 0, memory: 0, steps: 0, status: 0 };
    // SAFETY: with CLONE_VFORK this process goes on when the child has executed the program or ended, so that the
    // stack and `start`, which the child uses, are there for as long. All else are pointers to what lives here.
    unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let child = libc::clone(execute, top, flags, (&raw mut *start).cast());
        if child < 0 {
            return fail(c"start a process");
        }
        let mut status = 0;
        let mut usage = core::mem::zeroed::<libc::rusage>();
        libc::wait4(child, &raw mut status, 0, &raw mut usage);
        while start.traced && libc::WIFSTOPPED(status) {
            answer.steps += 1;
            // A signal of its own is its own; the trap is ours.
            let signal = libc::WSTOPSIG(status);
            let signal = if signal == libc::SIGTRAP { 0 } else { signal };
            libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, signal);
            libc::wait4(child, &raw mut status, 0, &raw mut usage);
        }
        answer.wall = now() - start.clock;
        answer.user = microseconds(usage.ru_utime);
        answer.system = microseconds(usage.ru_stime);
        answer.memory = usage.ru_maxrss;
        answer.status = i64::from(status);
        let length = size_of::<Answer>();
        let written = libc::write(1, (&raw const answer).cast(), length);
        c_int::from(usize::try_from(written) != Ok(length))
    }
}

extern "C" fn execute(start: *mut c_void) -> c_int {
    // SAFETY: `measure` passes this pointer, and waits.
    unsafe {
        let start = &mut *start.cast::<Start>();
        let nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        libc::dup2(nowhere, 0);
        // Standard error tells why something failed.
        libc::dup2(nowhere, 1);
        libc::close(nowhere);
        if start.traced {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        }
        start.clock = now();
        libc::execve(*start.arguments, start.arguments, start.environment.as_ptr());
        libc::_exit(127)
    }
}

/// There, each of the many switches between the two processes takes a fraction of the time.
fn stay_on_one_processor() {
    // SAFETY: a set of processors is plain numbers, and so large.
    unsafe {
        let mut processors = core::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(libc::sched_getcpu().unsigned_abs() as usize, &mut processors);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const processors);
    }
}

fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a `struct timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn microseconds(time: libc::timeval) -> i64 {
    time.tv_sec * 1_000_000 + time.tv_usec
}

/// Sets the propagation of all mounts.
unsafe fn change(propagation: libc::c_ulong) -> c_int {
    // SAFETY: the path is a C string, and nothing else is looked at.
    unsafe { libc::mount(null(), c"/".as_ptr(), null(), propagation | libc::MS_REC, null()) }
}

/// Says what could not be done.
fn fail(what: &CStr) -> c_int {
    for text in [c"launch: ", what, c"\n"] {
        // SAFETY: so many bytes are there.
        unsafe { libc::write(2, text.as_ptr().cast(), text.count_bytes()) };
    }
    1
}
