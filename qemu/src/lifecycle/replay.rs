//! Power losses: one part of a story is recorded write by write, and the next is booted from what the disk would have
//! had, had the power failed at one of several points of that.
//!
//! What a disk was told to write is on it for certain after a flush. Of what comes then, anything may be lost until the
//! next: a disk writes what its cache has in an order of its own. So a [`Point`] is a flush, and perhaps half of the writes
//! that followed, as if the disk's arm had come by those with the lower addresses first. On FAT that is tables and
//! directories before what they speak of.

use super::{Part, Story, boot, judge};
use crate::Workshop;
use crate::cache::Cache;
use crate::disk::Disk;
use crate::expect::Expect::{AsAsked, Chosen, NoWarnings};
use crate::qemu::Boot;
use crate::script;
use crate::trial::Verdict;
use crate::workers;
use crate::write_log::{Entry, WriteLog};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the guest writes to its disk, and the host finds in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Markers {
    /// When it begins: the power may fail from here on.
    pub begun: &'static str,
    /// When B is staged: only what follows can make the system boot another release.
    pub staged: &'static str,
}

/// A part that is recorded.
pub struct Recording {
    /// The disk as it was before.
    before: Disk,
    /// Every write.
    log: PathBuf,
}

impl Recording {
    /// Keeps the disk as it is.
    pub fn of(disk: &Disk, cache: &Cache, logs: &Path) -> Result<Self> {
        let before = disk.copy(cache, logs)?;
        Ok(Self { log: before.write_log(), before })
    }

    /// Where writes are to be recorded.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// What is on the disk: what the log's entries before `flush` wrote, and then these.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    flush: usize,
    more: Vec<Entry>,
}

impl Point {
    fn after(flush: usize) -> Self {
        Self { flush, more: Vec::new() }
    }

    /// With half of the writes between it and the next flush.
    fn and_half(flush: usize, writes: &[Entry]) -> Self {
        let mut order: Vec<_> = (0..writes.len()).collect();
        order.sort_by_key(|index| writes[*index].address());
        order.truncate(writes.len() / 2);
        // Of what was written twice, the last counts.
        order.sort_unstable();
        Self { flush, more: order.into_iter().map(|index| writes[index]).collect() }
    }

    /// The number of the flush in the log, and what is there besides.
    fn name(&self) -> String {
        match self.more.len() {
            0 => format!("flush-{}", self.flush),
            more => format!("flush-{}+{more}", self.flush),
        }
    }
}

/// The points that are tried.
#[derive(Debug, PartialEq, Eq)]
struct Points {
    /// While the upgrade is fetched.
    fetched: Vec<Point>,
    /// While it is finalised.
    finalised: Vec<Point>,
    /// While it is copied to where the boot loader reads it.
    copied: Vec<Point>,
    /// The last: all of it is on the disk.
    last: Point,
}

impl Points {
    /// Those of a log in which the entries `begun` and `staged` wrote the markers, and `esp` is what the boot loader reads.
    fn of(entries: &[Entry], begun: usize, staged: usize, esp: &Range<u64>) -> Result<Self> {
        let flushes: Vec<usize> = (0..entries.len()).filter(|at| entries[*at] == Entry::Flush).collect();
        let last = flushes.last().copied().filter(|last| *last > staged);
        let last = last.context("the disk was not flushed after the upgrade was staged")?;
        let to_esp = |entry: &Entry| entry.address().is_some_and(|at| esp.contains(&at));
        let [mut fetched, mut finalised, mut copied] = [const { Vec::new() }; 3];
        for pair in flushes.windows(2) {
            let (flush, writes) = (pair[0], &entries[pair[0] + 1..pair[1]]);
            let point = Point::and_half(flush, writes);
            if flush < begun || writes.is_empty() {
                continue;
            } else if flush < staged {
                fetched.push(point);
            } else if writes.iter().any(to_esp) {
                copied.push(point);
            } else {
                finalised.push(point);
            }
        }
        let end = copied.last().context("nothing was written to the ESP after the upgrade was staged")?.flush;
        // What comes then changes nothing any more.
        finalised.retain(|point| point.flush < end);
        ensure!(!fetched.is_empty(), "the disk was not flushed while the upgrade was fetched");
        ensure!(!finalised.is_empty(), "the disk was not flushed while the upgrade was finalised");
        let last = Point::after(last);
        let mut points = Self {
            fetched: spread(&fetched, 2),
            finalised: spread(&finalised, 3),
            copied: spread(&copied, 8),
            last,
        };
        // Every second of them as the flush leaves it.
        for point in points.fetched.iter_mut().chain(&mut points.finalised).step_by(2) {
            *point = Point::after(point.flush);
        }
        Ok(points)
    }

    /// In the order of the log.
    fn all(&self) -> Vec<Point> {
        let mut all =
            [&*self.fetched, &self.finalised, &self.copied, std::slice::from_ref(&self.last)].concat();
        all.sort_by_key(|point| point.flush);
        all
    }
}

/// So many of them, from the first to the last.
fn spread(points: &[Point], count: usize) -> Vec<Point> {
    if points.len() <= count {
        return points.to_vec();
    }
    (0..count).map(|number| points[number * (points.len() - 1) / (count - 1)].clone()).collect()
}

/// What came of a point.
struct Told {
    point: Point,
    /// Which release came up, if any.
    release: Option<String>,
    /// Whether the boot entry named a link that OSTree had removed, and our program took the one in its place.
    repaired: bool,
    verdict: Verdict,
}

/// A part that is booted at all points.
pub struct Replay<'a> {
    /// Where.
    pub workshop: &'a Workshop,
    /// The story.
    pub story: &'a Story,
    /// The part.
    pub part: &'a Part,
    /// What is in the log.
    pub markers: Markers,
    /// The disk, as the recorded part left it.
    pub disk: &'a Disk,
    /// That part.
    pub recording: &'a Recording,
    /// How long a boot may take.
    pub limit: Duration,
    /// How many guests run at a time.
    pub guests: NonZero<usize>,
    /// Where logs go.
    pub logs: &'a Path,
}

impl Replay<'_> {
    /// Boots them all. On the disk is then what was on it at the last point where A came up. With the verdict: what was
    /// seen, in short.
    pub fn run(&self) -> Result<(Verdict, String)> {
        let log = WriteLog::open(&self.recording.log, fs::metadata(self.disk.image())?.len())?;
        let find = |text| log.find(text)?.with_context(|| format!("'{text}' was never written to the disk"));
        let (begun, staged) = (find(self.markers.begun)?, find(self.markers.staged)?);
        let points = Points::of(log.entries(), begun, staged, &self.disk.partition("esp")?)?;
        // Each worker has a disk of its own, and how much of the log that has had.
        let start = || Ok((self.recording.before.copy(&self.workshop.cache, self.logs)?, 0));
        let work = |(copy, done): &mut (Disk, usize), point: Point| {
            // What was there besides before is written once more, in its order.
            put(&log, *done, &point, copy)?;
            *done = point.flush;
            let mut told = self.boot_at(&point, copy).unwrap_or_else(|error| {
                let verdict = Verdict::failed(self.name(&point.name()), &format!("{error:#}"));
                Told { point: point.clone(), release: None, repaired: false, verdict }
            });
            if point == points.last {
                log.apply(&log.entries()[*done..], &copy.image())?;
                let same = self.is_same(copy).map_err(|error| format!("{error:#}"));
                told.verdict.add(self.name("the log has every write"), same);
            }
            Ok(told)
        };
        let told = workers::map(self.guests, points.all(), start, work)?;

        let last_of_a = told.iter().rfind(|told| told.release.as_deref() == Some("A"));
        if let Some(Told { point, .. }) = last_of_a {
            put(&log, 0, point, &self.recording.before)?;
            fs::rename(self.recording.before.image(), self.disk.image()).context("replace the disk")?;
        }
        fs::remove_file(&self.recording.log).context("remove the log of writes")?;
        Ok(self.sum_up(&points, told))
    }

    fn name(&self, what: &str) -> String {
        format!("{}/{}/{what}", self.story.name, self.part.name)
    }

    /// Boots what is on a copy of the disk.
    fn boot_at(&self, point: &Point, copy: &Disk) -> Result<Told> {
        let name = self.name(&point.name());
        let logs = self.logs.join(point.name());
        fs::create_dir(&logs).context("create a log directory")?;
        let one = Boot::new(self.workshop.accel, self.limit, &logs);
        let run = || boot(self.story, self.part, copy, one);
        let (outcome, _) = self.workshop.progress.step(&name, run)?;
        let mut verdict = judge(self.story, self.part, &name, &outcome, None, &logs)?;
        let repaired = !outcome.report.lines("choice").is_empty();
        let release = outcome.report.line("witness").map(str::to_owned);
        if release.is_some() {
            // OSTree removes the links of the entries before, and those on the ESP are rewritten after that.
            let expected = if repaired { &[Chosen("boot-links")][..] } else { &[AsAsked, NoWarnings] };
            for expectation in expected {
                verdict.add(format!("{name}/{expectation}"), expectation.check(&outcome));
            }
        }
        Ok(Told { point: point.clone(), release, repaired, verdict })
    }

    /// Whether a copy on which the whole log was replayed is what the guest left.
    fn is_same(&self, copy: &Disk) -> Result<()> {
        let mut command = Command::new("cmp");
        script::run(command.args([copy.image(), self.disk.image()]), &self.logs.join("cmp.log"))
    }

    fn sum_up(&self, points: &Points, told: Vec<Told>) -> (Verdict, String) {
        let mut verdict = Verdict::default();
        let of = |release| told.iter().filter(move |told: &&Told| told.release.as_deref() == Some(release));
        let about = format!(
            "{} power losses: A came up {} times ({} of them by a repaired boot link), B {}",
            told.len(),
            of("A").count(),
            of("A").filter(|told| told.repaired).count(),
            of("B").count(),
        );
        for Told { point, release, verdict: of_point, .. } in told {
            let early = points.fetched.contains(&point);
            let expected: &[&str] = match () {
                () if early => &["A"],
                () if point == points.last => &["B"],
                () => &["A", "B"],
            };
            let release = release.unwrap_or_else(|| "nothing".to_owned());
            let right = expected.contains(&release.as_str());
            let name = self.name(&format!("{}: {} comes up", point.name(), expected.join(" or ")));
            verdict.add(name, right.then_some(()).ok_or_else(|| format!("it was {release}")));
            verdict.append(of_point);
        }
        (verdict, about)
    }
}

/// Brings a disk from where the entries before `done` took it to a point.
fn put(log: &WriteLog, done: usize, point: &Point, disk: &Disk) -> Result<()> {
    log.apply(&log.entries()[done..point.flush], &disk.image())?;
    log.apply(&point.more, &disk.image())
}

#[cfg(test)]
mod tests {
    use super::{Point, Points, spread};
    use crate::write_log::Entry;

    const ESP: std::ops::Range<u64> = 100..200;

    /// `r` is a write to the root, `e` one to the ESP, `|` a flush.
    fn entries(text: &str) -> Vec<Entry> {
        let write = |at| Entry::Write { at, length: 1, data: 0 };
        let entry = |byte| match byte {
            b'r' => write(500),
            b'e' => write(100),
            _ => Entry::Flush,
        };
        text.bytes().map(entry).collect()
    }

    fn names(points: &[Point]) -> Vec<String> {
        points.iter().map(Point::name).collect()
    }

    #[test]
    fn points_are_flushes_and_half_of_what_follows() {
        // The markers are entries 2 and 7; nothing is to be tried before the first.
        let points = Points::of(&entries("r|r|r|rr|r||rrr|eee|r|"), 2, 7, &ESP).unwrap();
        assert_eq!(names(&points.fetched), ["flush-3", "flush-5+1"]);
        assert_eq!(names(&points.finalised), ["flush-8", "flush-11+1"]);
        assert_eq!(names(&points.copied), ["flush-15+1"]);
        assert_eq!(names(&points.all()[5..]), ["flush-21"]);
    }

    #[test]
    fn the_half_with_the_lower_addresses_is_there() {
        let writes = [9, 1, 7, 2, 1].map(|at| Entry::Write { at, length: 1, data: 0 });
        assert_eq!(Point::and_half(0, &writes).more, [writes[1], writes[4]]);
        assert_eq!(Point::and_half(0, &writes[..4]).more, [writes[1], writes[3]]);
        assert_eq!(Point::and_half(0, &writes[..1]), Point::after(0));
    }

    #[test]
    fn what_proves_nothing_is_an_error() {
        let of = |text| Points::of(&entries(text), 0, 4, &ESP).map_err(|error| error.to_string());
        assert!(of("r|r|rr").unwrap_err().contains("after the upgrade was staged"));
        assert!(of("r|r|r|r|r|").unwrap_err().contains("ESP"));
        assert!(of("rrrrr|r|e|").unwrap_err().contains("fetched"));
        assert!(of("r|r|re|e|r|").unwrap_err().contains("finalised"));
        assert!(of("r|r|r|r|e|").is_ok());
    }

    #[test]
    fn points_are_spread() {
        let all: Vec<_> = (0..10).map(Point::after).collect();
        let flushes = |count| spread(&all, count).iter().map(|point| point.flush).collect::<Vec<_>>();
        assert_eq!(flushes(2), [0, 9]);
        assert_eq!(flushes(4), [0, 3, 6, 9]);
        assert_eq!(flushes(12).len(), 10);
    }
}
