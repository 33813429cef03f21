//! `docs/troubleshooting.md`: every message in it is seen here, and there is none that is not.

mod entries;
mod scenes;

use crate::refusals;
use crate::scene::Scene;
use crate::setting::*;
use crate::signed;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::kernel;
use crate::support::promises::{exited, same};
use crate::support::sandbox::{Edit, Ground, Ran, Run, SYSROOT, Sandbox};
use crate::support::sysroots::{Disks, Kind};
use crate::support::trials::{ignorable, trial};
use crate::support::ways::WAYS;
use entries::ENTRIES;
use libtest_mimic::{Completion, Trial};
use scenes::{injected, plain, run};

const DOCUMENT: &str = include_str!("../../docs/troubleshooting.md");

/// An entry of the document.
struct Entry {
    heading: &'static str,
    status: i32,
    seen: Seen,
}

/// How its message comes to be seen.
enum Seen {
    /// In this scene of [`refusals`].
    Refused(&'static str),
    /// In this case of [`signed`].
    Signed(&'static str),
    /// In a scene.
    In(fn() -> Result<Scene>),
    /// In a scene when calls fail as strace(1) is told.
    Injected(&'static [&'static str], fn() -> Result<Scene>),
    /// When that call fails with that error in the scene.
    Failing(&'static str, &'static str, fn() -> Result<Scene>),
    /// When the calls fail from one on.
    FailingOn(&'static str, &'static str, fn() -> Result<Scene>),
    /// By the run after one that was killed at that call.
    AfterKill(&'static str),
    /// There is no message.
    Symptom(fn() -> Result<()>),
}

use Seen::{AfterKill, Failing, FailingOn, In, Injected, Refused, Signed, Symptom};

const LEFT: &str = "/run/ostree/.private/unfinished";

const READONLY: &str = "[sysroot]\nreadonly=true\n[var]\nmount=true\n";
const IMAGE: &str = "[composefs]\nenabled=yes\n";
const FORGETFUL: &str = "[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=16M\n\
    [etc]\ntransient=true\n[var]\ntransient=true\n";

const fn entry(heading: &'static str, status: i32, seen: Seen) -> Entry {
    Entry { heading, status, seen }
}

/// Refusals, and the argument that gets around them according to the document.
const REMEDIES: [(&str, &str); 11] = [
    ("unknown slot", "androidboot.slot_suffix=_a"),
    ("transient /var that is not to be mounted", "ostree.prepare-root.var.transient=0"),
    ("transient root without composefs", "ostree.prepare-root.root.transient=0"),
    ("transient root without composefs", "ostree.prepare-root.composefs=yes"),
    ("transient root, and maybe composefs, and no image", "ostree.prepare-root.root.transient-ro=0"),
    ("no var to mount on", "ostree.prepare-root.var.mount=false"),
    ("no boot to mount on", "ostree.prepare-root.boot.mount=false"),
    ("no /boot to mount", "ostree.prepare-root.boot.mount=false"),
    ("composefs without an image", "ostree.prepare-root.composefs=no"),
    ("no repository for the image", "ostree.prepare-root.composefs=no"),
    ("no ostree=", "ostree.prepare-root.deployment=0"),
];

fn remedy(name: &str, argument: &str) -> Result<()> {
    // Of a key that the entry has only as an example, it has the form.
    let (_, key) = argument.rsplit_once('.').unwrap_or_default();
    let general = format!("ostree.prepare-root.SECTION.{}", key.replace("transient", "KEY"));
    let known =
        DOCUMENT.contains(argument) || DOCUMENT.contains(&general) || argument.contains("deployment=");
    same("is it in the document", &[true], &[known])?;
    let (mut scene, status) = refusals::scene(name)?;
    exited(&run(scene.sandbox(false)?)?, status)?;
    // In front: the first of several counts.
    scene.cmdline = format!("{argument} {}", scene.cmdline);
    exited(&run(scene.sandbox(false)?)?, 0)
}

pub fn troubleshooting() -> Vec<Trial> {
    // Where that cannot be told, the trials fail.
    let beneath = kernel::mounts_beneath().unwrap_or(true);
    let mut trials: Vec<Trial> = ENTRIES
        .iter()
        .filter(|entry| beneath || !BENEATH.contains(&entry.heading))
        .map(|entry| ignorable(format!("troubleshooting: {}", entry.heading), move || entry.check()))
        .collect();
    for (name, argument) in REMEDIES {
        trials.push(trial(format!("troubleshooting: {name}: {argument} boots"), move || {
            remedy(name, argument)
        }));
    }
    trials.push(Trial::test("troubleshooting: the document has these entries and no others", || {
        Ok(complete()?)
    }));
    trials
}

/// The entries of the document: its headings of the third rank.
fn headings() -> impl Iterator<Item = &'static str> {
    DOCUMENT.lines().filter_map(|line| line.strip_prefix("### ")).map(|heading| heading.trim_matches('`'))
}

fn complete() -> Result<()> {
    let expected: Vec<_> = ENTRIES.iter().map(|entry| entry.heading).collect();
    same("entries", &expected, &headings().collect::<Vec<_>>())?;
    let vague: Vec<_> =
        ENTRIES.iter().map(|entry| entry.heading).filter(|heading| letters(heading) < 8).collect();
    same("headings that would match anything", &[], &vague)
}

/// How many letters of a heading must be in a message.
fn letters(heading: &str) -> usize {
    pieces(heading).map(str::len).sum()
}

/// What must be in a message, in this order: the text between `...` and words in capitals, which stand
/// for anything.
fn pieces(heading: &str) -> impl Iterator<Item = &str> {
    let mut rest = heading;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = match placeholder(rest) {
            Some((start, end)) => (&rest[..start], &rest[end..]),
            None => (rest, ""),
        };
        rest = after;
        Some(piece)
    })
    .filter(|piece| !piece.is_empty())
}

/// Where the first placeholder is.
fn placeholder(text: &str) -> Option<(usize, usize)> {
    const NAMES: [&str; 15] = [
        "...",
        "CHECKSUM",
        "DIRECTORY",
        "FILE",
        "KEY",
        "LINK",
        "NAME",
        "NUMBER",
        "PATH",
        "PLACE",
        "SECTION",
        "STATEROOT",
        "SYSROOT",
        "TEXT",
        "VALUE",
    ];
    NAMES
        .iter()
        .filter_map(|name| Some((text.find(name)?, name.len())))
        .min()
        .map(|(at, length)| (at, at + length))
}

/// Whether a line of the text is the message.
fn says(text: &str, heading: &str) -> bool {
    text.lines().any(|line| {
        let mut rest = line;
        pieces(heading).all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    })
}

/// Only seen where the new root goes beneath the physical root.
const BENEATH: [&str; 2] =
    ["mount the new root beneath SYSROOT: ...", "detach SYSROOT from above the new root: ..."];

/// Running the program again is said to help.
const AGAIN: [&str; 2] = [
    "detach SYSROOT from above the new root: ...",
    "mount the new root at SYSROOT: ...; putting the physical root back: ...",
];

const TRACE: &str = "/tmp/trace";

impl Entry {
    fn check(&self) -> Result<Completion> {
        let strace = match strace() {
            Some(strace) => strace?,
            None => return Ok(Completion::ignored_with("there is no strace")),
        };
        let ran = match &self.seen {
            Refused(name) => {
                let (scene, status) = refusals::scene(name)?;
                same("exit status", &[self.status], &[status])?;
                run(scene.sandbox(false)?)?
            }
            Signed(name) => {
                let setting = Setting { shared: false, way: &WAYS[0] };
                let (mut sandbox, _) = signed::sandbox(name, setting, &strace)?;
                sandbox.runs.truncate(1);
                run(sandbox)?
            }
            In(scene) => run(scene()?.sandbox(false)?)?,
            Injected(calls, scene) => {
                let inject: Vec<_> = calls.iter().map(|call| format!("inject={call}")).collect();
                run(injected(&scene()?, &strace, &inject)?)?
            }
            Failing(call, error, scene) => self
                .search(&scene()?, &strace, |number| format!("inject={call}:error={error}:when={number}"))?,
            FailingOn(call, error, scene) => self
                .search(&scene()?, &strace, |number| format!("inject={call}:error={error}:when={number}+"))?,
            AfterKill(call) => self.search_kill(&strace, call)?,
            Symptom(check) => return check().map(|()| Completion::Completed),
        };
        self.compare(&ran).map(|()| Completion::Completed)
    }

    fn compare(&self, ran: &Ran) -> Result<()> {
        if self.status == 0 && ran.status == Some(9) && !kernel::checks_digests()? {
            // All is well, but for the kernel, which is older than what is asked of it.
            return self.is_seen(ran);
        }
        exited(ran, self.status)?;
        self.is_seen(ran)
    }

    fn is_seen(&self, ran: &Ran) -> Result<()> {
        if says(&ran.stderr, self.heading) || says(&ran.stdout, self.heading) {
            return Ok(());
        }
        Err(format!("it does not say {:?}:\n{}{}", self.heading, ran.stdout, ran.stderr))
    }

    /// Lets the first, second, ... call fail, until the message is seen.
    fn search(&self, scene: &Scene, strace: &[String], inject: impl Fn(usize) -> String) -> Result<Ran> {
        for number in 1.. {
            let mut sandbox = injected(scene, strace, &[inject(number)])?;
            sandbox.runs.extend(AGAIN.contains(&self.heading).then(|| Run::of(scene.command())));
            let mut runs = job::run(sandbox)?.runs.into_iter();
            let ran = runs.next().context("run the program")?;
            if self.compare(&ran).is_ok() {
                runs.next().map_or(Ok(()), |again| exited(&again, 0))?;
                return Ok(ran);
            }
            if !ran.files.get(TRACE).context("trace the program")?.contains("(INJECTED)") {
                return Err(format!("{number} calls failed, and it never said {:?}", self.heading));
            }
        }
        Err("there is no end".into())
    }

    /// Kills a run at the first, second, ... call, until the next one has something to say.
    fn search_kill(&self, strace: &[String], call: &str) -> Result<Ran> {
        for number in 1.. {
            let scene = plain()?;
            let inject = format!("inject={call}:signal=SIGKILL:when={number}");
            let mut sandbox = injected(&scene, strace, &[inject])?;
            sandbox.runs.push(Run::of(scene.command()));
            let outcome = job::run(sandbox)?;
            let [killed, next] = &outcome.runs[..] else { return Err("not two runs".into()) };
            if killed.status.is_some() {
                return Err(format!("it was killed {} times, and the next run said nothing", number - 1));
            }
            if self.compare(next).is_ok() {
                return Ok(next.clone());
            }
        }
        Err("there is no end".into())
    }
}
