//! An init that only says when it was started, and switches the guest off.

use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, clock_gettime};

/// What it is called in the kernel's log.
const NAME: &str = "prepare-root-stopwatch";

fn main() {
    // This clock begins with the kernel's own, which the times in its log are of.
    let now = clock_gettime(ClockId::Monotonic);
    // The kernel prints it as a line of its own, whatever else it is printing.
    match kernlog::init() {
        Ok(()) => log::info!(target: NAME, "started at {}.{:06}", now.tv_sec, now.tv_nsec / 1000),
        Err(error) => println!("{NAME}: open /dev/kmsg: {error}"),
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        log::error!(target: NAME, "switch off: {error}");
    }
}
