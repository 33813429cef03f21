//! A disk that changes while the program looks at it: directories and links take turns with links to the outside.

use super::failure::{Context, Result};
use super::mounts::{Mounts, Row, difference};
use super::sandbox::{SYSROOT, Sandbox, bind, finish, mount_new, run_files, set_propagation};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};

/// The file system that has the disk's root as one of its directories.
const DISK: &str = "/disk";

/// The directory in it that is the physical root.
const ROOT: &str = "/disk/physical";

/// What lies outside: on the disk's own file system, and in the initramfs.
const OUTSIDE: [&str; 2] = ["/disk/outside", "/outside"];

/// What is nowhere but outside.
const CANARY: &str = "canary";

/// What a directory of the disk is exchanged for.
const LINKS: [&str; 5] = [
    "/outside",
    "/disk/outside",
    "/proc/self/root/outside",
    "../../../../../../../../../../outside",
    "../../../../../../../../../../disk/outside",
];

/// The task.
#[derive(Serialize, Deserialize)]
pub struct Race {
    /// With a copy for its ground.
    pub sandbox: Sandbox,
    /// These take turns.
    pub commands: Vec<Vec<String>>,
    /// How many runs.
    pub runs: usize,
    /// What changes, as paths below the physical root.
    pub changing: Vec<String>,
}

/// How the runs ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ends {
    /// Of each exit status, how many.
    pub statuses: BTreeMap<i32, usize>,
    /// How often something was exchanged, there and back.
    pub exchanges: usize,
}

impl Race {
    /// In a process of its own.
    pub fn carry_out(&self) -> Result<Ends> {
        self.sandbox.build()?;
        set_up()?;
        if self.sandbox.shared {
            set_propagation("/", MsFlags::MS_SHARED)?;
        }
        // The disk is one of its own, and not in a peer group with where it comes from.
        set_propagation(DISK, MsFlags::MS_PRIVATE)?;

        // Undisturbed: how it has to look if it succeeds.
        let mut expected = None;
        for command in &self.commands {
            let before = Look::fresh()?;
            let (status, ..) = run(command)?;
            let after = Look::now()?;
            before.judge(status, &after, expected.as_deref())?;
            if status != Some(0) {
                return Err(format!("{command:?} undisturbed: exit status {status:?}"));
            }
            expected = Some(after.points());
        }
        let expected = expected.context("find a command")?;
        self.show_that_it_can_fail(&expected)?;

        let turns = Turns {
            ready: Barrier::new(2),
            over: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            whole: Mutex::new(()),
        };
        std::thread::scope(|scope| {
            let exchanger = scope.spawn(|| self.exchange(&turns));
            turns.ready.wait();
            let ends = self.run_all(&expected, &turns);
            turns.over.store(true, Ordering::Relaxed);
            let exchanges = exchanger.join().map_err(|_| "the exchanging thread panicked")??;
            ends.map(|statuses| Ends { statuses, exchanges })
        })
    }

    fn run_all(&self, expected: &[String], turns: &Turns) -> Result<BTreeMap<i32, usize>> {
        let mut statuses = BTreeMap::new();
        for (number, command) in self.commands.iter().cycle().take(self.runs).enumerate() {
            let before = turns.undisturbed(Look::fresh)?;
            let (status, _, stderr) = run(command)?;
            let judged = turns.undisturbed(|| before.judge(status, &Look::now()?, Some(expected)));
            judged.context(format!(
                "run {number}, {command:?}, exit status {status:?}, which said\n{stderr}"
            ))?;
            *statuses.entry(status.context("find an exit status")?).or_default() += 1;
        }
        Ok(statuses)
    }

    /// Mounts by hand what must never be mounted.
    fn show_that_it_can_fail(&self, expected: &[String]) -> Result<()> {
        for outside in OUTSIDE {
            let before = Look::fresh()?;
            run(&self.commands[0])?;
            let place = Path::new(SYSROOT).join("usr");
            umount2(&place, MntFlags::MNT_DETACH).context("take /usr off")?;
            bind(Path::new(outside), &place, true)?;
            if before.judge(Some(0), &Look::now()?, Some(expected)).is_ok() {
                return Err(format!("{outside} for /usr was not noticed"));
            }
        }
        Ok(())
    }

    /// Exchanges one after the other for a link, and back, until it is told to stop; how often.
    fn exchange(&self, turns: &Turns) -> Result<usize> {
        let apart = leave();
        turns.ready.wait();
        apart?;
        // Xorshift: any sequence will do that is not in step with the program.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or(0) % below
        };
        let mut exchanges = 0;
        while !turns.over.load(Ordering::Relaxed) {
            if turns.paused.load(Ordering::Relaxed) {
                std::thread::yield_now();
                continue;
            }
            let whole = turns.whole.lock();
            let victim = Path::new(ROOT).join(&self.changing[random(self.changing.len())]);
            let decoy = format!("{DISK}/links/{}", random(LINKS.len()));
            let swap = || {
                renameat_with(CWD, &victim, CWD, &decoy, RenameFlags::EXCHANGE)
                    .context(format!("exchange {}", victim.display()))
            };
            swap()?;
            spin(random(4000));
            swap()?;
            drop(whole);
            spin(random(12000));
            exchanges += 1;
        }
        Ok(exchanges)
    }
}

/// Gives this thread a mount namespace of its own: where nothing is mounted on them, the kernel lets mount
/// points be renamed.
fn leave() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make the exchanger's mount namespace")?;
    set_propagation("/", MsFlags::MS_PRIVATE)?;
    umount2(SYSROOT, MntFlags::MNT_DETACH).context("unmount the disk for the exchanger")
}

/// Between the exchanger and who judges.
struct Turns {
    ready: Barrier,
    over: AtomicBool,
    paused: AtomicBool,
    /// Held while something is exchanged.
    whole: Mutex<()>,
}

impl Turns {
    /// Does something while everything is in its place: a mount on a directory that was moved is
    /// not listed.
    fn undisturbed<T>(&self, act: impl FnOnce() -> T) -> T {
        self.paused.store(true, Ordering::Relaxed);
        let whole = self.whole.lock();
        let result = act();
        self.paused.store(false, Ordering::Relaxed);
        drop(whole);
        result
    }
}

/// Some microseconds, fewer than any way to sleep takes.
fn spin(count: usize) {
    for _ in 0..count {
        std::hint::spin_loop();
    }
}

fn run(command: &[String]) -> Result<(Option<i32>, String, String)> {
    let [program, arguments @ ..] = command else { return Err("nothing to run".into()) };
    finish(Command::new(program).args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin"))
}

/// Makes the disk's root a directory of its file system, and what is outside.
fn set_up() -> Result<()> {
    fs::create_dir(DISK).context("make the place of the disk")?;
    mount(Some(SYSROOT), DISK, None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("move the disk")?;
    fs::create_dir(ROOT).context("make its root")?;
    for entry in fs::read_dir(DISK).context("list the disk")? {
        let entry = entry.context("list the disk")?;
        if entry.path() != Path::new(ROOT) {
            fs::rename(entry.path(), Path::new(ROOT).join(entry.file_name()))
                .context("move into its root")?;
        }
    }
    for outside in OUTSIDE {
        // All that a deployment has.
        for folder in ["", "usr", "usr/etc", "etc", "var", "boot", "sysroot"] {
            let folder = Path::new(outside).join(folder);
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(folder.join(CANARY), ""))
                .context("make what is outside")?;
        }
    }
    let links = Path::new(DISK).join("links");
    fs::create_dir(&links).context("make a folder for links")?;
    let mut texts = LINKS.iter().enumerate();
    texts
        .try_for_each(|(number, text)| symlink(text, links.join(number.to_string())))
        .context("make the links")
}

/// What there is to judge by.
struct Look {
    mounts: Mounts,
    run: Vec<String>,
}

impl Look {
    /// After the disk was mounted anew, with nothing in `/run`.
    fn fresh() -> Result<Look> {
        while !Mounts::read("/proc/self/mountinfo")?.below(SYSROOT).is_empty() {
            umount2(SYSROOT, MntFlags::MNT_DETACH).context("unmount the disk")?;
        }
        umount2("/run", MntFlags::MNT_DETACH).context("unmount /run")?;
        mount_new("tmpfs", Path::new("/run"), "mode=0755")?;
        bind(Path::new(ROOT), Path::new(SYSROOT), false)?;
        Look::now()
    }

    fn now() -> Result<Look> {
        Ok(Look { mounts: Mounts::read("/proc/self/mountinfo")?, run: run_files()? })
    }

    fn points(&self) -> Vec<String> {
        self.mounts.below(SYSROOT).into_iter().map(|row| row.point).collect()
    }

    /// Whether `after` is how a run with that exit status may leave it.
    fn judge(&self, status: Option<i32>, after: &Look, expected: Option<&[String]>) -> Result<()> {
        after.nothing_from_outside(self)?;
        let same = |what: &str, expected: &[String], found: &[String]| match difference(expected, found) {
            None => Ok(()),
            Some(difference) => Err(format!("half a state: {what}:\n{difference}")),
        };
        let rows = |look: &Look| look.mounts.everywhere().iter().map(Row::to_string).collect::<Vec<_>>();
        match (status, expected) {
            (Some(0), Some(expected)) => same("mounts", expected, &after.points()),
            (Some(0), None) => Ok(()),
            (Some(_), _) => {
                same("mounts", &rows(self), &rows(after))?;
                same("/run", &self.run, &after.run)
            }
            (None, _) => Err("a signal ended it".into()),
        }
    }

    fn nothing_from_outside(&self, before: &Look) -> Result<()> {
        let devices: Vec<_> = before.mounts.outside(SYSROOT).iter().map(|mount| mount.device).collect();
        let disk = before.mounts.below(SYSROOT).first().context("find the disk")?.device;
        for row in self.mounts.below(SYSROOT) {
            let inside = if row.device == disk {
                Path::new(&row.root).starts_with("/physical")
            } else {
                !devices.contains(&row.device)
            };
            let place = format!("{SYSROOT}{}", row.point);
            if !inside || Path::new(&place).join(CANARY).symlink_metadata().is_ok() {
                return Err(format!("from outside the disk: {row}"));
            }
        }
        Ok(())
    }
}
