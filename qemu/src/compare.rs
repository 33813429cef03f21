//! Our program beside libostree's: in real boots, in the initramfs, and what fills its file.
//!
//! How long real boots take is measured here; [`image_sizes`] and [`binary`] do the rest.
//! Both programs boot one disk, with an initramfs that dracut made of the same system: once with our files in it, and once with those
//! of Debian's ostree-boot.

use crate::Workshop;
use crate::accel::Accel;
use crate::benchmark::{PAGE, TITLE, release_of, spread};
use crate::binary;
use crate::disk::Disk;
use crate::entry::Entry;
use crate::image_sizes;
use crate::layout;
use crate::moments::Moments;
use crate::page;
use crate::product::Program;
use crate::qemu::{Boot, Outcome};
use crate::recipe::{File, Recipe};
use crate::script;
use crate::suite::Suite;
use crate::table;
use crate::timeline;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Real boots.
    Boots,
    /// What is added to an initramfs.
    Images,
    /// What the program's file consists of.
    Binary,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Boots, Self::Images, Self::Binary];

    /// Finds one by its name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "boots" => Ok(Self::Boots),
            "images" => Ok(Self::Images),
            "binary" => Ok(Self::Binary),
            _ => bail!("unknown part '{name}': boots, images and binary are known"),
        }
    }
}

/// How often each is booted.
const ROUNDS: usize = 5;

/// Where all samples are, and the picture.
const SAMPLES: &str = "docs/benchmarks/boot-compare.csv";
const PICTURE: &str = "docs/boot-timeline.svg";

/// The guest reports times in place of everything else.
const REPORT: &[File] = &[(layout::CHECK, include_str!("../guest/times.sh"))];

/// What makes the kernel note when programs begin and end: by the clock that systemd and the journal have as well.
const TRACE: [&str; 2] =
    ["trace_event=sched:sched_process_exec,sched:sched_process_exit", "trace_clock=mono"];

/// One of the two, and what came of it.
struct Side {
    program: Program,
    initramfs: PathBuf,
    boots: Vec<Moments>,
}

/// A duration that is compared: its name in the table, its column in the samples, and how to get it.
type Measure = (&'static str, &'static str, fn(&Moments) -> f64);

const MEASURES: [Measure; 8] = [
    ("program, exec to exit", "program_s", |boot| boot.program.length()),
    ("with systemd's executor", "process_s", |boot| boot.process.length()),
    ("its unit, by the journal", "unit_s", |boot| boot.unit.length()),
    ("kernel", "kernel_s", |boot| boot.initramfs),
    ("initramfs", "initramfs_s", |boot| boot.switched - boot.initramfs),
    ("until switch root", "switched_s", |boot| boot.switched),
    ("userspace", "userspace_s", |boot| boot.finished - boot.switched),
    ("until everything is started", "finished_s", |boot| boot.finished),
];

/// Measures these parts and writes each down; whether everything is as small as it is to be.
pub fn run(workshop: &Workshop, workspace: &Path, limit: Duration, parts: &[Part]) -> Result<bool> {
    let mut reached = true;
    for part in parts {
        reached &= match part {
            Part::Boots => boots(workshop, workspace, limit).map(|()| true),
            Part::Images => image_sizes::run(workshop, workspace),
            Part::Binary => binary::run(workshop, workspace).map(|()| true),
        }?;
    }
    Ok(reached)
}

/// Boots both in turn, prints the table, and writes it down with all samples and a picture.
fn boots(workshop: &Workshop, workspace: &Path, limit: Duration) -> Result<()> {
    let Workshop { cache, progress, accel, .. } = workshop;
    let (builder, circumstances) = (workshop.builder()?, table::circumstances(workspace)?);
    let logs = cache.logs("compare")?;
    let disk = |program| {
        let recipe = Recipe { program, ..Recipe::new(Suite::Forky).files(REPORT) };
        builder.disk(&TRACE.into_iter().fold(recipe, |recipe, karg| recipe.karg(karg)), false, &logs)
    };
    let (disk, lender) = (disk(Program::Ours)?, disk(Program::Libostree)?);
    let mut sides = sides(&disk, &lender)?;
    let mut release = String::new();
    for round in 1..=ROUNDS {
        for side in &mut sides {
            let boot =
                Boot { initramfs: Some(&side.initramfs), steady: true, ..Boot::new(*accel, limit, &logs) };
            let step = format!("{}: boot {round} of {ROUNDS}", name(side.program));
            let outcome = progress.step(&step, || boot.run(&disk))?;
            let end = || script::tail(&outcome.console_log).unwrap_or_default();
            let moments =
                judge(side.program, &outcome).with_context(|| format!("{step} failed:\n{}", end()))?;
            side.boots.push(moments);
            release = release_of(&outcome.console).context("the kernel did not say its version")?.to_owned();
        }
    }
    let table = markdown(&sides);
    print!("\n{table}");
    let samples = workspace.join(SAMPLES);
    fs::create_dir_all(samples.parent().context("samples have a directory")?)?;
    fs::write(&samples, csv(&sides)).with_context(|| format!("write {}", samples.display()))?;
    let about = format!("{circumstances}, Linux {release}, {}", Accel::host(accel.steady_name())?);
    let section = format!("{HEADING}\n\n{INTRODUCTION}\n{about}\n\n{table}");
    let path = workspace.join(PAGE);
    page::write_section(&path, TITLE, &section).with_context(|| format!("write {}", path.display()))?;
    let [ours, libostree] = sides.each_ref().map(|side| typical(&side.boots));
    let (ours, libostree) = ours.zip(libostree).context("nothing was booted")?;
    let picture = workspace.join(PICTURE);
    let title = format!("A boot of Debian {} with dracut in QEMU, {}", Suite::Forky, accel.steady_name());
    timeline::draw(&picture, &title, &[("ours", ours), ("libostree", libostree)])
        .with_context(|| format!("draw {}", picture.display()))
}

/// Both, with their initramfs images. The kernel has to be the same.
fn sides(disk: &Disk, lender: &Disk) -> Result<[Side; 2]> {
    let (ours, libostree) = (Entry::read(&disk.boot())?, Entry::read(&lender.boot())?);
    let kernels = [&ours.kernel, &libostree.kernel];
    ensure!(
        fs::read(kernels[0])? == fs::read(kernels[1])?,
        "{} and {} are different kernels: remove base-forky-* and disk-forky-* from the cache",
        kernels[0].display(),
        kernels[1].display()
    );
    let side = |program, entry: Entry| {
        let initramfs = entry.initramfs.context("dracut made no initramfs")?;
        anyhow::Ok(Side { program, initramfs, boots: Vec::new() })
    };
    Ok([side(Program::Ours, ours)?, side(Program::Libostree, libostree)?])
}

/// What a boot took, if it was one.
fn judge(program: Program, outcome: &Outcome) -> Result<Moments> {
    if let Err(fate) = outcome.complete() {
        bail!("{fate}");
    }
    let report = &outcome.report;
    let state = report.line("state").unwrap_or("unknown");
    ensure!(state == "running", "the system is {state}: {}", report.lines("failed").join("; "));
    ensure!(report.booted_deployment().is_some(), "no deployment is booted");
    // Only ours logs to the kernel.
    let ours = report.final_line().is_some();
    ensure!(ours == (program == Program::Ours), "another program than {} was run", name(program));
    Moments::read(report)
}

fn name(program: Program) -> &'static str {
    match program {
        Program::Ours => "ours",
        Program::Libostree => "libostree",
    }
}

/// The boot in the middle, by the time until everything was started.
fn typical(boots: &[Moments]) -> Option<&Moments> {
    let mut boots: Vec<_> = boots.iter().collect();
    boots.sort_by(|a, b| a.finished.total_cmp(&b.finished));
    boots.get(boots.len() / 2).copied()
}

/// A duration in a unit in which it has digits.
fn readable(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

fn markdown(sides: &[Side; 2]) -> String {
    let mut rows =
        vec![["", "ours", "least to most", "libostree", "least to most", "ratio"].map(str::to_owned)];
    for (measure, _, time) in MEASURES {
        let [ours, libostree] = sides.each_ref().map(|side| spread(side.boots.iter().map(time)));
        let range = |[least, _, most]: [f64; 3]| format!("{} to {}", readable(least), readable(most));
        rows.push([
            measure.to_owned(),
            readable(ours[1]),
            range(ours),
            readable(libostree[1]),
            range(libostree),
            format!("{:.2}", ours[1] / libostree[1]),
        ]);
    }
    page::table(&rows)
}

/// All samples.
fn csv(sides: &[Side; 2]) -> String {
    let mut text = "round,program".to_owned();
    MEASURES.iter().for_each(|(_, column, _)| text += &format!(",{column}"));
    text.push('\n');
    for round in 0..ROUNDS {
        for side in sides {
            let Some(boot) = side.boots.get(round) else { continue };
            let _ = write!(text, "{},{}", round + 1, name(side.program));
            MEASURES.iter().for_each(|(_, _, time)| text += &format!(",{:.6}", time(boot)));
            text.push('\n');
        }
    }
    text
}

const HEADING: &str = "## In a real boot";

const INTRODUCTION: &str = "\
`make boot-compare` writes this section, all samples to [boot-compare.csv](benchmarks/boot-compare.csv), and the [picture](boot-timeline.svg), which shows the boot in the middle of each.
One Debian 14 with its cloud kernel (ext4, no composefs) is booted from one disk with either of two initramfs images that dracut, with systemd, made of it. They
differ by our files in place of those of Debian's `ostree-boot`. Both are booted in turn, five times, one guest at a time. Where guests are emulated, QEMU's option `-icount` makes their clock count instructions, whatever else the host does; only waiting for
the disk takes the host's time. Times are medians; *ratio* is ours by libostree's.

- *program*: from the exec of `ostree-prepare-root` until it had ended, by the kernel's trace; the guest has one processor, so some of it is waiting for others.
- *with systemd's executor*: the same process, from when systemd had it execute its `systemd-executor`.
- *its unit*: from \"Starting\" to \"Finished\" in the journal.
- *kernel*, *initramfs*, *userspace*: as `systemd-analyze` has them. *until switch root* is until the root's systemd began.
";
