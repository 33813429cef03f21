//! The machines QEMU stands for.

use crate::accel::Accel;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A processor architecture, by Debian's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM. Always emulated: nothing here looks for a host that has KVM for it.
    Arm64,
}

/// What the disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A virtio block device.
    VirtioBlk,
    /// A SCSI disk at a virtio controller.
    VirtioScsi,
    /// A SATA disk.
    Ahci,
    /// An NVMe name space.
    Nvme,
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU itself, with what the boot entry names.
    None,
    /// UEFI: the boot loader on the disk.
    Uefi,
}

/// A machine as far as scenarios choose it; architecture and firmware are the disk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What the disk hangs on.
    pub bus: Bus,
}

impl Arch {
    /// Its name in Debian.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its name for the kernel, QEMU and Rust.
    pub fn processor(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The kernel's name for the console that QEMU shows.
    pub fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }

    /// Who runs a guest's instructions, where `host` would run those of a guest like the host.
    pub fn accel(self, host: Accel) -> Accel {
        match self {
            Self::Amd64 => host,
            Self::Arm64 => Accel::Tcg,
        }
    }

    /// How long a boot may take where one of amd64 may take `usual`: emulating this processor takes longer.
    pub fn limit(self, usual: Duration) -> Duration {
        match self {
            Self::Amd64 => usual,
            Self::Arm64 => usual * 2,
        }
    }

    /// A machine without disks, with its console on standard input and output.
    pub fn machine(self, accel: Accel, processors: usize) -> Command {
        // Should we be killed, no guest stays behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(format!("qemu-system-{}", self.processor()));
        match self {
            Self::Amd64 => command.args(accel.arguments()),
            // Debian's kernel signs its return addresses. With the algorithm that the architecture suggests,
            // its start takes twice as long as with QEMU's own.
            Self::Arm64 => command.args(["-machine", "virt", "-accel", "tcg", "-cpu", "max,pauth-impdef=on"]),
        };
        command.args([
            "-smp",
            &processors.to_string(),
            "-m",
            "1G",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command
    }
}

impl Bus {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::VirtioBlk => "virtio-blk",
            Self::VirtioScsi => "virtio-scsi",
            Self::Ahci => "AHCI",
            Self::Nvme => "NVMe",
        }
    }

    /// The kernel's subsystems between a disk and the machine, as `lsblk` prints them.
    pub fn subsystems(self) -> &'static str {
        match self {
            Self::VirtioBlk => "block:virtio:pci",
            Self::VirtioScsi => "block:scsi:virtio:pci",
            Self::Ahci => "block:scsi:pci",
            Self::Nvme => "block:nvme:pci",
        }
    }

    /// Adds a disk to a machine, with what is behind it.
    pub fn add(self, command: &mut Command, backend: &[String; 2]) {
        command.args(backend);
        let devices: &[&str] = match self {
            Self::VirtioBlk => &["virtio-blk-pci,drive=disk"],
            Self::VirtioScsi => &["virtio-scsi-pci,id=scsi", "scsi-hd,bus=scsi.0,drive=disk"],
            Self::Ahci => &["ahci,id=ahci", "ide-hd,bus=ahci.0,drive=disk"],
            Self::Nvme => &["nvme,drive=disk,serial=disk"],
        };
        for device in devices {
            command.args(["-device", device]);
        }
    }
}

/// What is behind the disk: what the guest writes is lost at its end unless `keep`, and is written to the log `record`
/// as well.
pub fn backend(image: &Path, keep: bool, record: Option<&Path>) -> Result<[String; 2]> {
    let Some(log) = record else {
        let snapshot = if keep { "off" } else { "on" };
        let drive = format!("if=none,id=disk,format=raw,snapshot={snapshot},file={}", image.display());
        return Ok(["-drive".to_owned(), drive]);
    };
    ensure!(keep, "what is recorded must be kept");
    // QEMU wants it to be there.
    fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
    Ok([
        "-blockdev".to_owned(),
        format!(
            "driver=blklogwrites,node-name=disk,file.driver=file,file.filename={},log.driver=file,log.filename={}",
            image.display(),
            log.display()
        ),
    ])
}

/// Debian's build of UEFI for virtual machines, and the variables of a machine that never ran.
const UEFI: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

/// Puts UEFI into a machine; it keeps its variables at `variables`, where those of its last boot may be.
pub fn add_uefi(command: &mut Command, variables: &Path) -> Result<()> {
    let [code, empty] = UEFI;
    if !variables.exists() {
        fs::copy(empty, variables).with_context(|| format!("copy {empty} (Debian's package ovmf)"))?;
    }
    let flash = "if=pflash,format=raw";
    command.args(["-drive", &format!("{flash},unit=0,readonly=on,file={code}")]);
    command.args(["-drive", &format!("{flash},unit=1,file={}", variables.display())]);
    Ok(())
}

/// Adds a disk that is only read, `/dev/disk/by-id/virtio-NAME` in the guest.
pub fn add_read_only(command: &mut Command, name: &str, image: &Path) {
    command.arg("-drive");
    command.arg(format!("if=none,id={name},format=raw,readonly=on,file={}", image.display()));
    command.args(["-device", &format!("virtio-blk-pci,drive={name},serial={name}")]);
}

/// Adds a network in which the host is 10.0.2.2, and nobody gives addresses: what the guest reaches there is on the
/// host's loopback.
pub fn add_network(command: &mut Command) {
    command.args(["-netdev", "user,id=network", "-device", "virtio-net-pci,netdev=network,romfile="]);
}

/// Memory that a guest and the building of its disk take, in KiB: 1 GiB for the guest, the rest for what a
/// disk under way has in the page cache.
const MEMORY_PER_GUEST: usize = 3 << 20;

/// How many guests this host can take: two, since a guest has two processors, or one where memory is short.
pub fn guests_at_a_time() -> Result<NonZero<usize>> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let available =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next());
    let available: usize = available.context("/proc/meminfo has no MemAvailable")?.parse()?;
    Ok(NonZero::new((available / MEMORY_PER_GUEST).min(2)).unwrap_or(NonZero::<usize>::MIN))
}

impl Machine {
    /// The simplest there is.
    pub const VIRTUAL: Self = Self { bus: Bus::VirtioBlk };
}
