//! Who mounts `/var` and `/boot` after the switch to the new root.
//!
//! systemd runs the deployment's `ostree-system-generator`, which makes a `var.mount` (every
//! version, unless `/etc/fstab` has a `/var`) and a `boot.mount` (libostree 2026.1 and later,
//! found by trying: trixie's 2025.2 makes none). Nothing on the disk says which version it is, but
//! the code lives in `libostree-1.so.1`, and a library that makes `boot.mount` contains the name of the link
//! that pulls it in.

use crate::lookup::{open_beneath, open_file_beneath, read_beneath};
use crate::plan::{Condition, Contents};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::OFlags;

/// The generator, where systemd looks for it.
const GENERATOR: &str = "usr/lib/systemd/system-generators/ostree-system-generator";

/// Without systemd nobody runs the generator.
const SYSTEMD: &str = "usr/lib/systemd/systemd";

/// Written by the generator in the same breath as `boot.mount`.
const BOOT_MOUNT_LINK: &[u8] = b"local-fs.target.requires/boot.mount";

/// Reads from the new root (or, in bind mode, the deployment) what `conditions` depend on.
pub fn contents<'a>(root: BorrowedFd<'_>, conditions: impl Iterator<Item = &'a Condition>) -> Contents {
    let mut contents = Contents::default();
    for condition in conditions {
        contents.generator = exists(root, GENERATOR) && exists(root, SYSTEMD);
        match condition {
            Condition::NobodyElseMountsVar { .. } => contents.fstab_var = in_fstab(root, b"/var"),
            Condition::NobodyElseMountsBoot => {
                contents.fstab_boot = in_fstab(root, b"/boot");
                contents.generator_mounts_boot = contents.generator && makes_boot_mount(root);
            }
        }
    }
    contents
}

fn exists(root: BorrowedFd<'_>, path: &str) -> bool {
    open_beneath(root, path.as_bytes(), OFlags::PATH).is_ok()
}

fn makes_boot_mount(root: BorrowedFd<'_>) -> bool {
    // Debian's multiarch directory, lib64, lib. The deployment is of our own architecture.
    let multiarch = format!("usr/lib/{}-linux-gnu/libostree-1.so.1", std::env::consts::ARCH);
    [&*multiarch, "usr/lib64/libostree-1.so.1", "usr/lib/libostree-1.so.1"]
        .into_iter()
        .find_map(|path| open_file_beneath(root, path.as_bytes()).ok())
        .is_some_and(|library| contains(&library, BOOT_MOUNT_LINK))
}

/// Whether a file contains `needle`. An unreadable file contains nothing.
fn contains(file: &OwnedFd, needle: &[u8]) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let mut kept = 0;
    loop {
        match rustix::io::read(file, &mut buffer[kept..]) {
            Ok(0) => return false,
            Ok(count) => {
                let filled = kept + count;
                if find(&buffer[..filled], needle) {
                    return true;
                }
                // The needle may straddle two reads.
                kept = filled.min(needle.len() - 1);
                buffer.copy_within(filled - kept..filled, 0);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Boyer-Moore-Horspool: looks at about one byte in `needle.len()`, which matters for a megabyte in a debug-sized budget.
fn find(haystack: &[u8], needle: &[u8]) -> bool {
    let last = needle.len() - 1;
    let mut skip = [needle.len(); 256];
    for (index, &byte) in needle[..last].iter().enumerate() {
        skip[usize::from(byte)] = last - index;
    }
    let mut at = 0;
    while let Some(window) = haystack.get(at..at + needle.len()) {
        if window == needle {
            return true;
        }
        at += skip[usize::from(window[last])];
    }
    false
}

fn in_fstab(root: BorrowedFd<'_>, mount_point: &[u8]) -> bool {
    let fstab = read_beneath(root, b"etc/fstab").ok().flatten().unwrap_or_default();
    fstab_mounts(&fstab, mount_point)
}

/// Whether an fstab has an entry for `mount_point` (`fstab(5)`: the second field; trailing slashes do not matter).
fn fstab_mounts(fstab: &[u8], mount_point: &[u8]) -> bool {
    fstab.split(|&byte| byte == b'\n').any(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (device, place) = (fields.next(), fields.next());
        let place = place
            .map(|place| &place[..place.iter().rposition(|&byte| byte != b'/').map_or(0, |end| end + 1)]);
        device.is_some_and(|device| !device.starts_with(b"#")) && place == Some(mount_point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_needle_wherever_it_is() {
        let needle = b"abcab";
        for at in 0..20 {
            let mut haystack = vec![b'a'; 20];
            haystack.splice(at..at, needle.iter().copied());
            assert!(find(&haystack, needle), "{at}");
        }
        assert!(!find(b"abcaabcbab", needle));
        assert!(!find(b"abca", needle));
    }

    #[test]
    fn finds_a_needle_that_straddles_two_reads() {
        for at in [0, 65_500, 65_535, 65_536, 131_060] {
            let mut bytes = vec![b'x'; 140_000];
            bytes[at..at + BOOT_MOUNT_LINK.len()].copy_from_slice(BOOT_MOUNT_LINK);
            let file = rustix::fs::memfd_create("library", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::io::write(&file, &bytes).unwrap();
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
            assert!(contains(&file, BOOT_MOUNT_LINK), "{at}");
        }
    }

    #[test]
    fn fstab_entries() {
        let fstab = b"# /dev/x /var ext4\nUUID=1 / ext4 rw 0 1\n\tLABEL=v\t/var/ ext4\n";
        assert!(fstab_mounts(fstab, b"/var"));
        assert!(!fstab_mounts(fstab, b"/boot"));
        assert!(!fstab_mounts(b"#LABEL=v /var ext4\nLABEL=v /var/lib ext4\nLABEL=v\n", b"/var"));
    }
}
