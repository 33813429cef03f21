//! What is measured and has budgets: the configurations that systems have.

use super::failure::Result;
use super::sandbox::{Edit, Ground, Sandbox};
use super::sysroots::{Disk, Disks, Kind};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// The configuration file.
    pub text: &'static str,
    /// The disk.
    pub kind: Kind,
}

const NO_IMAGE: Kind = Kind { image: false, ..Kind::PLAIN };

/// All that any kernel can have.
pub const ALL: [Workload; 5] = [
    Workload { name: "bind", text: "", kind: NO_IMAGE },
    Workload { name: "readonly", text: "[sysroot]\nreadonly=true\n", kind: NO_IMAGE },
    Workload { name: "composefs", text: "[composefs]\nenabled=yes\n", kind: Kind::PLAIN },
    Workload {
        name: "composefs-transient",
        text: "[composefs]\nenabled=yes\n[root]\ntransient=true\n[etc]\ntransient=true\n",
        kind: Kind::PLAIN,
    },
    Workload { name: "hotfix", text: "", kind: Kind { hotfix: true, ..NO_IMAGE } },
];

impl Workload {
    /// The sandbox of an initramfs with systemd: with shared mounts, a kernel log, and the deployment in the
    /// kernel's command line.
    pub fn sandbox(&self, disk: &Disk, link: &str) -> Result<Sandbox> {
        let ground = Ground::Disk { mounted: disk.mounted.clone(), readonly: false, hardened: false };
        let mut sandbox = Sandbox::new(Disks::get()?, ground)?;
        (sandbox.shared, sandbox.kernel_log, sandbox.host, sandbox.loop_devices) = (true, true, true, true);
        sandbox.edits.push(Edit::File("/etc/ostree/prepare-root.conf".into(), self.text.into()));
        sandbox.edits.push(Edit::Cmdline(format!("root=LABEL=root rw quiet ostree={link}\n")));
        Ok(sandbox)
    }
}
