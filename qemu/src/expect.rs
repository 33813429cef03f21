//! What is expected of a boot. Each expectation says of one outcome whether it holds.

use crate::console::{self, End};
use crate::machine::Bus;
use crate::mounts::Mounts;
use crate::qemu::{self, Outcome};
use crate::storage::Partition;
use serde_json::Value;
use std::fmt;

/// One assertion about a boot.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// The guest started everything, reported, and switched itself off.
    MultiUser,
    /// No unit failed, and none was given up because another had failed.
    NoFailedUnits,
    /// A file can be created in this directory.
    Writable(&'static str),
    /// A file cannot be created in this directory.
    NotWritable(&'static str),
    /// This mount has the `ro` option.
    MountedReadOnly(&'static str),
    /// The root is the deployment that `ostree admin status` marks as booted.
    BootedDeployment,
    /// The root is the overlay over the deployment's composefs image, and nothing but it.
    ComposefsRoot,
    /// The root's file system has this option.
    RootOption(&'static str),
    /// `/run/ostree-booted` names device and inode of the deployment that is marked as booted.
    BackingDeployment,
    /// `/run/ostree-booted` has this key.
    BootedKey(&'static str),
    /// `/run/ostree-booted` does not have this key.
    BootedWithout(&'static str),
    /// `/run/ostree-booted` has this key, and it is true.
    BootedTrue(&'static str),
    /// `/etc` is the deployment's own directory.
    EtcOfDeployment,
    /// This mount is of this kind of file system.
    MountedKind(&'static str, &'static str),
    /// This directory has these permissions.
    Mode(&'static str, &'static str),
    /// Reading the witness, a file nothing needs, gives this text or this error.
    Witness(&'static str),
    /// The kernel's version begins with this.
    Kernel(&'static str),
    /// The kernel's name for the processor.
    Processor(&'static str),
    /// systemd was to remount the root as `/etc/fstab` says, and a drop-in of ours kept it from failing.
    RemountLeftAlone,
    /// What the first boot wrote in this directory, the second does not see.
    Forgotten(&'static str),
    /// What the first boot wrote in this directory, the second sees.
    Remembered(&'static str),
    /// After all boots the disk is as it was before.
    DiskUntouched,
    /// After all boots there is nothing new on the disk but in `/etc` and `/var`, nothing gone and nothing
    /// changed.
    NothingLeftBehind,
    /// What is booted is the deployment that the first boot made, and not the one that it booted.
    Updated,
    /// Exactly one mount is at this path.
    MountedOnce(&'static str),
    /// All of this partition, and only that, is mounted here.
    Partition(&'static str, Partition),
    /// The disk hangs on this bus.
    DiskOn(Bus),
    /// The root's file system lies on a device of this type, as `lsblk` calls it.
    RootThrough(&'static str),
    /// No mount hides another.
    NothingStacked,
    /// OSTree's generator wrote this unit.
    Generated(&'static str),
    /// OSTree's generator did not write this unit.
    NotGenerated(&'static str),
    /// systemd itself mounted this unit.
    MountedBySystemd(&'static str),
    /// The mount of this unit was there before systemd.
    FoundMounted(&'static str),
    /// Our program's last log line is there and names the booted deployment.
    OurLog,
    /// Our program was not there, or did not think it was meant.
    NotOurs,
    /// Our program had nothing to warn of.
    NoWarnings,
    /// The journal has the structured message with the deployment's path.
    Announced,
    /// `/run/ostree-booted` names device and inode of the root directory.
    BootedFile,
    /// The kernel was given this argument.
    CommandLine(&'static str),
    /// The initramfs gave up in an orderly way, and reported.
    Emergency,
    /// The program that makes the root ended with this status.
    ExitStatus(&'static str),
    /// The console shows this text.
    ConsoleShows(&'static str),
    /// Some line of the console has all these words.
    ConsoleRow(&'static [&'static str]),
    /// The guest reported nothing and started anew, in an orderly way.
    StartedAnew,
    /// It did so no more than so many seconds after its first program was started, having shown this text
    /// meanwhile.
    ShownWithin(u32, &'static str),
    /// All that somebody at the console waited for showed in its turn, and the guest was switched off there.
    SwitchedOffByHand,
    /// `/sysroot` is the disk's root, not a deployment.
    PhysicalRootKept,
    /// The deployment is simply the one that the boot link names.
    AsAsked,
    /// It is another, came about in this way, and `/run/ostree/prepare-root.json` names it.
    Chosen(&'static str),
    /// A warning of our program has this text.
    Warns(&'static str),
    /// The kernel was started by UEFI and a boot loader of this name.
    StartedBy(&'static str),
    /// The root's partition and its file system take all of a disk that became larger.
    RootGrown,
    /// cloud-init is through with everything and had nothing to complain of.
    CloudInitDone,
    /// The machine has this name.
    Hostname(&'static str),
    /// This user exists, and has this directory for a home.
    Home(&'static str, &'static str),
    /// The system has this program.
    Has(&'static str),
    /// The system does not have this program.
    HasNot(&'static str),
    /// Of several boots, this is expected of the first.
    First(&'static Expect),
}

type Check = Result<(), String>;

/// A disk that was written to has hundreds of changes.
const CHANGES_SHOWN: usize = 5;

/// What the kernel says last before the machine starts anew, and at the end of its own strength.
const RESTART: &str = "reboot: Restarting system";
const PANIC: &str = "Kernel panic - not syncing";

/// Where what our program says to systemd of the root's remounting is.
const REMOUNT_DROP_IN: &str = "/run/systemd/system/systemd-remount-fs.service.d/";

impl Expect {
    /// Whether it is about what several boots of a disk have to do with each other.
    pub fn compares(self) -> bool {
        matches!(
            self,
            Self::Forgotten(_)
                | Self::Remembered(_)
                | Self::DiskUntouched
                | Self::NothingLeftBehind
                | Self::Updated
                | Self::First(_)
        )
    }

    /// Whether it holds; if not, why.
    pub fn check(self, outcome: &Outcome) -> Check {
        let report = &outcome.report;
        match self {
            Self::MultiUser => {
                outcome.complete()?;
                let state = report.line("multi-user").unwrap_or("unknown");
                ensure(state == "active", || format!("multi-user.target is {state}"))
            }
            Self::NoFailedUnits => {
                let failed =
                    [report.lines("failed"), report.lines("failed-log"), report.lines("dependency-failed")]
                        .concat();
                ensure(failed.is_empty(), || failed.join("; "))?;
                let state = report.line("state").unwrap_or("unknown");
                ensure(state == "running", || format!("the system is {state}"))
            }
            Self::Writable(path) => {
                let found = report.lines("writable").iter().any(|line| line == path);
                ensure(found, || format!("no file can be created in {path}"))
            }
            Self::NotWritable(path) => {
                let found = report.lines("read-only").iter().any(|line| line == path);
                ensure(found, || format!("a file can be created in {path}"))
            }
            Self::MountedReadOnly(path) => {
                let mounts = mounts(outcome)?;
                let at = mounts.at(path);
                let mount = at.last().ok_or_else(|| format!("nothing is mounted at {path}"))?;
                ensure(mount.is_read_only(), || format!("{path} is mounted {}", mount.options))
            }
            Self::BootedDeployment => {
                let mounts = mounts(outcome)?;
                let expected = format!("{}{}", top(&mounts), deployment_path(outcome)?);
                let roots: Vec<_> = mounts.at("/").iter().map(|mount| mount.root.clone()).collect();
                ensure(roots == [expected.as_str()], || {
                    format!("{expected} is booted, but / is {}", roots.join(", "))
                })
            }
            Self::ComposefsRoot => {
                let mounts = mounts(outcome)?;
                let at = mounts.at("/");
                let found: Vec<_> =
                    at.iter().map(|mount| format!("{} {}{}", mount.kind, mount.source, mount.root)).collect();
                ensure(found == ["overlay composefs/"], || format!("/ is {}", found.join(", ")))
            }
            Self::RootOption(option) => {
                let mounts = mounts(outcome)?;
                let at = mounts.at("/");
                let options = at.last().map_or("", |mount| &mount.file_system_options);
                ensure(options.split(',').any(|one| one == option), || format!("/ is mounted {options}"))
            }
            Self::BackingDeployment => {
                booted(outcome)?;
                let file = report.booted_file().map_err(|error| error.to_string())?;
                let [named, found] = [file.device_inode(), report.line("deployment").map(str::to_owned)];
                ensure(named.is_some() && named == found, || {
                    format!("/run/ostree-booted names {named:?}, but the deployment is {found:?}")
                })
            }
            Self::BootedKey(key) => {
                let file = report.booted_file().map_err(|error| error.to_string())?;
                ensure(file.has_key(key), || format!("/run/ostree-booted has no '{key}'"))
            }
            Self::BootedWithout(key) => {
                let file = report.booted_file().map_err(|error| error.to_string())?;
                ensure(!file.has_key(key), || format!("/run/ostree-booted has '{key}'"))
            }
            Self::BootedTrue(key) => {
                let file = report.booted_file().map_err(|error| error.to_string())?;
                ensure(file.boolean(key) == Some(true), || {
                    format!("'{key}' in /run/ostree-booted is {:?}", file.boolean(key))
                })
            }
            Self::EtcOfDeployment => {
                let mounts = mounts(outcome)?;
                let expected = format!("{}{}/etc", top(&mounts), deployment_path(outcome)?);
                let roots: Vec<_> = mounts.at("/etc").iter().map(|mount| mount.root.clone()).collect();
                ensure(roots == [expected], || format!("/etc is {}", roots.join(", ")))
            }
            Self::MountedKind(path, kind) => {
                let mounts = mounts(outcome)?;
                let kinds: Vec<_> = mounts.at(path).iter().map(|mount| mount.kind.clone()).collect();
                ensure(kinds == [kind], || format!("{path} is {}", kinds.join(", ")))
            }
            Self::Mode(path, mode) => {
                let expected = format!("{path} {mode}");
                let found = report.lines("modes");
                ensure(found.contains(&expected), || found.join(", "))
            }
            Self::Witness(text) => {
                let found = report.lines("witness").join("; ");
                ensure(found.contains(text), || format!("reading it gave '{found}'"))
            }
            Self::Kernel(version) => {
                let found = report.line("kernel").unwrap_or_default();
                ensure(found.starts_with(version), || format!("the kernel is {found}"))
            }
            Self::Processor(name) => {
                let found = report.line("processor").unwrap_or_default();
                ensure(found == name, || format!("the processor is '{found}'"))
            }
            Self::RemountLeftAlone => {
                let found = report.lines("remount");
                let has = |text: &str| found.iter().any(|line| line.contains(text));
                // Without the first, nothing would have run and nothing could fail.
                let expected = ["WantedBy=local-fs.target", "Result=success", REMOUNT_DROP_IN];
                ensure(expected.iter().all(|text| has(text)), || found.join("; "))
            }
            Self::Forgotten(path) => ensure(!remembered(outcome, path)?, || {
                format!("the second boot sees the first one's file in {path}")
            }),
            Self::Remembered(path) => {
                ensure(remembered(outcome, path)?, || format!("the first boot's file in {path} is gone"))
            }
            Self::DiskUntouched => {
                let first = outcome.first.as_ref().ok_or("the disk was booted only once")?;
                let changes = first.changes();
                ensure(changes.is_empty(), || shorten(&changes))
            }
            Self::NothingLeftBehind => {
                let first = outcome.first.as_ref().ok_or("the disk was booted only once")?;
                let mut changes = first.changes();
                changes.retain(|change| !is_of_machine(change));
                ensure(changes.is_empty(), || shorten(&changes))
            }
            Self::Updated => {
                let first = outcome.first.as_ref().ok_or("the disk was booted only once")?;
                let (stateroot, now) = booted(outcome)?;
                let (_, before) = booted(&first.outcome)?;
                ensure(now != before, || format!("{now} is booted, as before"))?;
                let made = first.outcome.report.lines("status");
                let line = format!("{stateroot} {now} (pending)");
                ensure(made.iter().any(|made| made.trim() == line), || made.join("; "))
            }
            Self::MountedOnce(path) => {
                let count = mounts(outcome)?.at(path).len();
                ensure(count == 1, || format!("{count} mounts at {path}"))
            }
            Self::Partition(path, partition) => {
                let found: Vec<_> = mounts(outcome)?
                    .at(path)
                    .iter()
                    .map(|mount| format!("{}{}", mount.source, mount.root))
                    .collect();
                let lines = report.lines("partitions").iter();
                let mut named = lines.filter_map(|line| line.strip_suffix(&format!(" {}", partition.name())));
                let expected = named.next().ok_or_else(|| report.lines("partitions").join(", "))?;
                ensure(found == [format!("{expected}/")], || {
                    format!("{path} is {}, not {expected}", found.join(", "))
                })
            }
            Self::DiskOn(bus) => {
                let expected = format!("disk {}", bus.subsystems());
                let found = report.lines("disk");
                ensure(found.last() == Some(&expected), || found.join(", "))
            }
            Self::RootThrough(kind) => {
                let found = report.lines("disk");
                ensure(found.iter().any(|line| line.split(' ').next() == Some(kind)), || found.join(", "))
            }
            Self::NothingStacked => {
                let mounts = mounts(outcome)?;
                ensure(mounts.stacked().is_empty(), || mounts.stacked().join(", "))
            }
            Self::Generated(unit) => ensure(generated(outcome, unit), || format!("there is no {unit}")),
            Self::NotGenerated(unit) => ensure(!generated(outcome, unit), || format!("there is a {unit}")),
            Self::MountedBySystemd(unit) => {
                ensure(mounted_by_systemd(outcome, unit), || format!("systemd did not mount {unit}"))
            }
            Self::FoundMounted(unit) => {
                let active =
                    report.lines(&format!("unit-{unit}")).iter().any(|line| line == "ActiveState=active");
                ensure(active, || format!("{unit} is not active"))?;
                ensure(!mounted_by_systemd(outcome, unit), || format!("systemd mounted {unit}"))
            }
            Self::OurLog => {
                let line = report.final_line().ok_or("our program's last line is not in the kernel log")?;
                let (stateroot, deployment) = booted(outcome)?;
                let (sum, serial) = deployment.rsplit_once('.').ok_or("no serial in the deployment")?;
                let name = format!("{stateroot} {}.{serial} ", &sum[..sum.len().min(12)]);
                ensure(line.contains(&name), || format!("'{line}' does not name '{name}'"))
            }
            Self::NotOurs => {
                let log = [report.lines("log"), report.lines("journal")].concat();
                let said = log.iter().find(|line| line.contains("ostree-prepare-root["));
                ensure(said.is_none(), || log.join("; "))
            }
            Self::NoWarnings => {
                let kernel = report.kernel_log_warnings().map_err(|error| error.to_string())?;
                ensure(kernel.is_empty(), || kernel.join("; "))?;
                let journal = report.lines("warnings");
                ensure(journal.is_empty(), || journal.join("; "))
            }
            Self::Announced => {
                let path = deployment_path(outcome)?;
                let fields = report.lines("announced");
                let path =
                    fields.iter().any(|line| line.starts_with("DEPLOYMENT_PATH=") && line.ends_with(&path));
                ensure(path, || "no journal message with DEPLOYMENT_PATH of the booted deployment".into())?;
                let found = |name: &str| fields.iter().any(|line| line.starts_with(name));
                let complete = found("DEPLOYMENT_DEVICE=") && found("DEPLOYMENT_INODE=");
                ensure(complete, || "DEPLOYMENT_DEVICE or DEPLOYMENT_INODE is missing".into())
            }
            Self::BootedFile => {
                let file = report.booted_file().map_err(|error| error.to_string())?;
                let [named, root] = [file.device_inode(), report.line("root").map(str::to_owned)];
                ensure(named.is_some() && named == root, || {
                    format!("/run/ostree-booted names {named:?}, but / is {root:?}")
                })
            }
            Self::CommandLine(word) => {
                let line = report.line("cmdline").unwrap_or_default();
                let found = line.split(' ').any(|given| given.starts_with(word));
                ensure(found, || format!("the command line has no '{word}': {line}"))
            }
            Self::Emergency => {
                outcome.complete()?;
                let state = report.line("state").unwrap_or("unknown");
                ensure(state == "emergency", || format!("the state is {state}"))
            }
            Self::ExitStatus(status) => {
                let found = report.line("unit").unwrap_or("unknown");
                ensure(found == format!("ExecMainStatus={status}"), || found.to_owned())
            }
            Self::ConsoleShows(text) => ensure(console::shows(&outcome.console, text), || {
                format!("the console does not show '{text}'")
            }),
            Self::ConsoleRow(words) => {
                let has =
                    |line: &str| words.iter().all(|word| line.split_whitespace().any(|one| one == *word));
                ensure(console::of_programs(&outcome.console).lines().any(has), || {
                    format!("no line of the console has all of: {}", words.join(" "))
                })
            }
            Self::StartedAnew => {
                ensure(!outcome.report.is_complete(), || "the guest reported".into())?;
                ensure(outcome.end == End::PowerOff, || outcome.complete().err().unwrap_or_default())?;
                ensure(!outcome.console.contains(PANIC), || "the kernel panicked".into())?;
                ensure(outcome.console.contains(RESTART), || format!("the console does not show '{RESTART}'"))
            }
            Self::ShownWithin(seconds, text) => {
                let console = &outcome.console;
                let started = console.find(qemu::INIT_RUNS).ok_or("the kernel started no program")?;
                let ended = console.rfind(RESTART).ok_or("the guest did not start anew")?;
                let shown = console.get(started..ended).is_some_and(|between| console::shows(between, text));
                ensure(shown, || format!("the console does not show '{text}' in between"))?;
                let time = |at| qemu::kernel_time(console, at).ok_or("a line of the kernel has no time");
                let took = time(ended)? - time(started)?;
                ensure(took <= f64::from(seconds), || format!("that took {took:.1} s"))
            }
            Self::SwitchedOffByHand => {
                ensure(outcome.end == End::PowerOff, || outcome.complete().err().unwrap_or_default())
            }
            Self::PhysicalRootKept => {
                let mounts = mounts(outcome)?;
                let roots: Vec<_> = mounts.at("/sysroot").iter().map(|mount| mount.root.clone()).collect();
                ensure(roots == ["/"], || {
                    format!("/sysroot has {} mounts: {}", roots.len(), roots.join(", "))
                })
            }
            Self::AsAsked => {
                let choice = report.lines("choice");
                ensure(choice.is_empty(), || choice.join(" "))
            }
            Self::Chosen(how) => {
                let text = report.lines("choice").join("\n");
                let choice: Value =
                    serde_json::from_str(&text).map_err(|error| format!("{error}: '{text}'"))?;
                let expected = [how, booted(outcome)?.1];
                let found = ["how", "deployment"].map(|key| choice[key].as_str().unwrap_or_default());
                ensure(found == expected, || format!("{found:?} instead of {expected:?}"))
            }
            Self::Warns(text) => {
                let warnings = report.kernel_log_warnings().map_err(|error| error.to_string())?;
                ensure(warnings.iter().any(|line| line.contains(text)), || warnings.join("; "))
            }
            Self::StartedBy(loader) => {
                let found = report.line("loader").unwrap_or_default();
                let name = found.split(' ').next().unwrap_or_default();
                ensure(name.eq_ignore_ascii_case(loader), || format!("the boot loader is '{found}'"))
            }
            Self::RootGrown => {
                let [disk, partition, file_system] =
                    ["disk", "partition", "file-system"].map(|of| size(outcome, of));
                let (disk, partition, file_system) = (disk?, partition?, file_system?);
                // What is missing: other partitions, and what a file system needs for itself.
                let grown = partition > disk - disk / 8 && file_system > partition - partition / 16;
                ensure(grown, || report.lines("sizes").join("; "))
            }
            Self::CloudInitDone => {
                let text = report.lines("cloud-init").join("\n");
                let status: Value =
                    serde_json::from_str(&text).map_err(|error| format!("{error}: '{text}'"))?;
                let is_empty = |key: &str| match &status[key] {
                    Value::Array(list) => list.is_empty(),
                    Value::Object(map) => map.is_empty(),
                    _ => false,
                };
                let done = status["status"] == "done" && is_empty("errors") && is_empty("recoverable_errors");
                ensure(done, || {
                    format!("{}: {} {}", status["status"], status["errors"], status["recoverable_errors"])
                })
            }
            Self::Hostname(name) => {
                let found = report.line("hostname").unwrap_or_default();
                ensure(found == name, || format!("it is '{found}'"))
            }
            Self::Home(user, home) => {
                let expected = format!("{user} {home} {user}");
                ensure(report.lines("users").contains(&expected), || report.lines("users").join("; "))
            }
            Self::Has(path) => ensure(has(outcome, path), || format!("there is no {path}")),
            Self::HasNot(path) => ensure(!has(outcome, path), || format!("there is {path}")),
            Self::First(expected) => {
                let first = outcome.first.as_ref().ok_or("the disk was booted only once")?;
                expected.check(&first.outcome)
            }
        }
    }
}

impl fmt::Display for Expect {
    /// The assertion's name: its words in lower case, with what it is about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::First(expected) = self {
            return write!(f, "first-boot/{expected}");
        }
        let debug = format!("{self:?}");
        let (name, about) = debug.split_once('(').unwrap_or((&debug, ""));
        for (index, letter) in name.char_indices() {
            if index > 0 && letter.is_uppercase() {
                f.write_str("-")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        let about = about.trim_end_matches(')').replace(['"', '[', ']'], "");
        if about.is_empty() { Ok(()) } else { write!(f, "({about})") }
    }
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(reason()) }
}

fn mounts(outcome: &Outcome) -> Result<Mounts, String> {
    outcome.report.mounts().map_err(|error| error.to_string())
}

/// What directory names in the list of mounts begin with: the subvolume of the physical root, if it has one.
fn top(mounts: &Mounts) -> &str {
    mounts.at("/sysroot").last().map_or("", |mount| mount.root.trim_end_matches('/'))
}

/// Stateroot and name of the booted deployment.
fn booted(outcome: &Outcome) -> Result<(&str, &str), String> {
    let status =
        || format!("no deployment is marked as booted: {}", outcome.report.lines("status").join("; "));
    outcome.report.booted().ok_or_else(status)
}

/// Where the booted deployment is on the disk.
fn deployment_path(outcome: &Outcome) -> Result<String, String> {
    booted(outcome).map(|(stateroot, deployment)| format!("/ostree/deploy/{stateroot}/deploy/{deployment}"))
}

/// A size the guest told, in bytes.
fn size(outcome: &Outcome, of: &str) -> Result<u64, String> {
    let found =
        outcome.report.lines("sizes").iter().find_map(|line| line.strip_prefix(of)?.trim().parse().ok());
    found.ok_or_else(|| format!("no size of the {of}: {}", outcome.report.lines("sizes").join("; ")))
}

fn has(outcome: &Outcome, path: &str) -> bool {
    outcome.report.lines("present").iter().any(|line| line == path)
}

/// A list of changes, for one line.
fn shorten(changes: &[String]) -> String {
    let shown = changes[..changes.len().min(CHANGES_SHOWN)].join("; ");
    format!("{} changes: {shown}", changes.len())
}

/// Whether a change is one that a machine makes all day, in the `/etc` of its deployment or in `/var`.
fn is_of_machine(change: &str) -> bool {
    let Some((_, path)) = change.split_once(" ostree/deploy/debian/") else { return false };
    let mut parts = path.split('/');
    match parts.next() {
        Some("var") => true,
        Some("deploy") => parts.nth(1).is_some_and(|name| name.trim_end() == "etc"),
        _ => false,
    }
}

/// Whether the second boot saw what the first wrote in this directory.
fn remembered(outcome: &Outcome, path: &str) -> Result<bool, String> {
    let first = outcome.first.as_ref().ok_or("the disk was booted only once")?;
    let has = |lines: &[String]| lines.iter().any(|line| line == path);
    ensure(has(first.outcome.report.lines("stamp-made")), || {
        format!("the first boot could not write in {path}")
    })?;
    Ok(has(outcome.report.lines("stamp-found")))
}

fn generated(outcome: &Outcome, unit: &str) -> bool {
    outcome.report.lines("generator").iter().any(|line| line == unit)
}

fn mounted_by_systemd(outcome: &Outcome, unit: &str) -> bool {
    outcome.report.lines(&format!("unit-{unit}")).iter().any(|line| line.starts_with("Mounted "))
}

#[cfg(test)]
mod tests {
    use super::Expect;
    use crate::console::End;
    use crate::machine::Bus;
    use crate::qemu::{First, Outcome};
    use crate::report::Report;
    use crate::storage::Partition;
    use std::path::PathBuf;

    /// What a guest would report whose `/var` is a partition of its own.
    const REPORT: &str = "disk\tpart block:scsi:virtio:pci\ndisk\tdisk block:scsi:virtio:pci\n\
        partitions\t/dev/sda \npartitions\t/dev/sda1 var\npartitions\t/dev/sda2 root\n\
        mountinfo\t24 1 8:2 / /sysroot rw - ext4 /dev/sda2 rw\n\
        mountinfo\t25 1 8:1 / /var rw - ext4 /dev/sda1 rw\n";

    fn outcome(report: &str, console: &str) -> Outcome {
        Outcome {
            end: End::PowerOff,
            report: Report::parse(report),
            console: console.to_owned(),
            console_log: PathBuf::new(),
            first: None,
        }
    }

    fn holds(expect: Expect, report: &str) -> bool {
        expect.check(&outcome(report, "")).is_ok()
    }

    fn shows(expect: Expect, console: &str) -> bool {
        expect.check(&outcome("", console)).is_ok()
    }

    /// Whether it holds of the second of two boots with these reports and listings.
    fn holds_after(expect: Expect, reports: [&str; 2], listings: [&str; 2]) -> bool {
        let [first, last] = reports.map(|report| outcome(report, ""));
        let [disk_before, disk_after] = listings.map(str::to_owned);
        let first = First { outcome: first, between: Vec::new(), disk_before, disk_after };
        expect.check(&Outcome { first: Some(Box::new(first)), ..last }).is_ok()
    }

    /// What a console shows when process 1 gives up.
    const GIVEN_UP: &str = "[    4.25] Run /init as init process\r\n\
        ostree-prepare-root: find the root device LABEL=x\r\n\
        vda   2.0 GiB  ext4  prepare-root\r\n\
        [   15.5] reboot: Restarting system\r\n[   15.6] reboot: machine restart\r\n";

    #[test]
    fn an_explanation_has_its_time() {
        assert!(shows(Expect::StartedAnew, GIVEN_UP));
        assert!(shows(Expect::ShownWithin(12, "LABEL=x"), GIVEN_UP));
        assert!(!shows(Expect::ShownWithin(11, "LABEL=x"), GIVEN_UP));
        // The kernel comes in between.
        let interrupted = GIVEN_UP.replace("LABEL=x", "LAB[    5.123456] clocksource: tsc\r\nEL=x");
        assert!(shows(Expect::ShownWithin(12, "LABEL=x"), &interrupted));
        assert!(shows(Expect::ConsoleShows("device LABEL=x"), &interrupted));
        // Not in between.
        assert!(!shows(Expect::ShownWithin(12, "machine restart"), GIVEN_UP));
        assert!(!shows(Expect::ShownWithin(12, "Run /init"), GIVEN_UP));
        assert!(!shows(Expect::ShownWithin(12, "LABEL=x"), &GIVEN_UP.replace("15.5", "x")));
        assert!(!shows(Expect::ShownWithin(12, "LABEL=x"), &GIVEN_UP.replace("Restarting", "")));
        let panic = format!("{GIVEN_UP}[   15.7] Kernel panic - not syncing: Attempted to kill init!\r\n");
        assert!(!shows(Expect::StartedAnew, &panic));
        assert!(!shows(Expect::StartedAnew, ""));
        assert!(Expect::StartedAnew.check(&outcome("end\n", GIVEN_UP)).is_err());
    }

    #[test]
    fn the_words_of_a_row_are_whole_and_in_one_line() {
        assert!(shows(Expect::ConsoleRow(&["vda", "ext4", "prepare-root"]), GIVEN_UP));
        assert!(!shows(Expect::ConsoleRow(&["vda", "LABEL=x"]), GIVEN_UP));
        assert!(!shows(Expect::ConsoleRow(&["vda", "root"]), GIVEN_UP));
        let interrupted = GIVEN_UP.replace("ext4  ", "ext[    5.123456] clocksource: tsc\r\n4  ");
        assert!(shows(Expect::ConsoleRow(&["vda", "ext4", "prepare-root"]), &interrupted));
    }

    #[test]
    fn what_a_boot_leaves_is_seen() {
        let before = "drwxr-xr-x 0:0 ./ostree \ndrwxr-xr-x 0:0 ostree/deploy/debian/deploy/ab.0/etc \n";
        let left = |line: &str| {
            let after = format!("{before}{line}\n");
            !holds_after(Expect::NothingLeftBehind, ["", ""], [before, &after])
        };
        assert!(left("drwxr-xr-x 0:0 ./run "));
        assert!(left("drwxr-xr-x 0:0 ostree/deploy/debian/deploy/ab.0/old-root "));
        assert!(left("drwxr-xr-x 0:0 ostree/deploy/debian/deploy/ab.0/run/etc "));
        assert!(left("drwxr-xr-x 0:0 ostree/deploy/debian/old "));
        assert!(!left("01ab  ostree/deploy/debian/deploy/ab.0/etc/machine-id"));
        assert!(!left("drwxr-xr-x 0:0 ostree/deploy/debian/var/log "));
        assert!(!holds_after(Expect::NothingLeftBehind, ["", ""], [before, ""]));
        assert!(!holds(Expect::NothingLeftBehind, ""));
    }

    #[test]
    fn an_update_is_what_the_first_boot_made() {
        let first = "status\t  debian 2.0 (pending)\nstatus\t* debian 1.0\n";
        let updated = |last: &str| holds_after(Expect::Updated, [first, last], ["", ""]);
        assert!(updated("status\t* debian 2.0\nstatus\t  debian 1.0 (rollback)\n"));
        assert!(!updated(first));
        assert!(!updated("status\t* debian 3.0\n"));
        assert!(!updated(""));
    }

    #[test]
    fn the_bus_is_that_of_the_disk() {
        assert!(holds(Expect::DiskOn(Bus::VirtioScsi), REPORT));
        assert!(!holds(Expect::DiskOn(Bus::Ahci), REPORT));
        assert!(!holds(Expect::DiskOn(Bus::VirtioScsi), ""));
        assert!(holds(Expect::RootThrough("part"), REPORT));
        assert!(!holds(Expect::RootThrough("crypt"), REPORT));
    }

    #[test]
    fn a_partition_is_mounted_whole_and_alone() {
        let expect = Expect::Partition("/var", Partition::Var);
        assert!(holds(expect, REPORT));
        assert!(!holds(Expect::Partition("/var", Partition::Boot), REPORT));
        // The stateroot's in its place, and beneath it.
        let stateroot = "mountinfo\t25 1 8:2 /ostree/deploy/debian/var /var rw - ext4 /dev/sda2 rw\n";
        let (others, _) = REPORT.split_at(REPORT.find("mountinfo\t25").unwrap_or_default());
        assert!(!holds(expect, &format!("{others}{stateroot}")));
        assert!(!holds(expect, &format!("{REPORT}{stateroot}")));
    }

    #[test]
    fn a_root_has_grown_when_file_system_and_partition_did() {
        let sizes = |partition: u64, file_system: u64| {
            format!(
                "sizes\tdisk {}\nsizes\tpartition {partition}\nsizes\tfile-system {file_system}\n",
                3330_u64 << 20
            )
        };
        assert!(holds(Expect::RootGrown, &sizes(3072 << 20, 2954 << 20)));
        assert!(!holds(Expect::RootGrown, &sizes(3072 << 20, 1969 << 20)));
        assert!(!holds(Expect::RootGrown, &sizes(2048 << 20, 1969 << 20)));
        assert!(!holds(Expect::RootGrown, ""));
    }

    #[test]
    fn what_cloud_init_complains_of_counts() {
        let status = |status: &str, errors: &str, warnings: &str| {
            format!(
                "cloud-init\t{{\"status\": \"{status}\", \"errors\": {errors}, \"recoverable_errors\": {warnings}}}\n"
            )
        };
        assert!(holds(Expect::CloudInitDone, &status("done", "[]", "{}")));
        assert!(!holds(Expect::CloudInitDone, &status("running", "[]", "{}")));
        assert!(!holds(Expect::CloudInitDone, &status("done", "[\"no\"]", "{}")));
        assert!(!holds(Expect::CloudInitDone, &status("done", "[]", "{\"WARNING\": [\"no\"]}")));
        assert!(!holds(Expect::CloudInitDone, ""));
    }

    #[test]
    fn a_boot_loader_is_known_by_its_name() {
        assert!(holds(Expect::StartedBy("grub"), "loader\tGRUB 2.14-4\n"));
        assert!(holds(Expect::StartedBy("systemd-boot"), "loader\tsystemd-boot 257.8-1~deb13u2\n"));
        assert!(!holds(Expect::StartedBy("grub"), "loader\tsystemd-boot 257.8-1~deb13u2\n"));
        assert!(!holds(Expect::StartedBy("grub"), ""));
    }

    #[test]
    fn users_and_programs_are_what_the_guest_reports() {
        let report = "users\talice /var/home/alice alice\npresent\t/usr/bin/dpkg\n";
        assert!(holds(Expect::Home("alice", "/var/home/alice"), report));
        assert!(!holds(Expect::Home("alice", "/home/alice"), report));
        assert!(holds(Expect::HasNot("/usr/bin/apt"), report));
        assert!(!holds(Expect::HasNot("/usr/bin/dpkg"), report));
        assert!(!holds(Expect::Has("/usr/bin/apt"), report));
    }

    #[test]
    fn names_are_readable() {
        assert_eq!(Expect::NoFailedUnits.to_string(), "no-failed-units");
        assert_eq!(Expect::MountedOnce("/var").to_string(), "mounted-once(/var)");
        assert_eq!(Expect::Mode("/", "755").to_string(), "mode(/, 755)");
        assert_eq!(Expect::ShownWithin(15, "LABEL=x").to_string(), "shown-within(15, LABEL=x)");
        assert_eq!(Expect::ConsoleRow(&["vda", "ext4"]).to_string(), "console-row(vda, ext4)");
        assert_eq!(Expect::First(&Expect::Emergency).to_string(), "first-boot/emergency");
    }
}
