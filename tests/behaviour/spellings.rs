//! The ways in which `ostree=` is written.

use crate::support::job;
use crate::support::promises::{exited, replaced_only, same};
use crate::support::sandbox::{Outcome, SYSROOT};
use crate::support::trials::trial;
use libtest_mimic::Trial;

use crate::setting::*;

/// Writes an argument that names a boot link.
type Spell = fn(&str) -> String;

pub fn spellings() -> Vec<Trial> {
    // The generator reads the command line more simply than the kernel. In the first two it does
    // not find the stateroot, so that nobody else mounts /var; in the third no ostree= at all, so
    // that nobody else mounts /boot either.
    let spellings: [(&str, Spell, &[&str], &str); 5] = [
        ("no leading slash", |link| format!("ostree={}", link.trim_start_matches('/')), &["/var"], ""),
        ("quoted value", |link| format!("ostree=\"{link}\" quiet"), &["/var"], ""),
        ("quoted argument", |link| format!("\"ostree={link}\" quiet"), &["/boot", "/var"], ""),
        ("given twice", |link| format!("ostree={link} ostree=/nonsense"), &[], "ignoring /nonsense"),
        ("given twice, the same", |link| format!("ostree={link} ostree={link}"), &[], ""),
    ];
    let mut trials = Vec::new();
    for setting in Setting::all() {
        for (name, spell, besides, said) in spellings {
            let name = format!("ostree=: {name}: {}", setting.name());
            trials.push(trial(name, move || {
                let mut sandbox = setting.sandbox(shared_disk()?)?;
                let mut plain = sandbox.clone();
                plain.runs.push(setting.run(&cmdline()?));
                sandbox.runs.push(setting.run(&spell(&disk()?.boot_links[0])));
                let (plain, spelt) = (job::run(plain)?, job::run(sandbox)?);
                exited(&plain.runs[0], 0)?;
                exited(&spelt.runs[0], 0)?;
                replaced_only(setting.shared, &spelt, &spelt.runs[0])?;
                let below = |outcome: &Outcome| outcome.runs[0].after.mounts.below(SYSROOT);
                let mut rows = below(&spelt);
                let plain = below(&plain);
                let expected = [points(&plain), besides.to_vec()].concat();
                same("mounts", &expected, &points(&rows))?;
                rows.retain(|row| !besides.contains(&row.point.as_str()));
                same("mounts", &plain, &rows)?;
                match spelt.runs[0].stderr.trim_end() {
                    "" if said.is_empty() => Ok(()),
                    stderr if !said.is_empty() && stderr.ends_with(said) => Ok(()),
                    stderr => Err(format!("on standard error: {stderr}")),
                }
            }));
        }
    }
    trials
}
