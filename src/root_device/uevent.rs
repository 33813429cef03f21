//! What the kernel says when devices come and go: `NETLINK_KOBJECT_UEVENT`.

use crate::clock::{self, Instant};
use alloc::vec::Vec;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with};

/// The group that the kernel sends to; udev repeats what it made of it in another.
const KERNEL: u32 = 1;

/// `UEVENT_BUFFER_SIZE` of `include/linux/kobject.h`, and as much for the action and the path before it.
const MESSAGE: usize = 4096;

/// A socket on which all events arrive since it was opened. Opened before the first look at `/sys`, nothing is
/// missed.
#[derive(Debug)]
pub struct Monitor(OwnedFd);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block device came, went, or has changed: its name in `/sys/class/block`.
    Block(Vec<u8>),
    /// More happened than the kernel remembers.
    Lost,
    /// Nothing happened for as long.
    Nothing,
}

impl Monitor {
    /// Opens the socket.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`; EPROTONOSUPPORT, EAFNOSUPPORT: a kernel without.
    pub fn open() -> rustix::io::Result<Monitor> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::KOBJECT_UEVENT);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL))?;
        Ok(Monitor(socket))
    }

    /// Waits for the next event of a block device; without a limit if there is none.
    ///
    /// # Errors
    /// As `ppoll(2)` and `recv(2)`.
    pub fn next(&self, limit: Option<Duration>) -> rustix::io::Result<Event> {
        let start = Instant::now();
        // Any process may send to the group; what that does here is another look at a device.
        let mut message = [0; MESSAGE];
        loop {
            match recv(&self.0, &mut message, RecvFlags::empty()) {
                Ok((_, length)) => {
                    let message = message.get(..length).unwrap_or(&message);
                    if let Some(name) = block_device(message) {
                        return Ok(Event::Block(name.to_vec()));
                    }
                    // Others may have so much to tell that there is always something.
                    if limit.is_some_and(|limit| start.elapsed() >= limit) {
                        return Ok(Event::Nothing);
                    }
                }
                Err(Errno::NOBUFS) => return Ok(Event::Lost),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
                    if left == Some(Duration::ZERO) {
                        return Ok(Event::Nothing);
                    }
                    let left = left.map(clock::timespec);
                    match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], left.as_ref()) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// `ACTION@PATH`, and lines `KEY=VALUE` with NUL between them (`lib/kobject_uevent.c`).
fn block_device(message: &[u8]) -> Option<&[u8]> {
    let mut lines = message.split(|&byte| byte == 0);
    let path = lines.next()?;
    let name = path.rsplit(|&byte| byte == b'/').next()?;
    let is_block = lines.any(|line| line == b"SUBSYSTEM=block");
    (is_block && path.contains(&b'@') && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_block_devices_name_them() {
        let event =
            b"add@/devices/pci0000:00/0000:00:05.0/virtio2/block/vda/vda1\0ACTION=add\0SUBSYSTEM=block\0\
                      DEVNAME=vda1\0";
        assert_eq!(block_device(event), Some(&b"vda1"[..]));
        let other = b"add@/devices/virtual/net/lo\0ACTION=add\0SUBSYSTEM=net\0";
        assert_eq!(block_device(other), None);
        // udev's own messages begin differently.
        assert_eq!(block_device(b"libudev\0SUBSYSTEM=block\0"), None);
        assert_eq!(block_device(b""), None);
        assert_eq!(block_device(b"add@/block/\0SUBSYSTEM=block\0"), None);
    }

    #[test]
    fn waiting_ends() {
        let monitor = Monitor::open().unwrap();
        let start = Instant::now();
        let limit = Duration::from_millis(20);
        // Events of this machine may come meanwhile; they are none that never end.
        while monitor.next(Some(limit.saturating_sub(start.elapsed()))).unwrap() != Event::Nothing {}
        assert!(start.elapsed() >= limit);
    }
}
