//! What came of the stories: a section of docs/lifecycle.md for each, and a table with a line for each.

use crate::page;
use crate::table::circumstances;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One story.
pub struct Told {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Its parts.
    pub rows: Vec<Row>,
    /// How long it took, with making its disk.
    pub took: Duration,
}

/// One part of a story.
pub struct Row {
    /// The part.
    pub part: &'static str,
    /// What it shows.
    pub about: String,
    /// Whether it did.
    pub passed: bool,
    /// In the first part: how long it took to make the disk.
    pub made: Option<Duration>,
    /// How long the part took.
    pub took: Duration,
}

impl Row {
    /// The first part of a story whose disk could not be made.
    pub fn failed(part: &'static str, took: Duration) -> Self {
        Self { part, about: "its disk was not made".to_owned(), passed: false, made: None, took }
    }
}

/// docs/lifecycle.md, with what it says of the run.
pub struct Page {
    path: PathBuf,
    circumstances: String,
}

impl Page {
    /// Looks, when the run begins, at what will be booted.
    pub fn new(workspace: &Path) -> Result<Self> {
        let path = workspace.join("docs/lifecycle.md");
        Ok(Self { path, circumstances: circumstances(workspace)? })
    }

    /// Puts a story's section in the place of the one there is.
    pub fn write_story(&self, told: &Told) -> Result<()> {
        self.write(told.name, &table(told))
    }

    /// Puts the table of all stories in the place of the one there is.
    pub fn write_summary(&self, told: &[Told], took: Duration) -> Result<()> {
        self.write("All of them", &summary(told, took))
    }

    fn write(&self, heading: &str, table: &str) -> Result<()> {
        let section = format!("## {heading}\n\n{}\n\n{table}", self.circumstances);
        page::write_section(&self.path, "The life of a system", &section)
            .with_context(|| format!("write {}", self.path.display()))
    }
}

/// A line for each part, in Markdown, aligned.
fn table(told: &Told) -> String {
    let mut lines = vec![["part", "what it shows", "result", "time"].map(str::to_owned)];
    for Row { part, about, passed, made, took } in &told.rows {
        if let Some(made) = made {
            let about = "its disk is made, or found in the cache".to_owned();
            lines.push([String::new(), about, String::new(), seconds(*made)]);
        }
        lines.push([(*part).to_owned(), about.clone(), result(*passed).to_owned(), seconds(*took)]);
    }
    lines.push(["**all**".to_owned(), String::new(), String::new(), seconds(told.took)]);
    page::table(&lines)
}

/// A line for each story, and how long all of them took: as some are told at the same time, that is less than the sum.
pub fn summary(told: &[Told], took: Duration) -> String {
    let mut lines = vec![["story", "what it shows", "parts", "result", "time"].map(str::to_owned)];
    let passed = |told: &Told| told.rows.iter().all(|row| row.passed);
    for story in told {
        let [name, about] = [story.name, story.about].map(str::to_owned);
        let result = result(passed(story)).to_owned();
        lines.push([name, about, story.rows.len().to_string(), result, seconds(story.took)]);
    }
    let count = told.iter().map(|story| story.rows.len()).sum::<usize>().to_string();
    let all = result(told.iter().all(passed)).to_owned();
    lines.push(["**all**".to_owned(), String::new(), count, all, seconds(took)]);
    page::table(&lines)
}

fn result(passed: bool) -> &'static str {
    if passed { "pass" } else { "FAIL" }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{Row, Told, summary, table};
    use std::time::Duration;

    fn told(passed: bool) -> Told {
        let row = |passed, made| Row {
            part: "rollback",
            about: "back".to_owned(),
            passed,
            made,
            took: Duration::from_secs(42),
        };
        let rows = vec![row(true, Some(Duration::from_secs(100))), row(passed, None)];
        Told { name: "trixie", about: "there and back", rows, took: Duration::from_secs(184) }
    }

    #[test]
    fn every_part_is_a_row() {
        let text = table(&told(false));
        assert_eq!(text.lines().count(), 6);
        assert!(text.contains("| FAIL ") && text.contains("| 184 s "), "{text}");
    }

    #[test]
    fn every_story_is_a_row() {
        let text = summary(&[told(true), told(false)], Duration::from_secs(200));
        let ends: Vec<_> = text.lines().skip(2).filter_map(|line| line.split_once("back ")).collect();
        assert_eq!(
            ends.iter().map(|(_, end)| end.trim()).collect::<Vec<_>>(),
            ["| 2     | pass   | 184 s |", "| 2     | FAIL   | 184 s |"]
        );
        assert!(text.lines().last().unwrap().contains("| 4     | FAIL   | 200 s |"), "{text}");
    }
}
