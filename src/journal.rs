//! The structured message that tells the journal which deployment was chosen.
//!
//! Native protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Best effort: an initramfs
//! without journald has no socket.

use crate::lookup;
use crate::plan::Plan;
use crate::sysroot::Sysroot;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

const SOCKET: &CStr = c"/run/systemd/journal/socket";

/// libostree's identifier of this message; tools search the journal for it.
const MESSAGE_ID: &str = "7170336a73ba4601bad31af888aa0df7";

/// Sends the message, if journald listens.
pub fn announce(plan: &Plan, sysroot: &Sysroot) {
    // Never wait for a journal that does not read.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None) else {
        return;
    };
    let Ok(address) = SocketAddrUnix::new(SOCKET) else { return };
    let _ = rustix::net::sendto(&socket, &message(plan, sysroot), SendFlags::NOSIGNAL, &address);
    lookup::leave_open(socket);
}

fn message(plan: &Plan, sysroot: &Sysroot) -> Vec<u8> {
    let path = [b"/", &plan.name.path()[..]].concat();
    let mut message = Vec::new();
    field(&mut message, "MESSAGE", &[b"Resolved OSTree target to: ", &sysroot.path[..], &path].concat());
    field(&mut message, "MESSAGE_ID", MESSAGE_ID.as_bytes());
    field(&mut message, "PRIORITY", b"6");
    field(&mut message, "SYSLOG_IDENTIFIER", b"ostree-prepare-root");
    field(&mut message, "DEPLOYMENT_PATH", &path);
    field(&mut message, "DEPLOYMENT_DEVICE", plan.booted.device.to_string().as_bytes());
    field(&mut message, "DEPLOYMENT_INODE", plan.booted.inode.to_string().as_bytes());
    message
}

/// A value with a line feed in it (a directory's name may have one) takes the form with a length.
fn field(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(value);
    message.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_in_a_value_cannot_forge_a_field() {
        let mut message = Vec::new();
        field(&mut message, "A", b"x");
        field(&mut message, "B", b"y\nC=z");
        assert_eq!(message, b"A=x\nB\n\x05\0\0\0\0\0\0\0y\nC=z\n");
    }
}
