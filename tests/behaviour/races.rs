//! Somebody changes the disk while the program runs: never is anything mounted that is not on it.

use crate::support::failure::Result;
use crate::support::job;
use crate::support::race::Race;
use crate::support::trials::trial;
use crate::support::ways::WAYS;
use libtest_mimic::Trial;

use crate::setting::*;

/// Of both trials together; if all is to be tested, twenty times as many.
const RUNS: usize = 500;

pub fn races() -> Vec<Trial> {
    let runs = if everything() { 20 * RUNS } else { RUNS } / 2;
    let race = |shared| {
        let name = format!("races: {runs} runs: {}", if shared { "shared" } else { "private" });
        trial(name, move || against_exchanges(shared, runs))
    };
    [false, true].map(race).into()
}

fn against_exchanges(shared: bool, runs: usize) -> Result<()> {
    let disk = disk()?;
    let mut sandbox = Setting { shared, way: &WAYS[0] }.sandbox(copy()?)?;
    sandbox.edits.push(file(CONFIG, "[sysroot]\nreadonly=true\n[var]\nmount=true\n[boot]\nmount=true\n"));
    let link = disk.boot_links[0].trim_start_matches('/');
    let deployment = &disk.deployments[0];
    let mut changing = Vec::new();
    // The link and all directories on the way to it, and the deployment and all on the way to that.
    for path in [link, deployment] {
        changing.extend(path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
        changing.push(path.to_owned());
    }
    changing.extend(["usr", "etc", "var", "boot", "sysroot"].map(|part| format!("{deployment}/{part}")));
    changing.extend(["ostree/deploy/debian/var", "boot"].map(str::to_owned));
    changing.sort();
    changing.dedup();
    let cmdline = cmdline()?;
    let commands = WAYS.iter().map(|way| way.command(&cmdline)).collect();
    let ends = job::race(Race { sandbox, commands, runs, changing })?;
    let prepared = ends.statuses.get(&0).copied().unwrap_or_default();
    println!(
        "{} exchanges while {prepared} runs prepared the root; exit statuses {:?}",
        ends.exchanges, ends.statuses
    );
    // Neither too fast nor too slow for the program to notice.
    if prepared == 0 || prepared == runs {
        return Err(format!("that was no race: {ends:?}"));
    }
    Ok(())
}
