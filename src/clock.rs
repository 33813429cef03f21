//! Time, without the standard library: how long something takes, and waiting.

use crate::syscall;
use core::time::Duration;
use rustix::thread::{NanosleepRelativeResult, Timespec, nanosleep};

/// A moment.
#[derive(Clone, Copy, Debug)]
pub struct Instant(Duration);

impl Instant {
    /// This one.
    pub fn now() -> Instant {
        Instant(syscall::monotonic_time())
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        syscall::monotonic_time().saturating_sub(self.0)
    }
}

/// Waits for as long.
pub fn sleep(time: Duration) {
    let mut left = timespec(time);
    // A signal does not end it.
    while left != timespec(Duration::ZERO)
        && let NanosleepRelativeResult::Interrupted(rest) = nanosleep(&left)
    {
        left = rest;
    }
}

/// The kernel's form of it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_takes_time() {
        let start = Instant::now();
        sleep(Duration::ZERO);
        sleep(Duration::from_millis(2));
        assert!(start.elapsed() >= Duration::from_millis(2));
    }
}
