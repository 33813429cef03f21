//! The explanation: what was asked for, what there is, and what to do. On every refusal, and for
//! `--explain`.

mod advice;
mod print;

use crate::boot_link::BootLink;
use crate::candidate::Candidate;
use crate::choice::Choice;
use crate::clock::Instant;
use crate::cmdline::Cmdline;
use crate::config::{Config, Origin, Overrides, Source};
use crate::deployment::Deployment;
use crate::error::{Error, Result, printable};
use crate::keyfile::KeyFile;
use crate::mountinfo::{self, Mount};
use crate::name::Name;
use crate::run::unfinished::MountId;
use crate::survey::{FoundLink, Listed, Survey};
use crate::sysroot::Sysroot;
use advice::Advice;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use log::LevelFilter;

/// How long deployments are looked at. A hostile disk has some that take seconds each.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything there is to say.
#[derive(Debug, Default)]
pub struct Explanation {
    asked: Vec<Asked>,
    /// Why what was asked for is refused, if it is.
    refusal: Option<Error>,
    /// It was said already.
    told: bool,
    /// What happens in place of what was asked for.
    remarks: Vec<String>,
    /// The disk was looked at.
    looked: bool,
    /// The physical root.
    root: Option<Mount>,
    deployments: Vec<Row>,
    links: Vec<FoundLink>,
    /// There are more deployments or links than were looked at.
    more: bool,
    advice: Option<Advice>,
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
    /// How its boots failed, if they did.
    assessment: Option<String>,
    verdict: Verdict,
}

/// Whether a deployment can be booted.
#[derive(Debug)]
enum Verdict {
    Yes,
    No(Error),
    /// There was no time to look, or the configuration cannot be read.
    Unknown,
}

/// The explanation of a refusal.
pub fn refusal(origin: Origin, cmdline: &Cmdline, path: &[u8], error: Error) -> Explanation {
    let level = log::max_level();
    log::set_max_level(LevelFilter::Off);
    let mut explanation = Explanation { refusal: Some(error), told: true, ..Explanation::default() };
    // What it meets is what was refused already.
    let _ = explanation.look(origin, cmdline, path);
    log::set_max_level(level);
    explanation
}

/// The same at any other time; warnings are those of a boot.
pub fn explain(cmdline: &Cmdline, path: &[u8]) -> Explanation {
    let level = log::max_level();
    let mut explanation = Explanation::default();
    explanation.refusal = explanation.look(Origin::Initramfs, cmdline, path).err();
    log::set_max_level(level);
    explanation
}

impl Explanation {
    /// Why what was asked for is refused, if it is.
    pub fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    /// Looks at everything again, since it may have been refused before it was looked at.
    ///
    /// # Errors
    /// That of the boot.
    fn look(&mut self, origin: Origin, cmdline: &Cmdline, path: &[u8]) -> Result<()> {
        let source = Source::read(origin, cmdline)?;
        self.asked = asked(cmdline, &source);
        let config = Config::from_source(origin, cmdline, &source);
        let sysroot = Sysroot::open(path)?;
        let choice = config.as_ref().map_err(Clone::clone).and_then(|config| Choice::of(config, &sysroot));
        log::set_max_level(LevelFilter::Off);
        // If only the kernel command line is wrong, there still is the file.
        let any = || Config::parse(&Cmdline::new("ostree=/none"), &source.name, &source.bytes).ok();
        let usual = config.as_ref().ok().cloned().or_else(any);

        self.gather(cmdline, &sysroot, usual.as_ref(), &choice);
        let result = self.judge(&sysroot, config, choice);
        if let Some(refusal) = self.refusal.as_ref().or(result.as_ref().err()) {
            let disk = advice::Disk { cmdline, source: &source, sysroot: &sysroot, usual: usual.as_ref() };
            self.advice = advice::advice(&self.deployments, refusal, &disk);
        }
        result
    }

    /// Everything that is on the disk.
    fn gather(
        &mut self,
        cmdline: &Cmdline,
        sysroot: &Sysroot,
        usual: Option<&Config>,
        choice: &Result<Option<Choice>>,
    ) {
        let start = Instant::now();
        self.looked = true;
        self.root = mount_of(sysroot);
        let asked = choice.as_ref().ok().and_then(Option::as_ref).map(|choice| {
            self.remarks.extend(choice.instead.as_ref().map(|instead| instead.text()));
            choice.deployment.facts.name.clone()
        });
        if let Ok(None) = choice {
            self.remarks.push("it is the root here already".into());
        }
        let survey = Survey::of(sysroot);
        let running = cmdline.booted().map(|link| link.bootcsum);
        let row = |listed: Listed| Row {
            verdict: match usual {
                Some(config) if start.elapsed() < PATIENCE => verdict(config, sysroot, &listed.name),
                _ => Verdict::Unknown,
            },
            asked: asked.as_ref() == Some(&listed.name),
            same_kernel: match (&listed.link, &running) {
                (Some(link), Some(running)) => Some(link.bootcsum == *running),
                _ => None,
            },
            name: listed.name,
            version: listed.version,
            assessment: listed.assessment,
            link: listed.link,
        };
        self.deployments = survey.deployments.into_iter().map(row).collect();
        self.links = survey.links;
        self.more = survey.more;
        // What is wrong with it may have been found when it was mounted.
        if let (Some(row), Some(refusal)) = (self.deployments.iter_mut().find(|row| row.asked), &self.refusal)
            && refusal.class().is_about_the_deployment()
        {
            row.verdict = Verdict::No(refusal.clone());
        }
    }

    /// Whether the boot would be refused.
    fn judge(
        &mut self,
        sysroot: &Sysroot,
        config: Result<Config>,
        choice: Result<Option<Choice>>,
    ) -> Result<()> {
        let config = config?;
        let chosen = choice.as_ref().ok().and_then(Option::as_ref).map(|choice| &choice.deployment);
        let error = match (&choice, self.deployments.iter().find(|row| row.asked)) {
            (Err(error), _) => error.clone(),
            (Ok(_), Some(Row { verdict: Verdict::No(error), .. })) => error.clone(),
            _ => return Ok(()),
        };
        let failed = chosen.map(|deployment| &deployment.facts.name);
        for other in Choice::others(&config, sysroot, failed, &error) {
            let name = &other.deployment.facts.name;
            if let Verdict::Yes = verdict(&config, sysroot, name) {
                self.remarks.push(format!("{}: falls back to {name}", error.summary()));
                return Ok(());
            }
        }
        Err(error)
    }
}

/// What the file and the kernel arguments say, the arguments first.
fn asked(cmdline: &Cmdline, source: &Source) -> Vec<Asked> {
    let overrides = Config::overrides(source);
    let mut asked = Vec::new();
    for (name, value) in cmdline.ours() {
        let link = name == b"ostree" || name == b"androidboot.slot_suffix";
        if !link && !name.starts_with(b"ostree.prepare-root.") {
            continue;
        }
        let value = value.map_or(String::new(), |value| format!("={}", printable(value)));
        let ignored = overrides == Overrides::None && name != b"ostree";
        let source = if ignored { "kernel argument, ignored" } else { "kernel argument" };
        asked.push(Asked { setting: printable(name) + &value, source: source.into() });
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

fn verdict(config: &Config, sysroot: &Sysroot, name: &Name) -> Verdict {
    match Deployment::open(config, sysroot, name) {
        Ok(Some(deployment)) => Candidate::of(config, sysroot, &deployment)
            .and_then(|candidate| candidate.look_for_sources(sysroot))
            .map_or_else(Verdict::No, |()| Verdict::Yes),
        // It is the root already.
        Ok(None) => Verdict::Yes,
        Err(error) => Verdict::No(error),
    }
}

fn mount_of(sysroot: &Sysroot) -> Option<Mount> {
    let number = MountId::of(sysroot.handle()).ok()?.number;
    mountinfo::read().ok()?.into_iter().find(|mount| mount.number == number)
}
