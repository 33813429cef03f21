//! The program's own command line.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, same};
use crate::support::sandbox::{PRODUCT, Ran, Run, State};
use crate::support::trials::trial;
use crate::support::ways::WAYS;
use libtest_mimic::Trial;

use crate::setting::*;

pub fn usage() -> Vec<Trial> {
    let wrong: [(&str, &[&str]); 6] = [
        ("no argument", &[]),
        ("three arguments", &["/sysroot", "ostree=/x", "more"]),
        ("unknown option", &["--frobnicate", "/sysroot"]),
        ("--json without --dry-run", &["--json", "/sysroot"]),
        ("--without what", &["--without", "luck", "/sysroot"]),
        ("--without and nothing", &["/sysroot", "--without"]),
    ];
    let mut trials = Vec::new();
    for (name, arguments) in wrong {
        trials.push(trial(format!("usage: {name}"), move || {
            let (before, ran) = simple(arguments)?;
            exited(&ran, 2)?;
            nothing_changed(&before, &ran.after)?;
            one_message(&ran, &["read the command line"])?;
            let usage = "usage: ostree-prepare-root [--dry-run|--explain [--json]] [--without FEATURE] SYSROOT [KERNEL_CMDLINE]";
            same("last line", &[usage], &[ran.stderr.lines().last().unwrap_or_default()])
        }));
    }
    for (option, says) in
        [("--help", "usage: ostree-prepare-root "), ("--version", "ostree-prepare-root (prepare-root) ")]
    {
        trials.push(trial(format!("usage: {option}"), move || {
            let (before, ran) = simple(&[option])?;
            exited(&ran, 0)?;
            nothing_changed(&before, &ran.after)?;
            same("standard error", &[""], &[ran.stderr.as_str()])?;
            if ran.stdout.starts_with(says) { Ok(()) } else { Err(ran.stdout) }
        }));
    }
    trials
}

fn simple(arguments: &[&str]) -> Result<(State, Ran)> {
    let setting = Setting { shared: false, way: &WAYS[0] };
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    let command = [PRODUCT].iter().chain(arguments).map(|&argument| argument.to_owned());
    sandbox.runs.push(Run::of(command.collect()));
    let mut outcome = job::run(sandbox)?;
    let ran = outcome.runs.pop().context("run the program")?;
    Ok((outcome.before, ran))
}
