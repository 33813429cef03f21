//! Handing over to the init of the new root.

use crate::cmdline::Cmdline;
use crate::error::{Class, Error, Result, printable};
use crate::syscall;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::convert::Infallible;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Where the kernel looks for init when nobody names one (`kernel_init` in `init/main.c`).
const USUAL: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// What to start, in the order in which it is tried. Where `init=` names this program, that is how the kernel found
/// it, or was when there was no initramfs: libostree leaves the argument in boot entries.
pub fn candidates(cmdline: &Cmdline) -> Vec<CString> {
    match cmdline.init() {
        Some(path) if !path.ends_with(b"/ostree-prepare-root") => CString::new(path).into_iter().collect(),
        _ => USUAL.into_iter().filter_map(|path| CString::new(path).ok()).collect(),
    }
}

/// Looks whether one of them is there, in the directory that is going to be the root.
///
/// # Errors
/// [`Class::Incomplete`]
pub fn check(root: &[u8], candidates: &[CString]) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fail = |errno| cannot_start(candidates, errno);
    let root = rustix::fs::openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty()).map_err(fail)?;
    // Links are those of the running system: an absolute one begins at its root directory.
    let open = |path| rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    if candidates.iter().any(|path| open(path.as_c_str()).is_ok()) { Ok(()) } else { Err(fail(Errno::NOENT)) }
}

/// Becomes init, with the arguments that the kernel had for it.
///
/// # Errors
/// [`Class::Incomplete`]: none of the candidates can be started.
pub fn become_init(candidates: &[CString], arguments: &[Vec<u8>]) -> Result<Infallible> {
    // As the kernel would have started it: this program ignores SIGPIPE, and creates files with the modes they are given.
    syscall::default_pipe_signal();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let arguments: Vec<CString> =
        arguments.iter().skip(1).filter_map(|argument| CString::new(argument.as_slice()).ok()).collect();
    let mut failure = Errno::NOENT;
    for path in candidates {
        // Another cause says more than that the next one does not exist either.
        match syscall::execute(path, &arguments) {
            Errno::NOENT => {}
            errno => failure = errno,
        }
    }
    Err(cannot_start(candidates, failure))
}

fn cannot_start(candidates: &[CString], errno: Errno) -> Error {
    let tried = candidates.iter().map(|path| printable(path.to_bytes())).collect::<Vec<_>>().join(", ");
    Error::errno(Class::Incomplete, format!("start init ({tried})"), errno)
        .hint("boot another deployment, or name a program with init= on the kernel command line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_init_counts() {
        let named = |cmdline: &str| candidates(&Cmdline::new(cmdline));
        assert_eq!(named("init=/bin/a init=/bin/b -- init=/bin/c"), [c"/bin/b".to_owned()]);
        assert_eq!(named("quiet").first().map(CString::as_c_str), Some(c"/sbin/init"));
        // That is us.
        assert_eq!(named("init=/ostree/boot.1/x/y/0/usr/lib/ostree/ostree-prepare-root").len(), 4);
    }
}
