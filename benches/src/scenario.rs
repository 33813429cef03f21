//! Where the programs run: a configuration, a disk and a kernel command line, in a sandbox.

use crate::program::{Program, Programs};
use crate::support::failure::{Context, Result};
use crate::support::reference;
use crate::support::sandbox::{Edit, Ground, HOST_USR, PRODUCT, SYSROOT, Sandbox, tool};
use crate::support::sysroots::{Disk, Disks};
use crate::support::workloads::Workload;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the programs are in the sandbox.
const FLOOR: &str = "/floor";
const NOTHING: &str = "/nothing";
const LAUNCH: &str = "/launch";
/// Debian 13, whose libraries replace those of forky when its program is run.
const TRIXIE: &str = "/trixie";

/// One of them.
pub struct Scenario<'a> {
    pub workload: Workload,
    pub disk: &'a Disk,
    /// The boot link that is followed.
    pub link: String,
    /// Changes of the sandbox beyond those of the workload.
    pub edits: Vec<Edit>,
    /// The kernel's command line, if it is not the workload's.
    pub cmdline: Option<String>,
}

/// What the floor is told: what our program found out.
#[derive(Clone, Debug, Default)]
pub struct Known(Vec<String>);

/// What a launch of a program took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// From before `execve` to after `wait4`, in nanoseconds.
    pub wall: i64,
    /// User time, in microseconds.
    pub user: i64,
    /// System time, in microseconds.
    pub system: i64,
    /// Peak memory, in KiB.
    pub memory: i64,
    /// Instructions in user space, if they were counted.
    pub steps: i64,
}

impl<'a> Scenario<'a> {
    pub fn new(workload: Workload, disk: &'a Disk) -> Result<Scenario<'a>> {
        let link = disk.boot_links.first().context("find the boot link")?.clone();
        Ok(Scenario { workload, disk, link, edits: Vec::new(), cmdline: None })
    }

    /// With everything in it that is run.
    pub fn sandbox(&self, programs: &Programs, caches: &LoaderCaches) -> Result<Sandbox> {
        let mut sandbox = self.workload.sandbox(self.disk, &self.link)?;
        sandbox.usr = programs.forky.join("usr");
        sandbox.edits.extend(self.edits.iter().cloned());
        if let Some(cmdline) = &self.cmdline {
            sandbox.edits.retain(|edit| !matches!(edit, Edit::Cmdline(_)));
            sandbox.edits.push(Edit::Cmdline(cmdline.clone()));
        }
        for (from, to) in [(&programs.floor, FLOOR), (&programs.nothing, NOTHING), (&programs.launch, LAUNCH)]
        {
            sandbox.brought.push((from.clone(), to.to_owned()));
        }
        sandbox.brought.push((programs.trixie.join("usr"), format!("{TRIXIE}/usr")));
        let caches =
            [(LOADER_CACHE.to_owned(), &caches.forky), (format!("{TRIXIE}{LOADER_CACHE}"), &caches.trixie)];
        sandbox.edits.extend(caches.map(|(path, bytes)| Edit::File(path, bytes.clone())));
        Ok(sandbox)
    }

    /// With the libraries of that program in their place.
    pub fn sandbox_for(
        &self,
        program: Program,
        programs: &Programs,
        caches: &LoaderCaches,
    ) -> Result<Sandbox> {
        let mut sandbox = self.sandbox(programs, caches)?;
        if program == Program::Trixie {
            sandbox.usr = programs.trixie.join("usr");
            sandbox.edits.push(Edit::File(LOADER_CACHE.into(), caches.trixie.clone()));
        }
        Ok(sandbox)
    }

    /// What our program finds out, for the floor.
    pub fn known(&self, programs: &Programs, caches: &LoaderCaches) -> Result<Known> {
        inside(&self.sandbox(programs, caches)?, || {
            let mut ours = Command::new(PRODUCT);
            let output = ours.arg(SYSROOT).output().context("run our program")?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr)
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned());
            }
            let booted = fs::read("/run/ostree-booted").context("read /run/ostree-booted")?;
            let at = self
                .disk
                .boot_links
                .iter()
                .position(|link| *link == self.link)
                .context("find the boot link")?;
            let deployment = &self.disk.deployments[at];
            let (name, serial) =
                deployment.rsplit('/').next().and_then(|name| name.split_once('.')).context("name")?;
            let stateroot = deployment.split('/').nth(2).context("find the stateroot")?;
            let short = name.get(..12).context("shorten the checksum")?;
            let line = format!(
                "<6>ostree-prepare-root[1]: {stateroot} {short}.{serial} is the new root at /sysroot (1000 us)\n"
            );
            let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
            let device = fs::read_link("/run/systemd/volatile-root").unwrap_or_default();
            Ok(Known(vec![
                self.workload.name.to_owned(),
                format!("{SYSROOT}/{deployment}"),
                format!("{SYSROOT}/ostree/deploy/{stateroot}/var"),
                booted.iter().map(|byte| format!("{byte:02x}")).collect(),
                line,
                device.display().to_string(),
                read("/run/systemd/system/systemd-remount-fs.service.d/50-ostree-prepare-root.conf"),
            ]))
        })
    }
}

impl Program {
    /// The command, in the sandbox.
    pub fn command(self, known: &Known) -> Vec<String> {
        let known = known.0.iter().map(String::as_str);
        let command: Vec<&str> = match self {
            Program::Ours => vec![PRODUCT, SYSROOT],
            Program::Forky | Program::Trixie => vec![reference::PROGRAM, SYSROOT],
            Program::Floor => [FLOOR].into_iter().chain(known).collect(),
            Program::Nothing => vec![NOTHING],
        };
        command.into_iter().map(str::to_owned).collect()
    }

    /// Runs it in a sandbox that is entered already, as it is or by single steps.
    pub fn launch(self, known: &Known, steps: bool) -> Result<Sample> {
        let mut command = Command::new(LAUNCH);
        command.arg(if steps { "steps" } else { "time" });
        if self == Program::Trixie {
            command.args(["--bind", &format!("{TRIXIE}/usr"), "/usr"]);
            command.args(["--bind", &format!("{TRIXIE}{LOADER_CACHE}"), LOADER_CACHE]);
        }
        let output =
            command.args(self.command(known)).stdin(Stdio::null()).output().context("start the launcher")?;
        let said = || String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
        let (numbers, []) = output.stdout.as_chunks::<8>() else { return Err(said()) };
        let numbers: Vec<i64> = numbers.iter().map(|bytes| i64::from_ne_bytes(*bytes)).collect();
        match numbers[..] {
            [wall, user, system, memory, steps, 0] => Ok(Sample { wall, user, system, memory, steps }),
            [.., status] => Err(format!("it ended with status {status:#x}: {}", said())),
            [] => Err(said()),
        }
    }
}

const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// The loader's caches, which initramfs generators make, for the libraries of either Debian.
#[derive(Clone)]
pub struct LoaderCaches {
    forky: Vec<u8>,
    trixie: Vec<u8>,
}

impl LoaderCaches {
    pub fn make(programs: &Programs) -> Result<LoaderCaches> {
        let cache = |folder: &Path| {
            let mut sandbox = Sandbox::new(Disks::get()?, Ground::Directory)?;
            (sandbox.usr, sandbox.host) = (folder.join("usr"), true);
            let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            inside(&sandbox, || {
                let mut command = Command::new(format!("{HOST_USR}/sbin/ldconfig"));
                tool(command.args(["-X", "-C", LOADER_CACHE, &libraries]))?;
                fs::read(LOADER_CACHE).context("read the loader's cache")
            })
        };
        Ok(LoaderCaches { forky: cache(&programs.forky)?, trixie: cache(&programs.trixie)? })
    }
}

/// Does something in a sandbox, in a thread with a mount namespace of its own.
pub fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let entered = || sandbox.build().and_then(|()| work());
    let done = std::thread::scope(|scope| scope.spawn(entered).join());
    done.unwrap_or_else(|_| Err("the thread in the sandbox panicked".into()))
}
