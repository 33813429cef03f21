//! A guest without an initramfs: Debian's kernels have NVMe and ext4 built in, mount the disk
//! themselves, and start a program from it that does one thing and switches the guest off.

use crate::accel::Accel;
use crate::console::{End, Watch};
use crate::machine::Arch;
use crate::qemu;
use crate::script;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// The guest.
pub struct Bare<'a> {
    /// Its processor.
    pub arch: Arch,
    /// Who runs the instructions of a guest like this host.
    pub accel: Accel,
    /// How many it has.
    pub processors: usize,
    /// Its kernel.
    pub kernel: &'a Path,
    /// The raw image of its disk.
    pub disk: &'a Path,
    /// Whether what it writes to the disk stays there.
    pub keep: bool,
    /// More disks, on virtio. What it writes there stays.
    pub attached: &'a [&'a Path],
    /// The program on the disk.
    pub init: &'a str,
    /// Kernel arguments besides those that every such guest gets.
    pub arguments: &'a str,
    /// The longest it may take.
    pub limit: Duration,
    /// Where its console goes, as NAME.log.
    pub logs: &'a Path,
    /// What it is called there.
    pub name: &'a str,
}

impl Bare<'_> {
    /// Runs it until it is switched off; what it said. Where nothing is left of it on the disk, it is tried
    /// again if the emulator kills its kernel.
    pub fn run(&self) -> Result<String> {
        let log = self.logs.join(format!("{}.log", self.name));
        for _ in 1..qemu::TRIES {
            let ran = self.once(&log);
            let console = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            if self.keep || !qemu::died_of_patching(self.arch.accel(self.accel), &console) {
                return ran;
            }
            eprintln!("{}: the emulator killed the guest's kernel: booting again", self.name);
        }
        self.once(&log)
    }

    fn once(&self, log: &Path) -> Result<String> {
        let Bare { name, init, arguments, .. } = self;
        let access = if self.keep { "rw" } else { "ro" };
        let console = self.arch.console();
        let mut command = self.arch.machine(self.accel, self.processors);
        command.arg("-kernel").arg(self.kernel).arg("-append");
        command.arg(format!(
            "root=/dev/nvme0n1 rootwait {access} init={init} console={console} panic=-1 quiet {arguments}"
        ));
        command.args(["-device", "nvme,drive=disk,serial=disk", "-drive"]);
        let snapshot = if self.keep { "off" } else { "on" };
        // Should the host die in the middle, nobody takes the disk for a finished one.
        let drive = format!("if=none,id=disk,format=raw,cache=unsafe,snapshot={snapshot},file=");
        command.arg(format!("{drive}{}", self.disk.display()));
        for (number, image) in self.attached.iter().enumerate() {
            let id = format!("attached{number}");
            let drive = format!("if=none,id={id},format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap");
            command.arg("-drive").arg(format!("{drive},file={}", image.display()));
            command.arg("-device").arg(format!("virtio-blk-pci,drive={id}"));
        }
        let errors = self.logs.join(format!("{name}-errors.txt"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors).context("create a log")?)
            .spawn()
            .context("start QEMU")?;
        let Some(output) = child.stdout.take() else { bail!("QEMU has no output") };
        let watch = Watch { log, live: false, limit: self.limit, reboots: false, dialogue: &[] };
        let end = watch.run(output, &mut io::sink());
        if !matches!(end, Ok(End::PowerOff)) {
            child.kill().context("end QEMU")?;
        }
        let status = child.wait().context("wait for QEMU")?;
        let end = end?;
        ensure!(
            end == End::PowerOff && status.success(),
            "{name}: {end:?}, QEMU: {status}: {}{}",
            fs::read_to_string(&errors)?,
            script::tail(log)?
        );
        Ok(String::from_utf8_lossy(&fs::read(log)?).into_owned())
    }
}
