//! What to do, as exactly as it can be typed. What is advised was tried, as far as that can be done without
//! mounting anything.

use super::{Row, Verdict};
use crate::candidate::Candidate;
use crate::choice::Choice;
use crate::cmdline::Cmdline;
use crate::config::{Config, Enabled, Overrides, Source};
use crate::error::Error;
use crate::selector::Selector;
use crate::sysroot::Sysroot;
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What to do.
#[derive(Debug)]
pub struct Advice {
    /// In words.
    pub words: String,
    /// What to type, if that is it.
    pub argument: Option<String>,
    /// What to bear in mind.
    pub but: Option<&'static str>,
}

/// Where an advice can be tried.
pub struct Disk<'a> {
    pub cmdline: &'a Cmdline,
    pub source: &'a Source,
    pub sysroot: &'a Sysroot,
    /// What holds for a boot with another kernel command line.
    pub usual: Option<&'a Config>,
}

/// How many deployments are tried.
const TRIES: usize = 8;

/// What would boot something, or else what is known to do about the refusal.
pub fn advice(rows: &[Row], refusal: &Error, disk: &Disk<'_>) -> Option<Advice> {
    let words = |words: &str| Some(Advice { words: words.to_owned(), argument: None, but: None });
    let usual = disk.usual.filter(|_| refusal.class().another_may_help());
    if let Some(usual) = usual {
        if rows.is_empty() {
            return words(
                "there is no deployment on this disk: is it the right one? \
                 See root= on the kernel command line",
            );
        }
        if let Some(advice) = another(rows, usual, disk).or_else(|| without_image(rows, usual, disk)) {
            return Some(advice);
        }
        if rows.iter().all(|row| matches!(row.verdict, Verdict::No(_))) {
            return words(
                "no deployment on this disk can be booted as it is configured, see the reasons above: \
                 boot a rescue system, check the file system, or deploy again",
            );
        }
    }
    refusal.what_to_do().and_then(words)
}

/// Another deployment: rather one with the same stateroot, which has the same `/var`, and one with the same
/// kernel, and one that has a boot entry.
fn another(rows: &[Row], usual: &Config, disk: &Disk<'_>) -> Option<Advice> {
    let booted = disk.cmdline.booted();
    let rank = |row: &Row| {
        let same_stateroot = booted.as_ref().is_none_or(|link| link.stateroot == row.name.stateroot);
        (same_stateroot, row.same_kernel == Some(true), row.link.is_some())
    };
    let usable = |row: &&Row| matches!(row.verdict, Verdict::Yes);
    let mut ranked: Vec<&Row> = Vec::new();
    for row in rows.iter().filter(usable) {
        let at = ranked.partition_point(|other| rank(other) >= rank(row));
        ranked.insert(at, row);
    }
    ranked.into_iter().take(TRIES).find_map(|row| {
        let argument = match (usual.overrides, &row.link) {
            (Overrides::All, _) => format!("ostree.prepare-root.deployment={}", selector(row, rows)),
            // The only argument that is still read.
            (_, Some(link)) => format!("ostree={link}"),
            (_, None) => return None,
        };
        let (same_stateroot, ..) = rank(row);
        let but = match row.same_kernel {
            _ if !same_stateroot => Some("it is another stateroot, with another /var"),
            Some(true) => None,
            Some(false) => Some("it has another kernel: its own boot entry is better, if there is one"),
            None => Some("whether this kernel is the right one for it is not known"),
        };
        Some(Advice { but, ..tried(&format!("to boot {}", row.name), argument, disk)? })
    })
}

/// The same deployment, but its directory. Not when files are to be verified: whoever reads this must not be
/// talked into giving that up.
fn without_image(rows: &[Row], usual: &Config, disk: &Disk<'_>) -> Option<Advice> {
    let row = rows.iter().find(|row| row.asked)?;
    if usual.composefs.enabled == Enabled::Off || usual.composefs.verity || usual.overrides != Overrides::All
    {
        return None;
    }
    let what = format!("to boot {} without its composefs image", row.name);
    tried(&what, "ostree.prepare-root.composefs=no".into(), disk)
}

/// The advice, if it works.
fn tried(what: &str, argument: String, disk: &Disk<'_>) -> Option<Advice> {
    // Of several the first counts.
    let cmdline = disk.cmdline.after(&argument);
    let config = Config::parse(&cmdline, &disk.source.name, &disk.source.bytes).ok()?;
    let choice = Choice::of(&config, disk.sysroot).ok()??;
    Candidate::of(&config, disk.sysroot, &choice.deployment).ok()?.look_for_sources(disk.sysroot).ok()?;
    let name = argument.split('=').next().unwrap_or_default();
    let words = match disk.cmdline.value(name) {
        Some(_) => format!("{what}, give this kernel argument in place of the one there is:"),
        None => format!("{what}, add to the kernel command line:"),
    };
    Some(Advice { words, argument: Some(argument), but: None })
}

/// The shortest name that means this deployment alone. Not the index: it changes with what is mounted on
/// `/boot`.
fn selector(row: &Row, rows: &[Row]) -> String {
    let directory = String::from_utf8_lossy(&row.name.directory);
    let (checksum, serial) = directory.rsplit_once('.').unwrap_or((&directory, "0"));
    let start = |length: usize| checksum.chars().take(length).collect::<String>();
    let stateroot = String::from_utf8_lossy(&row.name.stateroot);
    let forms = [
        start(8),
        format!("{}.{serial}", start(8)),
        format!("{stateroot}/{}.{serial}", start(16)),
        format!("{stateroot}/{directory}"),
    ];
    let alone = |form: &&String| {
        let Some(selector) = Selector::parse(form) else { return false };
        rows.iter().enumerate().filter(|(index, row)| selector.means(*index, &row.name)).count() == 1
    };
    let index = || rows.iter().position(|other| other.name == row.name).unwrap_or(0).to_string();
    forms.iter().find(alone).cloned().unwrap_or_else(index)
}
