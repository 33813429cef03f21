//! Under which circumstances a trial runs, and what many of them need.

use crate::support::failure::{Context, Result};
use crate::support::mounts::Row;
use crate::support::sandbox::{Edit, Ground, HOST_USR, Ran, Run, Sandbox};
use crate::support::sysroots::{Disk, Disks, Kind};
use crate::support::ways::{WAYS, Way};
use goblin::elf::Elf;
use std::path::Path;
use std::sync::OnceLock;

pub const CONFIG: &str = "/etc/ostree/prepare-root.conf";
pub const MARKER: &str = "/run/ostree/initramfs-mount-var";

/// How mounts are, and which way the program goes.
#[derive(Clone, Copy)]
pub struct Setting {
    pub shared: bool,
    pub way: &'static Way,
}

impl Setting {
    pub fn all() -> impl Iterator<Item = Setting> {
        WAYS.iter().flat_map(|way| [false, true].map(|shared| Setting { shared, way }))
    }

    /// For what ends before anything is mounted, the way does not matter.
    pub fn without_mounting() -> impl Iterator<Item = Setting> {
        Setting::all().take(2)
    }

    pub fn name(self) -> String {
        format!("{} {}", if self.shared { "shared" } else { "private" }, self.way.name)
    }

    pub fn sandbox(self, ground: Ground) -> Result<Sandbox> {
        let mut sandbox = Sandbox::new(Disks::get()?, ground)?;
        sandbox.shared = self.shared;
        Ok(sandbox)
    }

    pub fn run(self, cmdline: &str) -> Run {
        Run::of(self.way.command(cmdline))
    }
}

/// Whether time does not matter.
pub fn everything() -> bool {
    std::env::var_os("PREPARE_ROOT_FAULTS").is_some_and(|which| which == "all")
}

pub fn disk() -> Result<&'static Disk> {
    Ok(Disks::get()?.disk(Kind::PLAIN, false))
}

pub fn shared_disk() -> Result<Ground> {
    Ok(Ground::Disk { mounted: disk()?.mounted.clone(), readonly: false, hardened: false })
}

pub fn copy() -> Result<Ground> {
    Ok(Ground::Copy(disk()?.mounted.clone()))
}

pub fn cmdline() -> Result<String> {
    Ok(format!("quiet ostree={}", disk()?.boot_links[0]))
}

/// A script for the shell of this machine's busybox, in a sandbox with its `/usr`.
pub fn shell(script: &str) -> Run {
    let arguments = [&format!("{HOST_USR}/bin/busybox"), "sh", "-ec", script];
    Run::of(arguments.map(str::to_owned).to_vec())
}

pub fn file(path: &str, text: &str) -> Edit {
    Edit::File(path.into(), text.into())
}

pub fn points(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.point.as_str()).collect()
}

pub fn row<'a>(rows: &'a [Row], point: &str) -> Result<&'a Row> {
    rows.iter().find(|row| row.point == point).context(format!("find the mount at {point}"))
}

/// One message that says all of it, in its first line; other lines may say what to do.
pub fn one_message(ran: &Ran, says: &[&str]) -> Result<()> {
    let mut lines = ran.stderr.lines();
    let message = lines.next().unwrap_or_default();
    let complete =
        message.starts_with("ostree-prepare-root: ") && says.iter().all(|words| message.contains(words));
    // An explanation follows.
    let explains = |line: &str| line == "ostree-prepare-root: What was asked for:";
    let alone = !lines.any(|line| line.starts_with("ostree-prepare-root: ") && !explains(line));
    // The operation comes before the cause.
    let ordered = says.is_sorted_by_key(|words| message.find(words));
    if complete && alone && ordered {
        return Ok(());
    }
    Err(format!("this is not one message that says {says:?}:\n{}", ran.stderr))
}

/// The command that starts the strace of this machine in a sandbox; `None` if it has none.
pub fn strace() -> Option<Result<Vec<String>>> {
    static COMMAND: OnceLock<Option<Result<Vec<String>>>> = OnceLock::new();
    COMMAND.get_or_init(|| std::fs::read("/usr/bin/strace").ok().map(|elf| in_sandbox(&elf))).clone()
}

/// Libraries and all are those of the machine.
fn in_sandbox(strace: &[u8]) -> Result<Vec<String>> {
    let elf = Elf::parse(strace).context("parse strace")?;
    let interpreter = Path::new(elf.interpreter.context("find strace's interpreter")?);
    let interpreter = interpreter.canonicalize().context("find strace's interpreter")?;
    let in_sandbox =
        |path: &Path| path.strip_prefix("/usr").map(|path| format!("{HOST_USR}/{}", path.display()));
    let interpreter_path = in_sandbox(&interpreter).context("find strace's interpreter in /usr")?;
    let libraries =
        in_sandbox(interpreter.parent().unwrap_or(&interpreter)).context("find libraries in /usr")?;
    Ok(vec![interpreter_path, "--library-path".into(), libraries, format!("{HOST_USR}/bin/strace")])
}
