//! Who mounts `/var` and `/boot` after the switch to the new root.
//!
//! systemd runs the deployment's `ostree-system-generator`, which makes a `var.mount` (every
//! version, unless `/etc/fstab` has a `/var`) and a `boot.mount` (libostree 2026, found by trying: trixie's 2025.2
//! makes none). Nothing on the disk says which version it is, but the code lives in `libostree-1.so.1`,
//! and a library that makes `boot.mount` contains the name of the link that pulls it in.

use crate::error::describe;
use crate::lookup;
use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;

/// The generator, where systemd looks for it.
const GENERATOR: &[u8] = b"usr/lib/systemd/system-generators/ostree-system-generator";

/// Without systemd nobody runs the generator.
const SYSTEMD: &[u8] = b"usr/lib/systemd/systemd";

/// Made by the generator in the same breath as `boot.mount`.
const BOOT_MOUNT_LINK: &[u8] = b"local-fs.target.requires/boot.mount";

/// What is to be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Who mounts `/var`?
    pub var: bool,
    /// Who mounts `/boot`?
    pub boot: bool,
    /// `/etc` is going to be transient: the new system sees the `fstab` in `usr/etc`.
    pub transient_etc: bool,
}

/// What only the contents of the new root tell, which in a verified image are known late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// It has systemd and an `ostree-system-generator`.
    pub generator: bool,
    /// That generator makes a `boot.mount`.
    pub generator_mounts_boot: bool,
    /// `/etc/fstab` mounts `/var`.
    pub fstab_var: bool,
    /// `/etc/fstab` mounts `/boot`.
    pub fstab_boot: bool,
}

/// Reads from the new root (or, in bind mode, the deployment) what answers the questions. What cannot be read is taken as not there.
pub fn contents(root: BorrowedFd<'_>, questions: Questions) -> Contents {
    if !questions.var && !questions.boot {
        return Contents::default();
    }
    let there =
        |path: &[u8]| or_log(path, lookup::kind_beneath(root, path, OFlags::empty())).flatten().is_some();
    let path: &[u8] = if questions.transient_etc { b"usr/etc/fstab" } else { b"etc/fstab" };
    let fstab = or_log(path, lookup::read_beneath(root, path)).flatten().unwrap_or_default();
    let generator = there(GENERATOR) && there(SYSTEMD);
    let fstab_boot = fstab_mounts(&fstab, b"/boot");
    Contents {
        generator,
        generator_mounts_boot: questions.boot && generator && !fstab_boot && makes_boot_mount(root),
        fstab_var: fstab_mounts(&fstab, b"/var"),
        fstab_boot,
    }
}

fn makes_boot_mount(root: BorrowedFd<'_>) -> bool {
    // Debian's multiarch directory (of the architectures called alike there), lib64, lib. The deployment is of our own architecture.
    let multiarch = format!("usr/lib/{}-linux-gnu/libostree-1.so.1", std::env::consts::ARCH);
    let paths = [multiarch.as_bytes(), b"usr/lib64/libostree-1.so.1", b"usr/lib/libostree-1.so.1"];
    let found = paths
        .into_iter()
        .find_map(|path| or_log(path, lookup::contains_beneath(root, path, BOOT_MOUNT_LINK)).flatten());
    found.unwrap_or(false)
}

fn or_log<T>(path: &[u8], result: rustix::io::Result<T>) -> Option<T> {
    result
        .map_err(|errno| log::warn!("read the deployment's {}: {}", path.escape_ascii(), describe(errno)))
        .ok()
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
    fn fstab_entries() {
        let fstab = b"# /dev/x /var ext4\nUUID=1 / ext4 rw 0 1\n\tLABEL=v\t/var/ ext4\n";
        assert!(fstab_mounts(fstab, b"/var"));
        assert!(!fstab_mounts(fstab, b"/boot"));
        assert!(!fstab_mounts(b"#LABEL=v /var ext4\nLABEL=v /var/lib ext4\nLABEL=v\n", b"/var"));
    }
}
