//! How long a boot takes until init, and how large its initramfs is, by what made that.
//!
//! One disk serves all: its init is a program that only says when it was started
//! (`bin/prepare-root-stopwatch.rs`). Its kernel is given the initramfs that each generator made in the same
//! system, or none.

use crate::Workshop;
use crate::accel::Accel;
use crate::disk::Disk;
use crate::entry::Entry;
use crate::generator::Generator;
use crate::layout;
use crate::machine::{Bus, Machine};
use crate::page;
use crate::qemu::{self, Boot};
use crate::recipe::Recipe;
use crate::script;
use crate::suite::Suite;
use crate::table;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often each is booted.
const ROUNDS: usize = 5;

/// What the initramfs of our program alone is to stay below: a size in bytes, and a share of the time that it
/// takes with dracut's.
const MOST_BYTES: u64 = 3_000_000;
const MOST_SHARE: f64 = 0.5;

/// What is compared. Virtual machines mostly have virtio; NVMe is what the kernel can read without an initramfs.
const WAYS: [(Generator, Bus); 7] = [
    (Generator::Solo, Bus::VirtioBlk),
    (Generator::InitramfsTools, Bus::VirtioBlk),
    (Generator::Dracut, Bus::VirtioBlk),
    (Generator::Solo, Bus::Nvme),
    (Generator::InitramfsTools, Bus::Nvme),
    (Generator::Dracut, Bus::Nvme),
    (Generator::None, Bus::Nvme),
];

/// What the stopwatch says.
const SAID: &str = "prepare-root-stopwatch[1]: started at ";

/// What the page of all benchmarks is called, its title, and where the samples are.
pub const PAGE: &str = "docs/benchmarks.md";
pub const TITLE: &str = "Benchmarks";
const SAMPLES: &str = "docs/benchmarks/boot-times.csv";

/// A way to boot, and what came of it.
struct Way {
    generator: Generator,
    bus: Bus,
    /// The initramfs, if there is one, and its size in bytes.
    initramfs: Option<(PathBuf, u64)>,
    boots: Vec<Times>,
}

/// What one boot took, in seconds since the kernel's start.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    /// Until the kernel started its first program.
    program: f64,
    /// Until the system's init was started.
    init: f64,
}

/// Boots in every way, prints the table, and writes it down with all samples; whether everything is as small and
/// as fast as it is to be.
pub fn run(workshop: &Workshop, workspace: &Path, limit: Duration) -> Result<bool> {
    let Workshop { cache, progress, accel, .. } = workshop;
    let (builder, circumstances) = (workshop.builder()?, table::circumstances(workspace)?);
    let logs = cache.logs("boot-times")?;
    let system = |generator| Recipe::new(Suite::Trixie).generator(generator);
    let disk = builder.disk(&system(Generator::None).stopwatch(), false, &logs)?;
    let kernel = Entry::read(&disk.boot())?.kernel;
    // The disks whose initramfs images are borrowed; they stay for as long.
    let mut lenders: Vec<(Generator, Disk)> = Vec::new();
    for generator in [Generator::Solo, Generator::InitramfsTools, Generator::Dracut] {
        let lender = builder.disk(&system(generator), false, &logs)?;
        let other = Entry::read(&lender.boot())?.kernel;
        ensure!(
            fs::read(&kernel)? == fs::read(&other)?,
            "{} and {} are different kernels: remove base-trixie-* and disk-trixie-* from the cache",
            kernel.display(),
            other.display()
        );
        lenders.push((generator, lender));
    }
    let mut ways = Vec::new();
    for (generator, bus) in WAYS {
        let lender = lenders.iter().find(|(lender, _)| *lender == generator);
        let entry = lender.map(|(_, lender)| Entry::read(&lender.boot())).transpose()?;
        let image = entry.and_then(|entry| entry.initramfs);
        let initramfs =
            image.map(|image| fs::metadata(&image).map(|file| (image, file.len()))).transpose()?;
        ways.push(Way { generator, bus, initramfs, boots: Vec::new() });
    }
    let mut release = String::new();
    for round in 1..=ROUNDS {
        for way in &mut ways {
            let (generator, bus) = (way.generator, way.bus);
            let boot = Boot {
                machine: Machine { bus },
                initramfs: way.initramfs.as_ref().map(|(image, _)| image.as_path()),
                edit: way.initramfs.as_ref().map(|_| for_initramfs as qemu::Edit),
                ..Boot::new(*accel, limit, &logs)
            };
            let step = format!("{generator}, {}: boot {round} of {ROUNDS}", bus.name());
            let outcome = progress.step(&step, || boot.run(&disk))?;
            let end = || script::tail(&outcome.console_log).unwrap_or_default();
            way.boots.push(times(&outcome.console).with_context(|| format!("{step} failed:\n{}", end()))?);
            release = release_of(&outcome.console).context("the kernel did not say its version")?.to_owned();
        }
    }
    let table = markdown(&ways);
    let (missed, reached) = judge(&ways);
    print!("\n{table}\n{reached}");
    let samples = workspace.join(SAMPLES);
    fs::create_dir_all(samples.parent().context("samples have a directory")?)?;
    fs::write(&samples, csv(&ways)).with_context(|| format!("write {}", samples.display()))?;
    let about = format!("{circumstances}, Linux {release}, {}", Accel::host(accel.name())?);
    let section = format!("{HEADING}\n\n{INTRODUCTION}\n{about}\n\n{table}\n{reached}");
    let path = workspace.join(PAGE);
    page::write_section(&path, TITLE, &section).with_context(|| format!("write {}", path.display()))?;
    Ok(!missed)
}

/// With an initramfs, the disk is looked for and init is the kernel's argument.
fn for_initramfs(word: &str) -> String {
    match word.split_once('=') {
        Some(("root", _)) => "root=LABEL=prepare-root".to_owned(),
        Some(("init", _)) => format!("init={}", layout::STOPWATCH),
        _ if word == "rootwait" => String::new(),
        _ => word.to_owned(),
    }
}

/// What a boot took, by what the console shows of it.
fn times(console: &str) -> Option<Times> {
    let program = qemu::kernel_time(console, console.find(qemu::INIT_RUNS)?)?;
    let init = console.lines().find_map(|line| Some(line.trim_end().split_once(SAID)?.1))?.parse().ok()?;
    Some(Times { program, init })
}

/// The kernel's release, by what the console shows.
pub fn release_of(console: &str) -> Option<&str> {
    console.split_once("Linux version ")?.1.split_whitespace().next()
}

/// Least, median and greatest of some samples.
pub fn spread(samples: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut all: Vec<_> = samples.collect();
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(all.len() / 2), at(all.len().saturating_sub(1))]
}

impl Way {
    /// Least, median and greatest of a time.
    fn spread(&self, time: impl Fn(&Times) -> f64) -> [f64; 3] {
        spread(self.boots.iter().map(time))
    }

    /// The median until init.
    fn init(&self) -> f64 {
        let [_, median, _] = self.spread(|times| times.init);
        median
    }

    fn size(&self) -> u64 {
        self.initramfs.as_ref().map_or(0, |(_, size)| *size)
    }
}

/// What a way takes of the time that it takes with dracut's initramfs.
fn share(way: &Way, ways: &[Way]) -> f64 {
    let dracut = ways.iter().find(|other| other.generator == Generator::Dracut && other.bus == way.bus);
    way.init() / dracut.map_or(f64::NAN, Way::init)
}

/// In Markdown, aligned.
fn markdown(ways: &[Way]) -> String {
    let mut rows = vec![
        ["initramfs", "disk", "image", "first program", "init", "least to most", "share"].map(str::to_owned),
    ];
    for way in ways {
        let [_, program, _] = way.spread(|times| times.program);
        let [least, init, most] = way.spread(|times| times.init);
        rows.push([
            way.generator.name().to_owned(),
            way.bus.name().to_owned(),
            way.initramfs.as_ref().map_or("-".to_owned(), |_| megabytes(way.size())),
            format!("{program:.2} s"),
            format!("{init:.2} s"),
            format!("{least:.2}-{most:.2} s"),
            format!("{:.2}", share(way, ways)),
        ]);
    }
    page::table(&rows)
}

/// In megabytes, of a million bytes each.
#[expect(clippy::cast_precision_loss, reason = "an image has fewer bytes than a float has numbers")]
pub fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// Whether something is larger or slower than it is to be, and a sentence for each.
fn judge(ways: &[Way]) -> (bool, String) {
    let mut missed = false;
    let mut text = "What the solo initramfs is to reach:\n\n".to_owned();
    for way in ways.iter().filter(|way| way.generator == Generator::Solo) {
        let (size, share) = (way.size(), share(way, ways));
        // What is no number is not below anything.
        let within = size <= MOST_BYTES && share <= MOST_SHARE;
        missed |= !within;
        let word = if within { "reached" } else { "MISSED" };
        let _ = writeln!(
            text,
            "- {}: {} of at most {}, {share:.2} of dracut's time of at most {MOST_SHARE}: {word}",
            way.bus.name(),
            megabytes(size),
            megabytes(MOST_BYTES)
        );
    }
    (missed, text)
}

/// All samples.
fn csv(ways: &[Way]) -> String {
    let mut text = "round,initramfs,disk,image_bytes,first_program_s,init_s\n".to_owned();
    for round in 0..ROUNDS {
        for way in ways {
            let Some(Times { program, init }) = way.boots.get(round) else { continue };
            let (generator, bus, size) = (way.generator, way.bus.name(), way.size());
            let _ = writeln!(text, "{},{generator},{bus},{size},{program:.6},{init:.6}", round + 1);
        }
    }
    text
}

const HEADING: &str = "## From the kernel's start to init";

const INTRODUCTION: &str = "\
`make boot-times` writes this section, and all samples to [boot-times.csv](benchmarks/boot-times.csv). One Debian 13 with its cloud kernel (ext4, no composefs) is booted from
one disk, with the initramfs that each generator makes there by default: dracut's and initramfs-tools' as in the boot matrix, for any machine. Its init is a static program that asks `CLOCK_MONOTONIC`, says
the answer, and switches off.

- *init*: that answer. What the kernel takes to start and to unpack the image counts; what firmware and boot loader take to read it does not.
- *first program*: when the kernel started `/init`, or our program where there is no initramfs, by the time in its log.
- *share*: of the time that it takes with dracut, from the same kind of disk.

All ways are booted in turn, five times, one guest at a time. Times are medians.
";

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "[    0.000000] Linux version 6.12.1-cloud-amd64 (x)\r\n\
        [    2.500000] Run /init as init process\r\n[    2.6] ostree-prepare-root[1]: hm\r\n\
        [    2.760000] prepare-root-stopwatch[1]: started at 2.750001\r\n[    2.8] reboot: Power down\r\n";

    fn way(generator: Generator, size: u64, inits: &[f64]) -> Way {
        let boots = inits.iter().map(|init| Times { program: 1.0, init: *init }).collect();
        Way { generator, bus: Bus::VirtioBlk, initramfs: Some((PathBuf::new(), size)), boots }
    }

    #[test]
    fn both_times_are_read() {
        assert_eq!(times(CONSOLE), Some(Times { program: 2.5, init: 2.750_001 }));
        assert_eq!(release_of(CONSOLE), Some("6.12.1-cloud-amd64"));
        assert_eq!(times(&CONSOLE.replace("started", "began")), None);
        assert_eq!(times(&CONSOLE.replace("Run", "Walk").replace(" as init", "")), None);
    }

    #[test]
    fn what_is_too_large_or_too_slow_is_missed() {
        let dracut = || way(Generator::Dracut, 20_000_000, &[10.0, 8.0, 9.0]);
        let missed = |solo: Way| judge(&[solo, dracut()]).0;
        // The median counts.
        assert!(!missed(way(Generator::Solo, 3_000_000, &[9.0, 4.5, 1.0])));
        assert!(missed(way(Generator::Solo, 3_000_001, &[9.0, 4.5, 1.0])));
        assert!(missed(way(Generator::Solo, 1, &[1.0, 4.6, 9.0])));
        assert!(missed(way(Generator::Solo, 1, &[])));
        assert!(judge(&[way(Generator::Solo, 1, &[1.0])]).0);
    }

    #[test]
    fn the_table_is_aligned() {
        let text = markdown(&[way(Generator::Solo, 1, &[1.0]), way(Generator::Dracut, 99_999_999, &[11.0])]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(text.contains("| 0.09 "), "{text}");
    }
}
