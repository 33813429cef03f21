//! Finds out whether KVM works here.

use crate::cache::Workplace;
use anyhow::{Context, Result};
use std::fs;
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

/// A boot sector: `mov al, 0x10; out 0xf4, al; hlt; jmp $-2`. Port 0xf4 ends QEMU.
const PROBE: [u8; 7] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];

impl Accel {
    /// Runs a tiny guest under KVM. `/dev/kvm` alone proves nothing: on some machines it is
    /// there and guests hang or QEMU aborts.
    pub fn probe(place: &Workplace) -> Result<Self> {
        let mut sector = [0; 512];
        sector[..PROBE.len()].copy_from_slice(&PROBE);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let image = place.join("probe.img");
        fs::write(&image, sector).context("write the KVM probe")?;

        let child = Command::new("qemu-system-x86_64")
            .args(Self::Kvm.arguments())
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive"])
            .arg(format!("format=raw,file={}", image.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let status = wait(child, PROBE_LIMIT)?;
        Ok(if status.is_some_and(|status| status.code() == Some(PROBE_STATUS)) {
            Self::Kvm
        } else {
            Self::Tcg
        })
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
