//! When nothing more can be done.

use crate::clock;
use crate::lookup;
use crate::syscall;
use core::time::Duration;
use rustix::system::RebootCommand;
use rustix::termios::QueueSelector;

/// What comes after the explanation: `panic=` (`Documentation/admin-guide/kernel-parameters.txt`) says how a machine
/// goes on with which nothing more can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Somebody reads, and presses a key.
    Wait,
    /// It is started again after that time.
    Reboot(Duration),
}

impl Then {
    /// `panic`: the seconds, as the kernel has them.
    fn of(panic: &[u8]) -> Then {
        let seconds = str::from_utf8(panic.trim_ascii()).ok().and_then(|panic| panic.parse::<i64>().ok());
        match seconds {
            None | Some(0) => Then::Wait,
            Some(seconds) => Then::Reboot(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
        }
    }
}

/// Starts the machine again when it is time to, after the explanation. Process 1 must not end: the kernel
/// would panic, and its report hide the explanation.
pub fn dead_end() -> ! {
    // What `panic=` says, or else the kernel's own configuration.
    let panic = lookup::read(c"/proc/sys/kernel/panic").ok().flatten();
    match Then::of(&panic.unwrap_or_default()) {
        Then::Reboot(time) => {
            log::warn!("panic= asks for it: the machine starts again in {} s", time.as_secs());
            clock::sleep(time);
        }
        Then::Wait => {
            // Not what was typed meanwhile.
            let _ = rustix::termios::tcflush(syscall::stdin(), QueueSelector::IFlush);
            syscall::say(syscall::stderr(), b"Press Enter to reboot.\n");
            // Without a console there is nobody.
            if !matches!(rustix::io::read(syscall::stdin(), &mut [0; 1]), Ok(1..)) {
                wait_forever();
            }
        }
    }
    // Nothing was written, and a disk that fails must not keep us from it.
    let _ = rustix::system::reboot(RebootCommand::Restart);
    wait_forever()
}

fn wait_forever() -> ! {
    loop {
        rustix::event::pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_says_how_to_go_on() {
        assert_eq!(Then::of(b"0\n"), Then::Wait);
        assert_eq!(Then::of(b"30\n"), Then::Reboot(Duration::from_secs(30)));
        assert_eq!(Then::of(b"-1\n"), Then::Reboot(Duration::ZERO));
        assert_eq!(Then::of(b""), Then::Wait);
    }
}
