//! Finds out whether KVM works here.

use crate::cache::Workplace;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Who runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Emulation takes 0.2 s for the probe; a KVM that needs longer than this is no help.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// QEMU's exit status for the value the probe writes: `value << 1 | 1`.
const PROBE_STATUS: i32 = 0x10 << 1 | 1;

/// A boot sector, which the firmware loads to 0x7c00. Port 0xf4 ends QEMU. Where KVM is itself virtual it may interpret what
/// a guest does before its kernel runs, and not know all instructions, `fwait` among them, which UEFI firmware has: then it stops.
const PROBE: &[u8] = &[
    0xfa, // cli
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0x0f, 0x01, 0x16, 0x21, 0x7c, // lgdt [0x7c21]
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0c, 0x01, // or al, 1
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xea, 0x17, 0x7c, 0x08, 0x00, // jmp 8:0x7c17
    // From here in 32-bit protected mode.
    0xdb, 0xe3, // fninit
    0x9b, // fwait
    0xb0, 0x10, // mov al, 0x10
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp $-1
    // 0x7c21: where the table is, and its last byte.
    0x0f, 0x00, 0x27, 0x7c, 0x00, 0x00, //
    // 0x7c27: no segment, and a code segment of 4 GiB.
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, //
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,
];

impl Accel {
    /// Runs a tiny guest under KVM. `/dev/kvm` alone proves nothing: on some machines it is
    /// there and guests hang or QEMU aborts.
    pub fn probe(place: &Workplace) -> Result<Self> {
        Ok(if Self::Kvm.runs(&place.join("probe.img"), PROBE_LIMIT)? { Self::Kvm } else { Self::Tcg })
    }

    /// Whether it runs the probe to its end in this time. The image is written.
    fn runs(self, image: &Path, limit: Duration) -> Result<bool> {
        let mut sector = [0; 512];
        sector[..PROBE.len()].copy_from_slice(PROBE);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        fs::write(image, sector).context("write the KVM probe")?;

        let child = Command::new("qemu-system-x86_64")
            .args(self.arguments())
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive"])
            .arg(format!("format=raw,file={}", image.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let status = wait(child, limit)?;
        Ok(status.is_some_and(|status| status.code() == Some(PROBE_STATUS)))
    }

    /// What ran the guests, and `how`: for a page.
    pub fn host(how: &str) -> Result<String> {
        let cpus = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cpu = cpu.map_or("unknown processor", |(_, name)| name);
        Ok(format!("{how}, on {cpu}"))
    }

    /// How guests run.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "with KVM",
            Self::Tcg => "emulated (TCG)",
        }
    }

    /// QEMU's arguments.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With cmpxchg16b, half the boots of kernel 6.12 died of a double fault under QEMU 7.2.
            Self::Tcg => ["-accel", "tcg", "-cpu", "max,-cx16"],
        }
    }

    /// QEMU's arguments for a guest whose time is measured. Where it is emulated, its clock counts instructions, one a
    /// nanosecond: then it does not matter what else the host does.
    pub fn steady(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &[],
            Self::Tcg => &["-icount", "shift=0"],
        }
    }

    /// How such a guest runs.
    pub fn steady_name(self) -> &'static str {
        match self {
            Self::Kvm => self.name(),
            Self::Tcg => "emulated (TCG) at one instruction per nanosecond",
        }
    }

    /// For the person at the terminal.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kvm => "KVM works here and runs the guest",
            Self::Tcg => "KVM does not work here: the guest is emulated (TCG), which is slower",
        }
    }
}

/// Waits for a process to end; ends it when it takes too long.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || {
        // The receiver may be gone; the process is reaped all the same.
        let _ = sender.send(child.wait());
    });
    let status = receiver.recv_timeout(limit).ok().transpose()?;
    if status.is_none() {
        Command::new("kill").args(["-KILL", &id.to_string()]).status().context("end the probe")?;
    }
    waiter.join().ok();
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probe that nobody can run would have every guest emulated.
    #[test]
    fn the_probe_ends_where_it_is_emulated() {
        let image = std::env::temp_dir().join(format!("prepare-root-probe-{}", std::process::id()));
        let ends = Accel::Tcg.runs(&image, Duration::from_mins(1));
        fs::remove_file(&image).expect("remove the probe");
        assert!(ends.expect("run the probe"));
    }
}
