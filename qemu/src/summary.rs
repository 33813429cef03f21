//! A boot, told to a person in one screen.

use crate::progress::Progress;
use crate::qemu::Outcome;
use anyhow::Result;

/// Prints what a boot came to and how long everything took.
pub fn print(outcome: &Outcome, wrong: &[String], progress: &Progress) -> Result<()> {
    let report = &outcome.report;
    row("booted", report.booted_deployment().unwrap_or("no deployment is marked as booted"));
    row("kernel", report.line("kernel").unwrap_or("unknown"));
    row("command line", report.line("cmdline").unwrap_or("unknown"));
    row("multi-user", report.line("multi-user").unwrap_or("unknown"));
    row("state", report.line("state").unwrap_or("unknown"));
    rows("failed units", report.lines("failed"));
    rows("what they said", report.lines("failed-log"));
    rows("given up", report.lines("dependency-failed"));
    row("writable", &report.lines("writable").join(" "));
    row("read-only", &report.lines("read-only").join(" "));

    let mounts = report.mounts()?;
    let tree = mounts.tree();
    rows("mounts", &columns(&tree));
    let stacked = mounts.stacked();
    row("stacked", if stacked.is_empty() { "none".into() } else { stacked.join(" ") }.as_str());
    for unit in ["var.mount", "boot.mount"] {
        let lines = report.lines(&format!("unit-{unit}"));
        let by_systemd = lines.iter().any(|line| line.starts_with("Mounted "));
        let generated = report.lines("generator").iter().any(|line| line == unit);
        let who = match (by_systemd, generated) {
            (true, true) => "mounted by systemd, unit of the generator",
            (true, false) => "mounted by systemd",
            (false, true) => "mounted in the initramfs; the generator made a unit as well",
            (false, false) => "mounted in the initramfs; no unit of the generator",
        };
        row(unit, who);
    }
    rows("our log", report.lines("log"));
    row("our time", report.own_time().unwrap_or("not in the log"));
    row("boot", report.line("time").unwrap_or("unknown"));
    let steps: Vec<_> = progress
        .steps()
        .iter()
        .map(|(label, took)| format!("{:6.1} s  {label}", took.as_secs_f64()))
        .collect();
    rows("steps", &steps);
    row("console", &outcome.console_log.display().to_string());
    rows("wrong", wrong);
    Ok(())
}

fn row(name: &str, value: &str) {
    println!("{name:<14} {value}");
}

fn rows(name: &str, values: &[String]) {
    row(name, values.first().map_or("none", String::as_str));
    for value in values.iter().skip(1) {
        row("", value);
    }
}

/// Pads each column to its widest cell.
fn columns<const N: usize>(table: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] =
        std::array::from_fn(|i| table.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}
