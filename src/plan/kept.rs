//! What keeps mounts over a soft-reboot (`systemctl soft-reboot`, systemd 254).
//!
//! systemd then takes off all mounts but `/`, `/usr` and `/etc` (`fstab_is_extrinsic()`), and starts its units anew;
//! what the initramfs mounted stays away. libostree's generator has kept `/sysroot`, `/boot` and `/var` since 2026.1
//! (commit a88e66ea): mount units without default dependencies do not conflict with `umount.target`.
//!
//! For `/sysroot` a drop-in is enough. Not for the others: if a unit file names `boot.mount` before systemd has seen
//! `/boot` in `/proc/self/mountinfo`, it finds no such unit, and looks for no drop-ins later (`mount_setup_existing_unit()`,
//! seen with systemd 257). They have whole units, which systemd finds active.

use super::{Source, Step};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

/// A file that is left for systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its directory, if that is not systemd's.
    pub directory: Option<&'static CStr>,
    /// Its path.
    pub path: &'static CStr,
    /// What is in it.
    pub text: String,
}

/// Those for what the steps mount.
pub fn kept(steps: &[Step]) -> Vec<Kept> {
    steps.iter().filter_map(file).collect()
}

fn file(step: &Step) -> Option<Kept> {
    const BOOT: &CStr = c"/run/systemd/system/boot.mount";
    const VAR: &CStr = c"/run/systemd/system/var.mount";
    let (path, mount) = match (&*step.at, &step.source) {
        (b"sysroot", _) => {
            return Some(Kept {
                directory: Some(c"/run/systemd/system/sysroot.mount.d"),
                path: c"/run/systemd/system/sysroot.mount.d/50-ostree-prepare-root.conf",
                text: UNIT.to_owned(),
            });
        }
        (b"boot", Source::Physical(path)) => (BOOT, mount("boot", &what(path)?, "bind")),
        (b"var", Source::Physical(path)) => (VAR, mount("var", &what(path)?, "bind,rw,slave,shared")),
        (b"var", Source::Memory(_)) => (VAR, mount("var", "tmpfs", "mode=0755\nType=tmpfs")),
        _ => return None,
    };
    let text = format!("{UNIT}After=sysroot.mount\nBefore=local-fs.target\n\n{mount}");
    Some(Kept { directory: None, path, text })
}

const UNIT: &str = "# Written by ostree-prepare-root: a soft-reboot keeps what the initramfs has mounted.\n\
                    [Unit]\nDefaultDependencies=no\n";

/// A directory of the physical root. Only one with a plain name: nothing on the disk can write a unit.
fn what(path: &[u8]) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@~".contains(&byte);
    let path = str::from_utf8(path).ok().filter(|path| path.bytes().all(is_plain))?;
    Some(format!("/sysroot/{path}"))
}

/// As it was mounted: systemd finds it active, and mounts it itself only when somebody has taken it off.
fn mount(place: &str, what: &str, options: &str) -> String {
    format!("[Mount]\nWhat={what}\nWhere=/{place}\nOptions={options}\n")
}
