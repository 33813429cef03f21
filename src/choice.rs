//! Which deployment: the one that is asked for, or the one that has to stand in for it.

use crate::boot_link::BootLink;
use crate::cmdline::{Link, Target};
use crate::config::{BootLinks, Config, Fallback};
use crate::deployment::{self, Deployment};
use crate::error::{Class, Error, Result, printable};
use crate::json;
use crate::lookup;
use crate::name::Name;
use crate::selector::Selector;
use crate::survey::{self, Survey};
use crate::sysroot::Sysroot;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// A deployment, and how it came to be chosen.
#[derive(Debug)]
pub struct Choice {
    /// The deployment.
    pub deployment: Deployment,
    /// Why it is another than the boot entry names, if it is.
    pub instead: Option<Instead>,
}

/// Why a deployment is booted that the boot entry does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// What was asked for.
    asked: String,
    how: How,
    why: String,
    version: Option<String>,
}

/// Who decided that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// `[recovery] boot-links=repair`
    BootLinks,
    /// `[recovery] fallback=same-kernel`
    Fallback,
    /// `ostree.prepare-root.deployment=`
    Argument,
}

impl Instead {
    /// Where the record of it is.
    pub const PATH: &CStr = c"/run/ostree/prepare-root.json";

    /// What is replaced, and why, for people.
    pub fn text(&self) -> String {
        format!("{} is replaced: {}", self.asked, self.why)
    }

    /// The record.
    pub fn record(&self, name: &Name) -> String {
        let how = match self.how {
            How::BootLinks => "boot-links",
            How::Fallback => "fallback",
            How::Argument => "deployment",
        };
        json::object(&[
            ("asked", json::string(&self.asked)),
            ("how", json::string(how)),
            ("stateroot", json::bytes(&name.stateroot)),
            ("deployment", json::bytes(&name.directory)),
            ("path", json::bytes(&[b"/", &name.path()[..]].concat())),
            ("version", json::optional(self.version.as_deref())),
            ("why", json::string(&self.why)),
        ])
    }
}

impl Choice {
    /// The deployment that is asked for; `None` when the physical root already *is* that deployment,
    /// because an earlier run put it there.
    ///
    /// # Errors
    /// As [`Deployment::follow`]; [`Class::Deployment`] when a selector means none or several.
    pub fn of(config: &Config, sysroot: &Sysroot) -> Result<Option<Choice>> {
        match Choice::of_the_disk(config, sysroot) {
            Err(_) if is_booted_instead(config, sysroot) => Ok(None),
            choice => choice,
        }
    }

    fn of_the_disk(config: &Config, sysroot: &Sysroot) -> Result<Option<Choice>> {
        match &config.target {
            Target::Link(link) => match Deployment::follow(config, sysroot, link) {
                Err(error) if config.boot_links == BootLinks::Repair => repair(config, sysroot, link, error),
                followed => Ok(followed?.map(|deployment| Choice { deployment, instead: None })),
            },
            Target::Chosen(selector) => select(config, sysroot, selector),
        }
    }

    /// What can stand in for `failed`, in the order of their index: the other deployments with the kernel
    /// that is running and the same stateroot, which has the same `/var`.
    pub fn others(config: &Config, sysroot: &Sysroot, failed: Option<&Name>, why: &Error) -> Vec<Choice> {
        let (Fallback::SameKernel, Some(booted), Target::Link(link)) =
            (config.fallback, &config.booted, &config.target)
        else {
            return Vec::new();
        };
        // A link that is missing is the business of boot-links.
        let there = || link_is_there(sysroot, link).is_ok();
        if !why.class().is_about_the_deployment() || (failed.is_none() && !there()) {
            return Vec::new();
        }
        let survey = Survey::of(sysroot);
        let same = |link: &BootLink| link.bootcsum == booted.bootcsum;
        let has_same = |name: &Name| {
            name.stateroot == booted.stateroot
                && survey.links.iter().any(|found| same(&found.link) && found.name.as_ref() == Some(name))
        };
        let others = survey.deployments.iter().filter(|listed| Some(&listed.name) != failed);
        let choice = |name: &Name, version: &Option<String>| {
            let deployment = Deployment::open(config, sysroot, name).ok()??;
            let instead = Instead {
                asked: config.target.to_string(),
                how: How::Fallback,
                why: why.summary(),
                version: version.clone(),
            };
            Some(Choice { deployment, instead: Some(instead) })
        };
        others
            .filter(|listed| has_same(&listed.name))
            .filter_map(|listed| choice(&listed.name, &listed.version))
            .collect()
    }
}

/// The same link under another boot version, if that is what is wrong: OSTree was interrupted between
/// writing the links and the boot entries (<https://github.com/ostreedev/ostree/issues/2283>).
fn repair(config: &Config, sysroot: &Sysroot, link: &Link, error: Error) -> Result<Option<Choice>> {
    let missing = link_is_there(sysroot, link) == Err(Errno::NOENT);
    let boot_link = BootLink::parse(link.path());
    let (Link::Boot(_), true, Some(boot_link)) = (link, missing, boot_link) else { return Err(error) };
    let mut found: Option<(BootLink, Name)> = None;
    for other in boot_link.under_other_versions() {
        let Some(name) = survey::follow(sysroot, &other.path()) else { continue };
        match &found {
            Some((_, first)) if *first != name => return Err(error),
            Some(_) => {}
            None => found = Some((other, name)),
        }
    }
    let same_stateroot = |(_, name): &(BootLink, Name)| name.stateroot == boot_link.stateroot;
    let Some((other, name)) = found.filter(same_stateroot) else { return Err(error) };
    let followed = Deployment::follow(config, sysroot, &Link::Boot(other.path()))?;
    let Some(deployment) = followed else { return Ok(None) };
    let version = survey::describe(sysroot, &name).and_then(|(version, _)| version);
    let shown = version.as_deref().map_or(String::new(), |version| format!(", version {version}"));
    let why = format!("{boot_link} does not exist, {other} does");
    log::warn!(
        "{why}: booting {name}{shown}\n\
         It has the same kernel, but each deploy gives the serials anew: the boot entry may have meant another system.\n\
         Deploy once more to write the boot entries anew. [recovery] boot-links=strict refuses this."
    );
    let instead = Instead { asked: link.to_string(), how: How::BootLinks, why, version };
    Ok(Some(Choice { deployment, instead: Some(instead) }))
}

fn link_is_there(sysroot: &Sysroot, link: &Link) -> rustix::io::Result<()> {
    lookup::open_beneath(sysroot.handle(), link.path(), OFlags::PATH | OFlags::NOFOLLOW).map(drop)
}

fn select(config: &Config, sysroot: &Sysroot, selector: &Selector) -> Result<Option<Choice>> {
    let survey = Survey::of(sysroot);
    let refuse = |found: String| {
        Error::found(Class::Deployment, format!("find {}", config.target), found)
            .hint("boot with the index of one that is listed below")
    };
    let meant: Vec<_> = survey
        .deployments
        .iter()
        .enumerate()
        .filter(|(index, listed)| selector.means(*index, &listed.name))
        .map(|(_, listed)| listed)
        .collect();
    let listed = match meant[..] {
        [listed] => listed,
        [] => return Err(refuse(format!("none of {} deployments is meant", survey.deployments.len()))),
        _ => return Err(refuse(format!("{} deployments can be meant", meant.len()))),
    };
    let Some(deployment) = Deployment::open(config, sysroot, &listed.name)? else { return Ok(None) };
    let bootcsum = |link: &Option<BootLink>| link.as_ref().map(|link| link.bootcsum.clone());
    if let (Some(its), Some(running)) = (bootcsum(&listed.link), bootcsum(&config.booted))
        && its != running
    {
        log::warn!(
            "{} was deployed with kernel {}, and {} is running: it may lack modules",
            listed.name,
            short(&its),
            short(&running)
        );
    }
    let named = config.booted.as_ref().and_then(|link| survey::follow(sysroot, &link.path()));
    let instead = (named.as_ref() != Some(&listed.name)).then(|| Instead {
        asked: config.target.to_string(),
        how: How::Argument,
        why: "the kernel argument, in place of ostree=".into(),
        version: listed.version.clone(),
    });
    Ok(Some(Choice { deployment, instead }))
}

/// Whether an earlier run, asked for the same, put another deployment in the physical root's place. (What
/// an index means cannot be told any more then: the boot entries are out of sight.)
fn is_booted_instead(config: &Config, sysroot: &Sysroot) -> bool {
    let Ok(Some(record)) = lookup::read(Instead::PATH) else { return false };
    let member = |name: &str| {
        let record = str::from_utf8(&record).ok()?;
        let value = record.split_once(&format!("\"{name}\":\""))?.1;
        Some(value.split_once('"')?.0)
    };
    let asked = json::string(&config.target.to_string());
    if member("asked") != Some(asked.trim_matches('"')) {
        return false;
    }
    let Some(path) = member("path") else { return false };
    deployment::is_booted_at(sysroot, format!("sysroot{path}").as_bytes())
}

/// A checksum, no longer than needed to recognise it.
pub fn short(checksum: &[u8]) -> String {
    printable(&checksum[..checksum.len().min(12)])
}
