//! The matrix as a table, for the terminal and for docs/boot-matrix.md.

use crate::matrix::Mode;
use crate::scenario::Scenario;
use crate::trial::Verdict;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The rows, each with what came of its modes.
pub struct Table {
    rows: Vec<(String, [&'static str; Mode::ALL.len()])>,
}

/// A pair that is not in the matrix.
const NONE: &str = "";

impl Table {
    /// What came of these scenarios, in their order.
    pub fn new<'a>(results: impl Iterator<Item = (&'a Scenario, &'a Verdict)>) -> Self {
        let mut rows: Vec<(String, [&str; Mode::ALL.len()])> = Vec::new();
        for (scenario, verdict) in results {
            for cell in &scenario.cells {
                let word = match (verdict.passed(), cell.impossible) {
                    (false, _) => "FAIL",
                    (true, false) => "pass",
                    (true, true) => "not possible",
                };
                let index = rows.iter().position(|(row, _)| *row == cell.row).unwrap_or_else(|| {
                    rows.push((cell.row.clone(), [NONE; Mode::ALL.len()]));
                    rows.len() - 1
                });
                for (mode, place) in Mode::ALL.into_iter().zip(&mut rows[index].1) {
                    // One that failed is not hidden by another that passed.
                    if mode == cell.mode && *place != "FAIL" {
                        *place = word;
                    }
                }
            }
        }
        Self { rows }
    }

    /// In Markdown, aligned.
    pub fn text(&self) -> String {
        let header = ("system".to_owned(), Mode::ALL.map(Mode::name));
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&header]).map(|(_, cells)| cells[column].len());
            cells.max().unwrap_or(0)
        };
        let name_width = self.rows.iter().chain([&header]).map(|(row, _)| row.len()).max().unwrap_or(0);
        let mut text = String::new();
        let line = |(name, cells): &(String, [&str; Mode::ALL.len()])| {
            let mut line = format!("| {name:name_width$} |");
            for (column, cell) in cells.iter().enumerate() {
                line += &format!(" {cell:width$} |", width = width(column));
            }
            line + "\n"
        };
        text += &line(&header);
        let dashes = |width: usize| format!("{}|", "-".repeat(width + 2));
        text += &format!("|{}", dashes(name_width));
        (0..Mode::ALL.len()).for_each(|column| text += &dashes(width(column)));
        text.push('\n');
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

/// When a run was, of what, and on which emulator: what a page says of it.
pub fn circumstances(workspace: &Path) -> Result<String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(program);
        let output = command.current_dir(workspace).args(arguments).output();
        let output = output.with_context(|| format!("run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    let date = said("date", &["--utc", "+%Y-%m-%d"])?;
    let commit = said("git", &["-c", "safe.directory=*", "describe", "--always", "--dirty", "--exclude=*"])?;
    let emulator = said("qemu-system-x86_64", &["--version"])?;
    Ok(format!("{date}, commit {commit}, {emulator}"))
}

/// docs/boot-matrix.md, with what it says of the run.
pub struct Page {
    path: PathBuf,
    circumstances: String,
    start: Instant,
}

impl Page {
    /// Looks, when the run begins, at what will be booted.
    pub fn new(workspace: &Path) -> Result<Self> {
        let path = workspace.join("docs/boot-matrix.md");
        Ok(Self { path, circumstances: circumstances(workspace)?, start: Instant::now() })
    }

    /// Writes it.
    pub fn write(&self, table: &Table) -> Result<()> {
        let Self { circumstances, path, .. } = self;
        let minutes = self.start.elapsed().as_secs().div_ceil(60);
        let about = format!("{circumstances}, {minutes} minutes");
        let text = format!("{INTRODUCTION}\n{about}\n\n{}", table.text());
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

const INTRODUCTION: &str = "\
# The boot matrix

`make matrix` writes this page. Every cell is a boot in QEMU, to multi-user.target without a failed unit, with the mounts
that the way asks for; `prepare-root-qemu list` says what each is, and `make matrix ONLY=TEXT` boots those with TEXT in the name of scenario or row.
\"not possible\" was tried as well, and the console says why. An empty cell is not in the matrix: a row
varies one thing, and where it cannot matter to a way, only some are booted.
";

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_aligned() {
        let table = Table { rows: vec![("kernel 6.1".into(), ["pass", "", "FAIL", "not possible", "", ""])] };
        let text = table.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(text.contains("| FAIL      |"), "{text}");
    }
}
