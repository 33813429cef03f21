//! When things happened in a boot, by what `guest/times.sh` reports.

use crate::report::Report;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// From when to when, in seconds since the kernel's start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// When it began.
    pub start: f64,
    /// When it was over.
    pub end: f64,
}

impl Span {
    /// How long it took.
    pub fn length(self) -> f64 {
        self.end - self.start
    }
}

/// What the first process did for a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name.
    pub unit: String,
    /// How long.
    pub span: Span,
}

/// One boot. Times are in seconds since the kernel's start.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// When systemd began in the initramfs.
    pub initramfs: f64,
    /// When the root's systemd began.
    pub switched: f64,
    /// When multi-user.target was reached.
    pub multi_user: f64,
    /// When nothing was left to be started.
    pub finished: f64,
    /// From the exec of ostree-prepare-root until it had ended, by the kernel.
    pub program: Span,
    /// The process that it ran in: before, that was systemd's executor.
    pub process: Span,
    /// Its unit, by the journal: from "Starting" until "Finished".
    pub unit: Span,
    /// What systemd started, in the order of the beginnings, as far as the journal knows.
    pub jobs: Vec<Job>,
}

/// The unit that is compared.
const UNIT: &str = "ostree-prepare-root.service";

/// What it runs, in either case.
const PROGRAM: &str = "filename=/usr/lib/ostree/ostree-prepare-root ";

impl Moments {
    /// Reads them from a guest's report.
    pub fn read(report: &Report) -> Result<Self> {
        let time = |section, name| {
            let value = value(report, section, name)?;
            let micros: f64 = value.parse().with_context(|| format!("{name}={value}"))?;
            ensure!(micros > 0.0, "{name}={value}: it did not happen");
            Ok(micros / 1e6)
        };
        let jobs = jobs(report.lines("jobs"))?;
        let unit = jobs.iter().find(|job| job.unit == UNIT);
        let (program, process) = program(report.lines("trace"))?;
        Ok(Self {
            initramfs: time("manager", "InitRDTimestampMonotonic")?,
            switched: time("manager", "UserspaceTimestampMonotonic")?,
            multi_user: time("multi-user", "ActiveEnterTimestampMonotonic")?,
            finished: time("manager", "FinishTimestampMonotonic")?,
            program,
            process,
            unit: unit.with_context(|| format!("the journal has no {UNIT}"))?.span,
            jobs,
        })
    }
}

/// One of the properties in a section.
fn value<'a>(report: &'a Report, section: &str, name: &str) -> Result<&'a str> {
    let lines = report.lines(section).iter();
    let value = lines.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
    value.map(|(_, value)| value).with_context(|| format!("the guest did not report {name}"))
}

/// The life of the program and that of its process, from lines of the kernel's trace:
/// `ostree-prepare--210 [000] ..... 9.1234: sched_process_exec: filename=/usr/... pid=210 old_pid=210`.
fn program(trace: &[String]) -> Result<(Span, Span)> {
    let (execs, exits) = (events(trace, ": sched_process_exec: "), events(trace, ": sched_process_exit: "));
    let starts: Vec<_> = execs.iter().filter(|event| event.ours).collect();
    ensure!(starts.len() == 1, "the kernel saw {} starts of ostree-prepare-root, not one", starts.len());
    let start = starts[0].time;
    let same = |event: &&Event<'_>| event.pid == starts[0].pid;
    let first = execs.iter().find(same).map_or(start, |event| event.time);
    let end = exits.iter().find(same).context("the kernel saw no end of ostree-prepare-root")?.time;
    Ok((Span { start, end }, Span { start: first, end }))
}

/// What happened to a process.
struct Event<'a> {
    time: f64,
    pid: &'a str,
    /// Whether it is the start of the program that is compared.
    ours: bool,
}

/// The events of this name.
fn events<'a>(trace: &'a [String], name: &str) -> Vec<Event<'a>> {
    let event = |line: &'a String| {
        let (head, rest) = line.split_once(name)?;
        let time = head.rsplit(' ').next()?.parse().ok()?;
        let pid = rest.split(' ').find_map(|word| word.strip_prefix("pid="))?;
        Some(Event { time, pid, ours: rest.starts_with(PROGRAM) })
    };
    trace.iter().filter_map(event).collect()
}

/// What the journal's lines, in JSON, tell of jobs that began and were done. "Starting", and "Mounting", come
/// without a result, and what ends a job has one. What has no duration has only the latter.
fn jobs(lines: &[String]) -> Result<Vec<Job>> {
    let mut began: Vec<(String, f64)> = Vec::new();
    let mut jobs: Vec<Job> = Vec::new();
    for line in lines {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("journal line '{line}'"))?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let (Some(unit), Some("start")) = (text("UNIT"), text("JOB_TYPE")) else { continue };
        let time = text("__MONOTONIC_TIMESTAMP").and_then(|time| time.parse::<f64>().ok());
        let time = time.with_context(|| format!("no time in journal line '{line}'"))? / 1e6;
        if text("JOB_RESULT").is_none() {
            began.push((unit.to_owned(), time));
        } else if text("JOB_RESULT") == Some("done") {
            let at = began.iter().position(|(other, _)| other == unit);
            let start = at.map_or(time, |at| began.remove(at).1);
            jobs.push(Job { unit: unit.to_owned(), span: Span { start, end: time } });
        }
    }
    jobs.sort_by(|a, b| a.span.start.total_cmp(&b.span.start));
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of `guest/times.sh`, shortened.
    const REPORT: &str = concat!(
        "manager\tInitRDTimestampMonotonic=3660581\nmanager\tUserspaceTimestampMonotonic=18688842\n",
        "manager\tFinishTimestampMonotonic=43654311\nmulti-user\tActiveEnterTimestampMonotonic=43523227\n",
        "jobs\t{\"__MONOTONIC_TIMESTAMP\":\"16385462\",\"UNIT\":\"sysroot.mount\",\"JOB_TYPE\":\"start\"}\n",
        "jobs\t{\"__MONOTONIC_TIMESTAMP\":\"16791783\",\"UNIT\":\"sysroot.mount\",\"JOB_TYPE\":\"start\",\"JOB_RESULT\":\"done\"}\n",
        "jobs\t{\"__MONOTONIC_TIMESTAMP\":\"16824274\",\"UNIT\":\"ostree-prepare-root.service\",\"JOB_TYPE\":\"start\"}\n",
        "jobs\t{\"__MONOTONIC_TIMESTAMP\":\"17068373\",\"UNIT\":\"ostree-prepare-root.service\",\"JOB_TYPE\":\"start\",\"JOB_RESULT\":\"done\"}\n",
        "jobs\t{\"__MONOTONIC_TIMESTAMP\":\"17635198\",\"UNIT\":\"initrd.target\",\"JOB_TYPE\":\"stop\",\"JOB_RESULT\":\"done\"}\n",
        "trace\t ostree-prepare--256 [000] ..... 16.826089: sched_process_exec: filename=/proc/self/fd/9 pid=256 old_pid=256\n",
        "trace\t ostree-prepare--256 [000] ..... 16.962303: sched_process_exec: filename=/usr/lib/ostree/ostree-prepare-root pid=256 old_pid=256\n",
        "trace\t ostree-prepare--255 [000] ..... 17.010000: sched_process_exit: comm=ostree-prepare- pid=255 prio=120 group_dead=true\n",
        "trace\t ostree-prepare--256 [000] ..... 17.047293: sched_process_exit: comm=ostree-prepare- pid=256 prio=120 group_dead=true\n",
        "end\n"
    );

    #[test]
    fn every_moment_is_read() {
        let boot = Moments::read(&Report::parse(REPORT)).unwrap();
        assert_eq!(boot.program, Span { start: 16.962_303, end: 17.047_293 });
        assert_eq!(boot.process.start, 16.826_089);
        assert_eq!(boot.unit, Span { start: 16.824_274, end: 17.068_373 });
        assert_eq!(
            boot.jobs.iter().map(|job| job.unit.as_str()).collect::<Vec<_>>(),
            ["sysroot.mount", UNIT]
        );
        assert_eq!([boot.initramfs, boot.switched], [3.660_581, 18.688_842]);
        assert_eq!([boot.multi_user, boot.finished], [43.523_227, 43.654_311]);
    }

    #[test]
    fn a_moment_that_did_not_come_is_an_error() {
        let without = |text: &str, other: &str| Moments::read(&Report::parse(&REPORT.replace(text, other)));
        assert!(without("=18688842", "=0").is_err());
        assert!(without("sched_process_exit", "sched_process_fork").is_err());
        assert!(without("/usr/lib/ostree/", "/usr/bin/").is_err());
        assert!(without("\"done\"", "\"failed\"").is_err());
    }
}
