//! What can go wrong: the operation, the object, the cause, and what to do about it.

use crate::syscall;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;
use rustix::io::Errno;

/// A class of failure; its number is the exit status (table in `ostree-prepare-root(8)`).
///
/// The numbers are an interface: scripts and units may test them, so none is ever reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Wrong options or a wrong number of arguments.
    Usage = 2,
    /// The caller lacks the privileges to mount.
    Permission = 3,
    /// The kernel command line does not name a deployment, or has a value we do not know.
    Cmdline = 4,
    /// `prepare-root.conf` cannot be read, parsed or obeyed.
    Config = 5,
    /// SYSROOT is not a mounted physical root.
    Sysroot = 6,
    /// `ostree=` does not lead to a deployment inside the physical root.
    Deployment = 7,
    /// The deployment lacks a directory that the new root needs.
    Incomplete = 8,
    /// The configuration asks for what this program or the running kernel does not offer.
    Unsupported = 9,
    /// A mount failed; everything done so far was undone.
    Mount = 10,
    /// The files under `/run` cannot be written; everything done so far was undone.
    Run = 11,
    /// A failure could not be undone: the mount table is not as it was before.
    Undo = 12,
    /// A signature is demanded, and the deployment or its image does not prove to be the signed one.
    Verification = 13,
}

impl Class {
    /// Whether another deployment, or another kernel command line, may do better.
    pub fn another_may_help(self) -> bool {
        self == Class::Cmdline || self.is_about_the_deployment()
    }

    /// Whether another deployment may do better.
    pub fn is_about_the_deployment(self) -> bool {
        matches!(self, Class::Deployment | Class::Incomplete | Class::Mount | Class::Verification)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// The kernel's answer.
    Errno(Errno),
    /// What was found instead of what was needed.
    Found(String),
}

/// A failure: "`operation and object`: `cause`", and a hint what to do.
///
/// Boxed, because every `?` moves one: that alone is 10 kB of the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Failure>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    class: Class,
    operation: String,
    cause: Cause,
    hint: Option<String>,
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// The kernel refused `operation`, which names its object ("follow ostree=/ostree/boot.1/…").
    pub fn errno(class: Class, operation: impl Into<String>, errno: Errno) -> Self {
        Error::new(class, operation.into(), Cause::Errno(errno))
    }

    /// `operation` is impossible because of what was found.
    pub fn found(class: Class, operation: impl Into<String>, found: impl Into<String>) -> Self {
        Error::new(class, operation.into(), Cause::Found(found.into()))
    }

    fn new(class: Class, operation: String, cause: Cause) -> Self {
        Error(Box::new(Failure { class, operation, cause, hint: None }))
    }

    /// Adds what a person at the console can do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds that another way was tried before, and how it failed.
    pub fn after(mut self, other: Option<Error>) -> Self {
        if let Some(other) = other {
            let Failure { operation, cause, .. } = &*other.0;
            self.0.cause = Cause::Found(format!(
                "{} (another way was tried before: {operation}: {cause})",
                self.0.cause
            ));
        }
        self
    }

    /// Without the hint, on one line.
    pub fn summary(&self) -> String {
        format!("{}: {}", self.0.operation, self.0.cause)
    }

    /// Only what was found.
    pub fn cause(&self) -> String {
        self.0.cause.to_string()
    }

    /// The hint.
    pub fn what_to_do(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The class, which decides the exit status.
    pub fn class(&self) -> Class {
        self.0.class
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Errno(errno) => f.write_str(&describe(*errno)),
            Cause::Found(found) => f.write_str(found),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { operation, cause, hint, .. } = &*self.0;
        write!(f, "{operation}: {cause}")?;
        match hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error {}

/// An errno in words and by name: "No such file or directory (ENOENT)".
pub fn describe(errno: Errno) -> String {
    let name = match errno {
        Errno::ACCESS => "EACCES",
        Errno::AGAIN => "EAGAIN",
        Errno::BADF => "EBADF",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::FBIG => "EFBIG",
        Errno::INVAL => "EINVAL",
        Errno::IO => "EIO",
        Errno::LOOP => "ELOOP",
        Errno::NODATA => "ENODATA",
        Errno::NOTBLK => "ENOTBLK",
        Errno::NOTTY => "ENOTTY",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::NXIO => "ENXIO",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NODEV => "ENODEV",
        Errno::NOENT => "ENOENT",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSPC => "ENOSPC",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTDIR => "ENOTDIR",
        Errno::PERM => "EPERM",
        Errno::ROFS => "EROFS",
        Errno::XDEV => "EXDEV",
        _ => "",
    };
    let text = syscall::error_text(errno);
    match name {
        "" => format!("{text} (os error {})", errno.raw_os_error()),
        name => format!("{text} ({name})"),
    }
}

/// Bytes from outside (a path, a kernel argument) made safe to print on a console: everything but
/// printable ASCII is escaped.
pub fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_cause_and_what_to_do() {
        let error = Error::errno(Class::Deployment, "follow ostree=/x", Errno::NOENT).hint("try y");
        assert_eq!(error.to_string(), "follow ostree=/x: No such file or directory (ENOENT)\ntry y");
    }

    #[test]
    fn a_second_failure_does_not_hide_the_first() {
        let first = Error::errno(Class::Mount, "mount x", Errno::INVAL).hint("first");
        let second = Error::errno(Class::Unsupported, "find a device", Errno::NOENT).hint("second");
        let both = second.after(Some(first)).to_string();
        let expected = "find a device: No such file or directory (ENOENT) \
                        (another way was tried before: mount x: Invalid argument (EINVAL))\nsecond";
        assert_eq!(both, expected);
    }

    #[test]
    fn an_errno_without_a_name_keeps_its_number() {
        assert!(describe(Errno::NOTUNIQ).ends_with("(os error 76)"));
    }

    #[test]
    fn names_from_the_disk_cannot_drive_the_terminal() {
        assert_eq!(printable(b"a\x1b[2J\n\xff"), r"a\x1b[2J\n\xff");
    }
}
