//! An init that only says when it was started, and switches the guest off.

use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    // This clock begins with the kernel's own, which the times in its log are of.
    let now = clock_gettime(ClockId::Monotonic);
    // A line of its own, whatever the kernel is writing.
    println!("\nprepare-root-stopwatch: started at {}.{:06}", now.tv_sec, now.tv_nsec / 1000);
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("prepare-root-stopwatch: switch off: {error}");
    }
}
