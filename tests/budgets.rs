//! How many system calls the program makes for each of the configurations that systems have: as many as
//! `tests/budgets.csv` grants. The bytes of the program are looked at in `static_binary.rs`.

#[path = "support/budgets.rs"]
mod budgets;
#[path = "behaviour/setting.rs"]
#[allow(dead_code, reason = "tests/behaviour uses the rest")]
mod setting;
#[path = "support/mod.rs"]
mod support;

use libtest_mimic::Completion;
use setting::strace;
use std::process::ExitCode;
use support::failure::{Context, Result};
use support::sandbox::{PRODUCT, SYSROOT};
use support::sysroots::Disks;
use support::workloads::{ALL, Workload};
use support::{kernel, trace, trials};

fn main() -> ExitCode {
    trials::main(|| {
        let name = |workload: &Workload| format!("system calls, {}", workload.name);
        ALL.iter().map(|it| trials::ignorable(name(it), move || is_within_budget(it))).collect()
    })
}

fn is_within_budget(workload: &Workload) -> Result<Completion> {
    let Some(strace) = strace() else { return Ok(Completion::ignored_with("there is no strace")) };
    if !kernel::has_newest_way()? {
        return Ok(Completion::ignored_with(
            "this kernel needs more calls: the budgets are for Linux 6.15 and later",
        ));
    }
    let strace = strace?;
    let disk = Disks::get()?.disk(workload.kind, false);
    let link = disk.boot_links.first().context("find the boot link")?;
    let trace =
        trace::undisturbed(|| trace::of(&strace, workload.sandbox(disk, link)?, &[PRODUCT, SYSROOT]))?;
    let calls = trace::calls(&trace);
    let budget = budgets::budget("system calls", workload.name).context("find the budget")?;
    if calls.len() <= budget {
        return Ok(Completion::Completed);
    }
    let (count, name) = (calls.len(), workload.name);
    let list = trace::by_name(&calls);
    Err(format!(
        "{name}: {count} system calls, {} more than tests/budgets.csv grants: {list}",
        count - budget
    ))
}
