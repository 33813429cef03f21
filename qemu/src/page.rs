//! Pages of which programs write a section each. It uses nothing but the standard library, so that other
//! packages can share it.

use std::fs;
use std::io;
use std::path::Path;

/// Puts a section, which begins with its heading, in the place of the one with the same heading, or at the end.
/// A page that is not there begins with this title.
pub fn write_section(page: &Path, title: &str, section: &str) -> io::Result<()> {
    let old = match fs::read_to_string(page) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("# {title}\n"),
        text => text?,
    };
    fs::write(page, with_section(&old, section))
}

fn with_section(page: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let mut text = String::new();
    let mut written = false;
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("## ") {
            inside = line == heading;
            if inside {
                text += section;
                written = true;
            } else if written && !text.ends_with("\n\n") {
                text.push('\n');
            }
        }
        if !inside {
            text += line;
            text.push('\n');
        }
    }
    if !written {
        text.push('\n');
        text += section;
    }
    text
}

/// A Markdown table whose columns are aligned; the first row is its head.
pub fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            text += &format!("| {cell:width$} ", width = width(column));
        }
        text += "|\n";
        if index == 0 {
            (0..COLUMNS).for_each(|column| text += &format!("|{}", "-".repeat(width(column) + 2)));
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{table, with_section};

    #[test]
    fn only_its_own_section_is_replaced() {
        let page = "# Benchmarks\n\n## A\n\na\n\n## From\n\nold\n\n## B\n\nb\n";
        assert_eq!(with_section(page, "## From\n\nnew\n"), page.replace("old", "new"));
        assert_eq!(with_section("# Benchmarks\n", "## From\n\nnew\n"), "# Benchmarks\n\n## From\n\nnew\n");
        let last = "# Benchmarks\n\n## From\n\nold\n";
        assert_eq!(with_section(last, "## From\n\nnew\n"), last.replace("old", "new"));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["program", "time"], ["a", "10.00 \u{b5}s"], ["longer than the head", "1"]];
        let text = table(&rows.map(|row| row.map(str::to_owned)));
        let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 4);
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }
}
