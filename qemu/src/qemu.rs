//! One boot in QEMU.

use crate::accel::Accel;
use crate::archive;
use crate::console::{End, Exchange, Watch};
use crate::disk::Disk;
use crate::entry::Entry;
use crate::machine::{self, Firmware, Machine};
use crate::recipe::File;
use crate::report::Report;
use anyhow::{Context, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Changes the kernel command line that OSTree wrote, word by word.
pub type Edit = fn(&str) -> String;

/// How to boot.
pub struct Boot<'a> {
    /// Who runs the instructions of a guest like this host.
    pub accel: Accel,
    /// The longest it may take.
    pub limit: Duration,
    /// Whether the console is shown, and typed to, while it runs.
    pub live: bool,
    /// What is changed on the kernel command line.
    pub edit: Option<Edit>,
    /// What is added to it.
    pub argument: Option<&'a str>,
    /// What is typed on the console.
    pub dialogue: &'static [Exchange],
    /// The machine.
    pub machine: Machine,
    /// An initramfs in place of the one that the boot entry names.
    pub initramfs: Option<&'a Path>,
    /// Files that are put over the initramfs.
    pub archive: &'a [File],
    /// Disks that are only read, with their names.
    pub attached: &'a [(&'static str, PathBuf)],
    /// Whether it can reach the host.
    pub network: bool,
    /// Whether it may boot again by itself; else that ends it.
    pub reboots: bool,
    /// Whether what the guest writes to the disk stays there.
    pub keep: bool,
    /// Where it is written down as well, write by write (`write_log.rs`).
    pub record: Option<&'a Path>,
    /// Whether its clock is to be independent of what else the host does, if that can be.
    pub steady: bool,
    /// Where console and report go.
    pub logs: &'a Path,
}

/// What came of a boot.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What the guest reported.
    pub report: Report,
    /// What the console showed.
    pub console: String,
    /// Where the console's log is.
    pub console_log: PathBuf,
    /// Of several boots of one disk, what came of the first.
    pub first: Option<Box<First>>,
}

/// The first of several boots of one disk.
pub struct First {
    /// What came of it.
    pub outcome: Outcome,
    /// What came of those between it and the last.
    pub between: Vec<Outcome>,
    /// What was on the disk before all boots.
    pub disk_before: String,
    /// What was on it after.
    pub disk_after: String,
}

impl First {
    /// Lines that only one of the listings has.
    pub fn changes(&self) -> Vec<String> {
        let [before, after] =
            [&self.disk_before, &self.disk_after].map(|text| text.lines().collect::<BTreeSet<_>>());
        let gone = before.difference(&after).map(|line| format!("gone: {line}"));
        let new = after.difference(&before).map(|line| format!("new: {line}"));
        gone.chain(new).collect()
    }
}

/// The kernel argument that picks a deployment.
const DEPLOYMENT: &str = "ostree.prepare-root.deployment=";

/// The first argument in a text that picks a deployment.
fn suggestion(text: &str) -> Option<&str> {
    text[text.find(DEPLOYMENT)?..].split_whitespace().next()
}

impl Outcome {
    /// The kernel argument that the explanation on the console says would boot.
    pub fn suggestion(&self) -> Option<&str> {
        suggestion(&self.console)
    }

    /// Whether the guest reported and switched itself off; if not, what it did instead.
    pub fn complete(&self) -> Result<(), String> {
        match (self.report.is_complete(), self.end) {
            (_, End::Unheard(text)) => Err(format!("the console did not show '{text}' in its turn")),
            (true, End::PowerOff) => Ok(()),
            (true, _) => Err("the guest reported, but did not switch itself off".into()),
            (false, End::PowerOff) => Err("the guest ended without a complete report".into()),
            (false, End::Stuck(text)) => Err(format!("the guest stopped at '{text}'")),
            (false, End::TimeLimit) => Err("the guest did not report in time".into()),
        }
    }
}

/// The kernel's time, in seconds, of the line of a console that has the byte at this index.
pub fn kernel_time(console: &str, index: usize) -> Option<f64> {
    let start = console.get(..index)?.rfind('\n').map_or(0, |newline| newline + 1);
    let (time, _) = console.get(start..)?.trim_start().strip_prefix('[')?.split_once(']')?;
    time.trim().parse().ok()
}

/// How often a guest is booted whose kernel the emulator kills or stops.
pub const TRIES: usize = 3;

/// Whether a guest's kernel died of its own code being patched. QEMU 7.2's translator can execute an
/// instruction that another processor is just replacing (`text_poke_bp`): seen in one of 60 boots, with
/// Linux 6.12.
pub fn died_of_patching(accel: Accel, console: &str) -> bool {
    matches!(accel, Accel::Tcg) && console.contains("] Oops: int3: ")
}

/// How the line ends with which the kernel starts the first program: `/init`, or what `init=` names.
pub const INIT_RUNS: &str = " as init process";

/// Whether the guest's kernel died of that, or stood still, before it ran any program. (One of 100 boots
/// stood still at one second, with Linux 7.2.)
fn ended_by_emulation(accel: Accel, console: &str, end: End) -> bool {
    let stood_still = matches!(accel, Accel::Tcg) && end == End::TimeLimit;
    (died_of_patching(accel, console) || stood_still) && !console.contains(INIT_RUNS)
}

/// How many processors a guest has that boots. An emulated one boots with two in 49 s of this host's time and with
/// one in 34 s, where two guests share two processors; and with one, no code is patched while another runs it.
fn processors(accel: Accel) -> usize {
    match accel {
        Accel::Kvm => 2,
        Accel::Tcg => 1,
    }
}

impl<'a> Boot<'a> {
    /// As the entry says; nobody looks on, nothing stays.
    pub fn new(accel: Accel, limit: Duration, logs: &'a Path) -> Self {
        Self {
            accel,
            limit,
            live: false,
            edit: None,
            argument: None,
            dialogue: &[],
            machine: Machine::VIRTUAL,
            initramfs: None,
            archive: &[],
            attached: &[],
            network: false,
            reboots: false,
            keep: false,
            record: None,
            steady: false,
            logs,
        }
    }

    /// Boots the entry of a disk.
    pub fn run(&self, disk: &Disk) -> anyhow::Result<Outcome> {
        // The system has written nothing by then, but the boot loader may have.
        let before =
            (self.keep && disk.firmware == Firmware::Uefi).then(|| disk.boot_loader()).transpose()?;
        for _ in 1..TRIES {
            let outcome = self.once(disk)?;
            if !ended_by_emulation(disk.arch.accel(self.accel), &outcome.console, outcome.end) {
                return Ok(outcome);
            }
            eprintln!("the guest's kernel ended, or stood still, before it started init: booting again");
            if let Some(before) = &before {
                disk.restore(before)?;
            }
        }
        self.once(disk)
    }

    fn once(&self, disk: &Disk) -> anyhow::Result<Outcome> {
        let report = self.logs.join("report.txt");
        let console_log = self.logs.join("console.log");
        let mut command = disk.arch.machine(self.accel, processors(disk.arch.accel(self.accel)));
        if self.steady {
            command.args(disk.arch.accel(self.accel).steady());
        }
        match disk.firmware {
            Firmware::None => self.add_kernel(disk, &mut command)?,
            Firmware::Uefi => {
                let untouched = self.edit.is_none()
                    && self.argument.is_none()
                    && self.initramfs.is_none()
                    && self.archive.is_empty();
                ensure!(
                    untouched,
                    "command line and initramfs are read from the disk: put it into the recipe"
                );
                let lost = self.logs.join("uefi-variables.fd");
                machine::add_uefi(&mut command, &if self.keep { disk.variables() } else { lost })?;
            }
        }
        let backend = machine::backend(&disk.image(), self.keep, self.record)?;
        self.machine.bus.add(&mut command, &backend);
        if let Some(seed) = disk.seed() {
            machine::add_read_only(&mut command, "seed", &seed);
        }
        for (name, image) in self.attached {
            machine::add_read_only(&mut command, name, image);
        }
        if self.reboots {
            // The last word counts.
            command.args(["-action", "reboot=reset"]);
        }
        if self.network {
            machine::add_network(&mut command);
        }
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-device", "virtio-serial-pci", "-chardev"]);
        command.arg(format!("file,id=report,path={}", report.display()));
        command.args(["-device", "virtserialport,chardev=report,name=prepare-root.report"]);
        fs::write(self.logs.join("qemu.txt"), format!("{command:?}\n")).context("write qemu.txt")?;

        let errors = fs::File::create(self.logs.join("qemu-errors.txt")).context("create a log")?;
        let mut child = command
            .stdin(if self.live { Stdio::inherit() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("start QEMU")?;
        let Some(output) = child.stdout.take() else { bail!("QEMU has no output") };
        let mut keyboard: Box<dyn Write> = match child.stdin.take() {
            Some(keyboard) => Box::new(keyboard),
            None => Box::new(io::sink()),
        };
        let Self { live, reboots, dialogue, .. } = *self;
        let limit = disk.arch.limit(self.limit);
        let end = Watch { log: &console_log, live, limit, reboots, dialogue }.run(output, &mut keyboard);
        if !matches!(end, Ok(End::PowerOff)) {
            child.kill().context("end QEMU")?;
        }
        let status = child.wait().context("wait for QEMU")?;
        let end = end?;
        if end == End::PowerOff && !status.success() {
            let said = fs::read_to_string(self.logs.join("qemu-errors.txt"))?;
            bail!("QEMU: {status}: {}", said.trim());
        }
        let text = fs::read(&report).with_context(|| format!("read {}", report.display()))?;
        let console = String::from_utf8_lossy(&fs::read(&console_log)?).into_owned();
        let report = Report::parse(&String::from_utf8_lossy(&text));
        Ok(Outcome { end, report, console, console_log, first: None })
    }

    /// Gives a machine what the boot entry names, as far as nobody changed it.
    fn add_kernel(&self, disk: &Disk, command: &mut Command) -> anyhow::Result<()> {
        let entry = Entry::read(&disk.boot())?;
        let words = entry.options.split(' ');
        let words = words.map(|word| self.edit.map_or_else(|| word.to_owned(), |edit| edit(word)));
        let words: Vec<_> = words.chain(self.argument.map(str::to_owned)).collect();
        command.arg("-kernel").arg(&entry.kernel).args(["-append", &words.join(" ")]);
        let initramfs = self.initramfs.map(Path::to_owned).or(entry.initramfs);
        let initramfs = match (initramfs, self.archive) {
            (initramfs, []) => initramfs,
            (None, _) => bail!("there is no initramfs that files could be put over"),
            (Some(initramfs), files) => {
                let extended = self.logs.join("initramfs.img");
                archive::extend(&initramfs, files, &extended)?;
                Some(extended)
            }
        };
        command.args(initramfs.iter().flat_map(|initramfs| ["-initrd".as_ref(), initramfs.as_os_str()]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_ran_nothing_yet_is_booted_again() {
        let oops =
            "[    5.006043] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[    5.0] Kernel panic - not syncing\n";
        let later = format!("[    4.0] Run /init as init process\n{oops}");
        let panic = "[    5.0] Kernel panic - not syncing: VFS\n";
        assert!(ended_by_emulation(Accel::Tcg, oops, End::PowerOff));
        assert!(ended_by_emulation(Accel::Tcg, "[    1.0] hpet0\n", End::TimeLimit));
        assert!(!ended_by_emulation(Accel::Tcg, &later, End::TimeLimit));
        assert!(!ended_by_emulation(Accel::Kvm, oops, End::TimeLimit));
        assert!(!ended_by_emulation(Accel::Tcg, panic, End::PowerOff));
    }

    #[test]
    fn a_suggestion_is_one_word() {
        let said = "add to the kernel command line:\r\n    ostree.prepare-root.deployment=1\r\n";
        assert_eq!(suggestion(said), Some("ostree.prepare-root.deployment=1"));
        assert_eq!(suggestion("no deployment can be booted"), None);
    }
}
