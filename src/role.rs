//! What this program is, by how it was started. The one place that decides it.

use crate::cmdline::Cmdline;

/// What this program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A command that an initramfs, or somebody at a console, runs.
    Command,
    /// Process 1 in an initramfs that has nothing but this program: the kernel runs `/init` there
    /// (`rdinit=`, `Documentation/admin-guide/initrd.rst`).
    Initramfs,
    /// Process 1 without an initramfs: the kernel mounted the physical root and was given this program as `init=`.
    PhysicalRoot,
    /// What the kernel runs when it lacks a driver (`kernel.modprobe`, `Documentation/admin-guide/sysctl/kernel.rst`).
    Modprobe,
}

impl Role {
    /// `process`: our number. `name`: how we were called. `cmdline`: the kernel's, if it can be read, which without an
    /// initramfs it cannot yet. Process 1 of a container is a command: there the kernel was told another init.
    pub fn of(process: u32, name: Option<&[u8]>, cmdline: impl FnOnce() -> Option<Cmdline>) -> Role {
        let file = name.and_then(|name| name.rsplit(|&byte| byte == b'/').next());
        let is_init = |cmdline: Cmdline| cmdline.init() == name;
        match process {
            1 if name == Some(b"/init") => Role::Initramfs,
            1 if cmdline().is_none_or(is_init) => Role::PhysicalRoot,
            _ if file == Some(b"modprobe") => Role::Modprobe,
            _ => Role::Command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_is_started_decides() {
        let deployed = "/ostree/boot.1/debian/0123/0/usr/lib/ostree/ostree-prepare-root";
        let of = |process, name: &str, cmdline: Option<&str>| {
            Role::of(process, Some(name.as_bytes()), || cmdline.map(Cmdline::new))
        };
        let asked = format!("init=/bin/sh init={deployed} -- init=/sbin/init");
        assert_eq!(of(1, "/init", Some("quiet")), Role::Initramfs);
        assert_eq!(of(1, deployed, None), Role::PhysicalRoot);
        assert_eq!(of(1, deployed, Some(&asked)), Role::PhysicalRoot);
        assert_eq!(of(1, deployed, Some("init=/sbin/init")), Role::Command);
        assert_eq!(of(1, "ostree-prepare-root", Some("quiet")), Role::Command);
        assert_eq!(of(2, deployed, Some(&asked)), Role::Command);
        assert_eq!(of(2, "/init", None), Role::Command);
        assert_eq!(of(77, "/sbin/modprobe", None), Role::Modprobe);
        assert_eq!(Role::of(77, None, || None), Role::Command);
    }
}
