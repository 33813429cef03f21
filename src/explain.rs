//! The explanation: what was asked for, what there is, and what to do. On every refusal, and for
//! `--explain`.

mod advice;
mod print;

use crate::boot_link::BootLink;
use crate::candidate::Candidate;
use crate::choice::Choice;
use crate::cmdline::Cmdline;
use crate::config::{Config, Source};
use crate::deployment::Deployment;
use crate::error::{Class, Error, Result, printable};
use crate::keyfile::KeyFile;
use crate::mountinfo::{self, Mount};
use crate::name::Name;
use crate::run::unfinished::MountId;
use crate::survey::{Listed, Survey};
use crate::sysroot::Sysroot;
use log::LevelFilter;
use std::path::Path;

/// Everything there is to say.
#[derive(Debug, Default)]
pub struct Explanation {
    asked: Vec<Asked>,
    /// Why what was asked for is refused, if it is.
    refusal: Option<Error>,
    /// The physical root.
    root: Option<Mount>,
    deployments: Vec<Row>,
    links: Links,
    /// There are more deployments or links than were looked at.
    more: bool,
    advice: Vec<String>,
}

/// A setting, and where it comes from.
#[derive(Debug)]
struct Asked {
    setting: String,
    source: String,
}

/// A deployment.
#[derive(Debug)]
struct Row {
    name: Name,
    version: Option<String>,
    link: Option<BootLink>,
    /// It boots with the kernel that is running, if that is known.
    same_kernel: Option<bool>,
    /// It is what was asked for.
    asked: bool,
    /// Why it cannot be booted.
    problem: Option<Error>,
}

/// Boot links: how many there are of the two boot versions, and how many of them lead nowhere.
#[derive(Debug, Default)]
struct Links {
    count: [usize; 2],
    dangling: [usize; 2],
}

impl Explanation {
    /// Looks at everything again, since it may have been refused before it was looked at; says nothing
    /// meanwhile. `refusal`: why, if that is known already.
    pub fn of(cmdline: &Cmdline, path: &Path, refusal: Option<Error>) -> Explanation {
        let level = log::max_level();
        log::set_max_level(LevelFilter::Off);
        let mut explanation = Explanation { refusal, ..Explanation::default() };
        if let Err(error) = explanation.look(cmdline, path) {
            explanation.refusal.get_or_insert(error);
        }
        log::set_max_level(level);
        explanation
    }

    /// Why what was asked for is refused, if it is.
    pub fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    fn look(&mut self, cmdline: &Cmdline, path: &Path) -> Result<()> {
        let source = Source::read()?;
        self.asked = asked(cmdline, &source);
        let config = Config::parse(cmdline, &source.name, &source.bytes);
        let sysroot = Sysroot::open(path)?;
        self.root = mount_of(&sysroot);
        let choice = config.as_ref().map_err(Clone::clone).and_then(|config| Choice::of(config, &sysroot));
        let asked = match &choice {
            Ok(Some(choice)) => Some(&choice.deployment.facts.name),
            _ => None,
        };
        let survey = Survey::of(&sysroot);
        let running = cmdline.booted().map(|link| link.bootcsum);
        // If the kernel command line names no deployment, or has something else wrong with it, there
        // still is the file.
        let any = || Config::parse(&Cmdline::new("ostree=/none"), &source.name, &source.bytes).ok();
        let usual = config.as_ref().ok().cloned().or_else(any);
        let row = |listed: Listed| Row {
            problem: problem(usual.as_ref(), &sysroot, &listed.name),
            asked: asked == Some(&listed.name),
            same_kernel: match (&listed.link, &running) {
                (Some(link), Some(running)) => Some(link.bootcsum == *running),
                _ => None,
            },
            name: listed.name,
            version: listed.version,
            link: listed.link,
        };
        for listing in &survey.links {
            let Some(version) =
                ["boot.0", "boot.1"].iter().position(|v| v.as_bytes() == listing.link.version)
            else {
                continue;
            };
            self.links.count[version] += 1;
            self.links.dangling[version] += usize::from(listing.name.is_none());
        }
        self.more = survey.more;
        self.deployments = survey.deployments.into_iter().map(row).collect();
        let mut row = self.deployments.iter_mut().find(|row| row.asked);
        if let Some(row) = &mut row
            && row.problem.is_none()
        {
            // What is wrong with it was found when it was mounted.
            row.problem = self.refusal.clone();
        }
        let of_the_asked = row.and_then(|row| row.problem.clone());
        let result = config.and(choice.map(|_| ())).and(of_the_asked.map_or(Ok(()), Err));
        let refusal = self.refusal.as_ref().or(result.as_ref().err());
        let another_helps = refusal
            .is_some_and(|error| error.class() == Class::Cmdline || error.class().is_about_the_deployment());
        if let Some(usual) = usual.filter(|_| another_helps) {
            self.advice = advice::advice(self, &usual, &sysroot);
        }
        result
    }
}

/// What the file and the kernel arguments say, the arguments first.
fn asked(cmdline: &Cmdline, source: &Source) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (name, value) in cmdline.arguments() {
        let ours = name == b"ostree"
            || name == b"androidboot.slot_suffix"
            || name.starts_with(b"ostree.prepare-root.");
        if ours {
            let value = value.map_or(String::new(), |value| format!("={}", printable(value)));
            asked.push(Asked { setting: printable(name) + &value, source: "kernel argument".into() });
        }
    }
    if let Ok(file) = KeyFile::parse(&source.bytes) {
        asked.extend(file.entries().map(|entry| Asked {
            setting: format!(
                "[{}] {}={}",
                printable(entry.group.as_bytes()),
                printable(entry.key.as_bytes()),
                printable(entry.value.trim_end().as_bytes())
            ),
            source: format!("{} line {}", source.name, entry.line),
        }));
    }
    asked
}

/// Why the deployment cannot be booted; nothing if that is not known.
fn problem(config: Option<&Config>, sysroot: &Sysroot, name: &Name) -> Option<Error> {
    let config = config?;
    match Deployment::open(config, sysroot, name) {
        Ok(Some(deployment)) => Candidate::of(config, sysroot, &deployment).err(),
        // It is the root already.
        Ok(None) => None,
        Err(error) => Some(error),
    }
}

fn mount_of(sysroot: &Sysroot) -> Option<Mount> {
    let number = MountId::of(sysroot.handle()).ok()?.number;
    mountinfo::read().ok()?.into_iter().find(|mount| mount.number == number)
}
