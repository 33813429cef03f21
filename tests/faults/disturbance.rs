//! One thing done to a run.

use crate::support::trace::Call;
use std::fmt;

/// What happens when a system call is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Disturbance {
    pub call: Call,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// It fails with that error, and nothing else happens.
    Error(&'static str),
    /// It and all later ones of its name fail.
    ErrorFromThereOn(&'static str),
    /// It fails so often as long as something is mounted or renamed anywhere on the machine.
    TryAgain(usize),
    /// SIGKILL, and the call is not made.
    Kill,
}

/// The errors with which any call may fail. ENOSYS: of a call that every kernel has which we serve.
const ERRORS: [&str; 4] = ["EIO", "ENOMEM", "EPERM", "ENOSYS"];

/// The errors with which older kernels refuse what is newer
const OLDER: [&str; 4] = ["EINVAL", "EBADF", "EOPNOTSUPP", "ENOTBLK"];

/// and is asked for by one of these.
const NEWER: [&str; 4] = ["open_tree", "move_mount", "fsconfig", "mount_setattr"];

impl Disturbance {
    /// All the ways in which a call can fail.
    pub fn failures(call: &Call) -> Vec<Disturbance> {
        let older: &[&str] = if NEWER.contains(&call.name.as_str()) { &OLDER } else { &[] };
        let errors = ERRORS.iter().chain(older);
        errors.map(|&error| Disturbance { call: call.clone(), what: What::Error(error) }).collect()
    }

    pub fn kill(call: &Call) -> Disturbance {
        Disturbance { call: call.clone(), what: What::Kill }
    }

    /// Whether it is what an older kernel would do.
    pub fn is_of_older_kernels(&self) -> bool {
        matches!(self.what, What::Error(error) if OLDER.contains(&error))
    }

    /// Whether the trace says that the call was made and failed.
    pub fn happened_in(&self, trace: &str) -> bool {
        let start = format!("{}(", self.call.name);
        let lines = trace.lines().filter(|line| line.contains(&start) && line.ends_with("(INJECTED)"));
        match self.what {
            What::TryAgain(times) => lines.count() == times,
            _ => lines.count() > 0,
        }
    }

    /// For strace's option `-e`.
    pub fn expression(&self) -> String {
        let Call { name, number } = &self.call;
        match self.what {
            What::Error(error) => format!("inject={name}:error={error}:when={number}"),
            What::ErrorFromThereOn(error) => format!("inject={name}:error={error}:when={number}+"),
            What::TryAgain(times) => {
                format!("inject={name}:error=EAGAIN:when={number}..{}", number + times - 1)
            }
            What::Kill => format!("inject={name}:signal=KILL:when={number}"),
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Error(error) => write!(f, "{} failed with {error}", self.call),
            What::ErrorFromThereOn(error) => write!(f, "{} and all after it failed with {error}", self.call),
            What::TryAgain(times) => write!(f, "{} had to be tried again {times} times", self.call),
            What::Kill => write!(f, "killed at {}", self.call),
        }
    }
}
