//! Stories: the life of one disk, from boot to boot.
//!
//! A [`Story`] is a disk and a list of [`Part`]s, each of which is one boot of it. In a part the guest runs a function
//! of the story's script as root, which does what an administrator does and checks what must be true; the next part
//! finds what that left on the disk. The theme's script is beside its table, in `lifecycle/`.

mod assess;
mod choose;
mod layouts;
mod local;
mod page;
mod power;
mod replay;
mod server;
mod stateless;
mod upgrade;

use crate::Workshop;
use crate::console::Exchange;
use crate::disk::Disk;
use crate::expect::Expect;
use crate::machine::Firmware;
use crate::product::Program;
use crate::qemu::{Boot, Edit, Outcome};
use crate::recipe::Recipe;
use crate::report::CHECKS;
use crate::script;
use crate::trial::{self, Verdict};
use crate::workers;
use anyhow::{Context, Result, bail};
use page::{Page, Row, Told};
use replay::{Markers, Recording, Replay};
use server::Server;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The life of one disk.
pub struct Story {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, for the table.
    pub about: &'static str,
    /// What its disk is made from.
    pub recipe: Recipe,
    /// The functions that run in the guest, `part_NAME` for each part.
    pub script: &'static str,
    /// What must be true in every boot.
    pub always: Vec<&'static [Expect]>,
    /// Its boots.
    pub parts: Vec<Part>,
}

/// One boot of a story.
#[derive(Clone, Copy)]
pub struct Part {
    /// Its name; that of its function, with `_` for `-`.
    pub name: &'static str,
    /// What it shows, for the table.
    pub about: &'static str,
    /// What is changed on the kernel command line, where no boot loader has it.
    pub edit: Option<Edit>,
    /// What is typed on the console, at a boot menu perhaps.
    pub dialogue: &'static [Exchange],
    /// The release that is the newest on the web server.
    pub serves: Option<&'static str>,
    /// The release that is the newest on a second disk.
    pub carries: Option<&'static str>,
    /// What the web server must have been asked for: paths, where `*` stands for anything.
    pub asked_for: &'static [&'static str],
    /// What becomes of what is written to the disk.
    pub writes: Writes,
    /// Whether it boots again by itself until it is switched off: what is reported is of the last of these boots.
    pub reboots: bool,
    /// What of the things that are always true is not, this time.
    pub except: fn(&Expect) -> bool,
    /// What must be true at its start, besides.
    pub expect: &'static [Expect],
}

/// What becomes of what a part writes to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// The next part finds it.
    Kept,
    /// As well, and every write is recorded.
    Recorded,
    /// Nothing: the part is booted many times, each from what a power loss in the recorded one would have left.
    Replayed(Markers),
}

impl Part {
    /// One that boots what the disk's first boot entry says.
    pub const fn new(name: &'static str, about: &'static str, expect: &'static [Expect]) -> Self {
        Self {
            name,
            about,
            edit: None,
            dialogue: &[],
            serves: None,
            carries: None,
            asked_for: &[],
            writes: Writes::Kept,
            reboots: false,
            except: |_| false,
            expect,
        }
    }
}

/// Every story.
fn all() -> Vec<Story> {
    let themes = [
        // The longest first.
        power::stories(),
        upgrade::stories(),
        assess::stories(),
        choose::stories(),
        local::stories(),
        stateless::stories(),
        layouts::stories(),
    ];
    themes.into_iter().flatten().collect()
}

/// What all scripts begin with.
const COMMON: &str = include_str!("../guest/story.sh");

/// How long all stories may take together, where two guests run at a time and are emulated.
const MARK: Duration = Duration::from_mins(75);

/// Runs the stories that have one of these texts in their names, all if there is none, or `core`, `jobs` at a time; prints
/// a line for each. One that is told to its end has its section of the page written.
pub fn run(workspace: &Path, only: &[String], limit: Duration, jobs: NonZero<usize>) -> Result<bool> {
    let started = Instant::now();
    let workshop = Workshop::open(Program::Ours)?;
    let stories = select(only)?;
    let page = Mutex::new(Page::new(workspace)?);
    // One that is alone may have all guests.
    let guests = if stories.len() == 1 { jobs } else { NonZero::<usize>::MIN };
    let told = workers::map(
        jobs,
        &stories,
        || Ok(()),
        |(), story| {
            let started = Instant::now();
            let parts = tell(&workshop, story, limit, guests).unwrap_or_else(|error| {
                let verdict = Verdict::failed(story.name.to_owned(), &format!("{error:#}"));
                verdict.print();
                vec![(
                    Row::failed(story.parts.first().map_or("", |part| part.name), started.elapsed()),
                    verdict,
                )]
            });
            let (rows, verdicts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            let told = Told { name: story.name, about: story.about, rows, took: started.elapsed() };
            if only != ["core"] {
                page.lock().unwrap_or_else(PoisonError::into_inner).write_story(&told)?;
            }
            Ok((told, verdicts))
        },
    )?;
    let (told, verdicts): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    let mut verdicts: Vec<_> = verdicts.into_iter().flatten().collect();
    let took = started.elapsed();
    println!("\n{}", page::summary(&told, took));
    if only.is_empty() {
        let mut whole = Verdict::default();
        let late = || format!("it took {} minutes", took.as_secs().div_ceil(60));
        let name = format!("all stories in {} minutes", MARK.as_secs() / 60);
        whole.add(name, (took <= MARK).then_some(()).ok_or_else(late));
        whole.print();
        verdicts.push(whole);
        page.lock().unwrap_or_else(PoisonError::into_inner).write_summary(&told, took)?;
    }
    Ok(trial::finish(&verdicts))
}

/// What `make test` has: of this story the parts to this one, which are an upgrade, an extension and a rollback.
const CORE: (&str, &str) = ("trixie-systemd-boot", "stays");

fn core() -> Vec<Story> {
    let mut stories = all();
    stories.retain(|story| story.name == CORE.0);
    for Story { parts, .. } in &mut stories {
        let count = parts.iter().position(|part| part.name == CORE.1).map_or(0, |last| last + 1);
        parts.truncate(count);
    }
    stories
}

fn select(only: &[String]) -> Result<Vec<Story>> {
    if only == ["core"] {
        return Ok(core());
    }
    let stories = all();
    let has = |story: &Story, text: &str| story.name.contains(text);
    if let Some(text) = only.iter().find(|text| !stories.iter().any(|story| has(story, text))) {
        let names: Vec<_> = stories.iter().map(|story| story.name).collect();
        bail!("no story has '{text}' in its name: {}", names.join(", "));
    }
    let wanted = |story: &Story| only.is_empty() || only.iter().any(|text| has(story, text));
    Ok(stories.into_iter().filter(wanted).collect())
}

/// Tells one story: boots its disk, part by part. After a part that failed, there is nothing to go on from.
fn tell(
    workshop: &Workshop,
    story: &Story,
    limit: Duration,
    guests: NonZero<usize>,
) -> Result<Vec<(Row, Verdict)>> {
    let logs = workshop.cache.logs(story.name)?;
    let started = Instant::now();
    let disk = workshop.builder()?.disk(&story.recipe, true, &logs)?;
    let mut made = Some(started.elapsed());
    let mut told: Vec<(Row, Verdict)> = Vec::new();
    let (mut argument, mut recording) = (None, None);
    for part in &story.parts {
        let name = format!("{}/{}", story.name, part.name);
        let started = Instant::now();
        let mut about = part.about.to_owned();
        let verdict = if told.last().is_some_and(|(_, verdict)| !verdict.passed()) {
            Verdict::failed(name, "not tried: the part before failed")
        } else {
            let logs = logs.join(part.name);
            fs::create_dir(&logs).context("create a log directory")?;
            let has: Option<String> = argument.take();
            let mut once = |record: Option<&Path>| -> Result<Verdict> {
                // It deploys as well, which is a gigabyte of checksums.
                let limit = limit * if part.reboots { 4 } else { 2 };
                let base = Boot::new(workshop.accel, limit, &logs);
                let base = Boot { keep: true, record, argument: has.as_deref(), ..base };
                let boot = || boot(story, part, &disk, base);
                let (outcome, requests) = workshop.progress.step(&name, boot)?;
                argument = outcome.report.line("argument").map(str::to_owned);
                judge(story, part, &name, &outcome, requests.as_deref(), &logs)
            };
            let tried = match part.writes {
                Writes::Kept => once(None),
                Writes::Recorded => {
                    let new = Recording::of(&disk, &workshop.cache, &logs)?;
                    once(Some(recording.insert(new).log()))
                }
                Writes::Replayed(markers) => {
                    let recording = recording.as_ref().context("there is no recorded part before it")?;
                    let (disk, logs) = (&disk, &*logs);
                    let replay =
                        Replay { workshop, story, part, markers, disk, recording, limit, guests, logs };
                    replay.run().map(|(verdict, what)| {
                        about = what;
                        verdict
                    })
                }
            };
            tried.unwrap_or_else(|error| Verdict::failed(name, &format!("{error:#}")))
        };
        verdict.print();
        let row = Row {
            part: part.name,
            about,
            passed: verdict.passed(),
            made: made.take(),
            took: started.elapsed(),
        };
        told.push((row, verdict));
    }
    Ok(told)
}

/// Boots the disk once, with what the part needs for it; what came of that, and what the web server was asked for.
fn boot(story: &Story, part: &Part, disk: &Disk, base: Boot<'_>) -> Result<(Outcome, Option<Vec<String>>)> {
    let logs = base.logs;
    if story.recipe.firmware() == Firmware::None
        && story.parts.first().map(|first| first.name) != Some(part.name)
    {
        // There is no boot loader that reads what the last part left.
        disk.read_boot(logs)?;
    }
    let server = part.serves.map(|name| Server::start(&disk.releases().join(name), logs)).transpose()?;
    let mut attached = vec![("story", logs.join("story.img"))];
    write_script(story, part, server.as_ref().map_or("", Server::url), &attached[0].1)?;
    if let Some(name) = part.carries {
        let image = logs.join("releases.img");
        fs::File::create(&image)?.set_len(1 << 30).context("create the second disk")?;
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-d"]).arg(disk.releases().join(name)).arg(&image);
        script::run(&mut command, &logs.join("second-disk.log"))?;
        attached.push(("releases", image));
    }
    let boot = Boot {
        edit: part.edit,
        dialogue: part.dialogue,
        attached: &attached,
        network: server.is_some(),
        reboots: part.reboots,
        ..base
    };
    let outcome = boot.run(disk)?;
    remove_disks(&attached)?;
    let requests = server.map(|server| server.requests()).transpose()?;
    Ok((outcome, requests))
}

/// Writes the disk that the guest's shell reads its script from.
fn write_script(story: &Story, part: &Part, server: &str, image: &Path) -> Result<()> {
    let function = part.name.replace('-', "_");
    let mut text = format!(
        "server={server} ref=vendor:debian/{}\n{COMMON}\n{}\npart_{function}\ndone_with_all\n",
        story.recipe.suite, story.script
    );
    // A shell takes no harm from empty lines; a disk has whole sectors.
    text += &"\n".repeat(text.len().next_multiple_of(512) - text.len());
    fs::write(image, text).with_context(|| format!("write {}", image.display()))
}

/// The section in which the script says, at its end, how many checks there were.
const MADE: &str = "checks-made";

/// They would be a gigabyte for each part.
fn remove_disks(attached: &[(&str, PathBuf)]) -> Result<()> {
    for (name, image) in attached.iter().filter(|(name, _)| *name != "story") {
        fs::remove_file(image).with_context(|| format!("remove the disk {name}"))?;
    }
    Ok(())
}

fn judge(
    story: &Story,
    part: &Part,
    name: &str,
    outcome: &Outcome,
    requests: Option<&[String]>,
    logs: &Path,
) -> Result<Verdict> {
    let always = story.always.iter().copied().flatten();
    let always = always.filter(|expectation| !(part.except)(expectation));
    let mut verdict = Verdict::of_boot(name, always.chain(part.expect), outcome);
    let checks = outcome.report.lines(CHECKS);
    for check in checks {
        let (word, what) = check.split_once('\t').unwrap_or(("", check));
        let (what, reason) = what.split_once('\t').unwrap_or((what, ""));
        let result = if word == "ok" { Ok(()) } else { Err(reason.to_owned()) };
        verdict.add(format!("{name}/{what}"), result);
    }
    for path in part.asked_for {
        let requests = requests.unwrap_or_default();
        let asked = requests.iter().any(|request| server::is_like(request, path));
        let reason = || format!("{} requests, and none for it", requests.len());
        let result = asked.then_some(()).ok_or_else(reason);
        verdict.add(format!("{name}/the server was asked for {path}"), result);
    }
    let lines = outcome.report.lines("story");
    let made: Option<Vec<usize>> =
        outcome.report.lines(MADE).iter().map(|count| count.parse().ok()).collect();
    let ended = match made.as_deref() {
        None | Some([]) => Err(lines.last().map_or("it was not started", String::as_str).to_owned()),
        Some([0]) => Err("it has no checks".to_owned()),
        Some(made) if made.iter().sum::<usize>() != checks.len() => {
            Err(format!("of {made:?} checks, {} were reported", checks.len()))
        }
        Some(_) => Ok(()),
    };
    verdict.add(format!("{name}/the script ran to its end"), ended);
    if !verdict.passed() {
        let rest = lines.len().saturating_sub(20);
        let trace: String = lines[rest..].iter().map(|line| format!("    {line}\n")).collect();
        verdict.explain(&format!("the script ends with:\n{trace}"));
        verdict.explain(&format!("logs: {}\n", logs.display()));
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::{Story, all, core};

    #[test]
    fn the_core_is_there() {
        let parts: Vec<_> = core().iter().flat_map(|story| &story.parts).map(|part| part.name).collect();
        assert_eq!(parts, ["install", "upgrade", "menu", "stays"]);
    }

    #[test]
    fn every_part_has_its_function() {
        for Story { name, script, parts, .. } in all() {
            let functions =
                script.lines().filter_map(|line| line.strip_prefix("part_")?.strip_suffix("() {"));
            let functions: Vec<_> = functions.collect();
            for part in &parts {
                assert!(part.serves.is_some() || part.asked_for.is_empty(), "{name}: nobody to ask");
            }
            let parts: Vec<_> = parts.iter().map(|part| part.name.replace('-', "_")).collect();
            for part in &parts {
                assert!(functions.contains(&part.as_str()), "{name}: {part}");
            }
            let shared = all().iter().filter(|other| other.script == script).count() > 1;
            for function in functions {
                assert!(
                    shared || parts.iter().any(|part| part == function),
                    "{name}: nobody runs {function}"
                );
            }
        }
    }
}
