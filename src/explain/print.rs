//! The explanation on one screen, and for programs.

use super::{Asked, Explanation, Row, Verdict};
use crate::choice::short;
use crate::error::printable;
use crate::json::{array, bytes, object, optional, string};
use crate::name::Name;
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Columns of a screen.
const WIDTH: usize = 80;

/// The most settings that are shown: a screen has 24 lines.
const SETTINGS: usize = 4;

/// The most deployments, and what is said of failed boots.
const ROWS: usize = 5;

/// The most lines that what would be refused, or what to do, takes.
const LINES: usize = 2;

/// The most boot links in the JSON output.
const LINKS: usize = 256;

impl Explanation {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(refusal) = self.refusal.as_ref().filter(|_| !self.told) {
            lines.push("It would be refused:".to_owned());
            lines.extend(wrapped(&refusal.summary()));
        }
        lines.push("What was asked for:".into());
        let width = self.asked.iter().map(|asked| abbreviated(&asked.setting).len()).max().unwrap_or(0);
        lines.extend(self.asked.iter().take(SETTINGS).map(|Asked { setting, source }| {
            let width = width.min((WIDTH - 6).saturating_sub(source.len()));
            cut(&format!("  {:width$}  ({source})", abbreviated(setting)))
        }));
        lines.extend(left_out(self.asked.len(), SETTINGS));
        if self.asked.is_empty() {
            lines.push("  nothing".into());
        }
        lines.extend(self.remarks.iter().map(|remark| cut(&format!("  {}", abbreviated(remark)))));
        lines.push("What there is:".into());
        lines.extend(self.what_there_is());
        if let Some(advice) = &self.advice {
            lines.push("What to do:".into());
            lines.extend(wrapped(&advice.words));
            lines.extend(advice.argument.as_ref().map(|argument| format!("    {argument}")));
            lines.extend(advice.but.map(|but| format!("  ({but})")));
        }
        lines.join("\n")
    }

    fn what_there_is(&self) -> Vec<String> {
        if !self.looked {
            return vec!["  nothing was looked at".into()];
        }
        let mut lines = Vec::new();
        lines.extend(self.root.as_ref().map(|root| {
            let (source, place) = (printable(&root.source), printable(&root.place));
            cut(&format!("  {source} on {place}: {}, {}", printable(&root.kind), printable(&root.options)))
        }));
        lines.extend(self.table());
        lines.extend(self.assessed().map(|(name, assessment)| cut(&format!("  {name}: {assessment}"))));
        lines.push(cut(&self.boot_links()));
        lines
    }

    fn table(&self) -> Vec<String> {
        if self.deployments.is_empty() {
            return vec!["  no deployment".into()];
        }
        let mut rows = vec![["index", "deployment", "version", "kernel", "can be booted"].map(str::to_owned)];
        rows.extend(self.shown().into_iter().map(|(index, row)| {
            [
                format!("{index}{}", if row.asked { "*" } else { "" }),
                cell(&row.name.to_string(), 28),
                cell(row.version.as_deref().unwrap_or("-"), 14),
                row.kernel().into(),
                row.verdict(),
            ]
        }));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (index, name, version, kernel) = (width(0), width(1), width(2), width(3));
        let line = |[a, b, c, d, e]: &[String; 5]| {
            cut(&format!("  {a:index$}  {b:name$}  {c:version$}  {d:kernel$}  {e}"))
        };
        rows.iter().map(line).chain(left_out(self.deployments.len(), self.room())).collect()
    }

    /// The first deployment whose boots failed, and how: one has no more than a line on the screen.
    fn assessed(&self) -> Option<(&Name, &str)> {
        self.deployments.iter().find_map(|row| Some((&row.name, row.assessment.as_deref()?)))
    }

    /// The most deployments on the screen.
    fn room(&self) -> usize {
        ROWS - usize::from(self.assessed().is_some())
    }

    /// The first deployments, and among them the one that was asked for and the one that is advised.
    fn shown(&self) -> Vec<(usize, &Row)> {
        let advised = |row: &Row| {
            let name = row.name.to_string();
            self.advice.as_ref().is_some_and(|advice| advice.words.contains(&name))
        };
        let all = || self.deployments.iter().enumerate();
        let wanted = all().filter(|(_, row)| row.asked || advised(row)).take(self.room()).count();
        let mut others = self.room() - wanted;
        let shown = all().filter(|(_, row)| {
            let wanted = row.asked || advised(row);
            let fits = !wanted && others > 0;
            others -= usize::from(fits);
            wanted || fits
        });
        shown.take(self.room()).collect()
    }

    fn boot_links(&self) -> String {
        let of = |version: &str| {
            let its = || self.links.iter().filter(|found| found.link.version == version.as_bytes());
            match (its().count(), its().filter(|found| found.name.is_none()).count()) {
                (0, _) => format!("no {version}"),
                (count, 0) => format!("{version} has {count}"),
                (count, dangling) => format!("{version} has {count}, {dangling} of them to nowhere"),
            }
        };
        let more = if self.more { "; there is more than was looked at" } else { "" };
        format!("  boot links: {}; {}{more}", of("boot.0"), of("boot.1"))
    }

    /// For programs: one JSON object.
    pub fn json(&self) -> String {
        let asked = self
            .asked
            .iter()
            .map(|asked| object(&[("setting", string(&asked.setting)), ("source", string(&asked.source))]));
        let root = self.root.as_ref().map_or("null".into(), |root| {
            object(&[
                ("source", bytes(&root.source)),
                ("mounted", bytes(&root.place)),
                ("type", bytes(&root.kind)),
                ("options", bytes(&root.options)),
            ])
        });
        let refusal = self.refusal.as_ref().map_or("null".into(), |error| {
            object(&[
                ("exit-status", (error.class() as u8).to_string()),
                ("message", string(&error.summary())),
                ("hint", optional(error.what_to_do())),
            ])
        });
        let link = |found: &crate::survey::FoundLink| {
            let name = found.name.as_ref().map(|name| format!("/{}", name.path().escape_ascii()));
            object(&[("link", string(&found.link.to_string())), ("deployment", optional(name.as_deref()))])
        };
        let advice = self.advice.as_ref().map_or("null".into(), |advice| {
            object(&[
                ("words", string(&advice.words)),
                ("argument", optional(advice.argument.as_deref())),
                ("but", optional(advice.but)),
            ])
        });
        let looked = |json: String| if self.looked { json } else { "null".into() };
        object(&[
            ("asked", array(asked)),
            ("remarks", array(self.remarks.iter().map(|remark| string(remark)))),
            ("refusal", refusal),
            ("physical-root", root),
            ("deployments", looked(array(self.deployments.iter().enumerate().map(json_row)))),
            ("boot-links", looked(array(self.links.iter().take(LINKS).map(link)))),
            ("more", (self.more || self.links.len() > LINKS).to_string()),
            ("advice", advice),
        ])
    }
}

fn json_row((index, row): (usize, &Row)) -> String {
    let (usable, problem) = match &row.verdict {
        Verdict::Yes => ("true", None),
        Verdict::No(problem) => ("false", Some(problem.summary())),
        Verdict::Unknown => ("null", None),
    };
    let link = row.link.as_ref().map(ToString::to_string);
    object(&[
        ("index", index.to_string()),
        ("stateroot", bytes(&row.name.stateroot)),
        ("deployment", bytes(&row.name.directory)),
        ("version", optional(row.version.as_deref())),
        ("boot-link", optional(link.as_deref())),
        ("same-kernel", row.same_kernel.map_or("null".into(), |same| same.to_string())),
        ("asked-for", row.asked.to_string()),
        ("assessment", optional(row.assessment.as_deref())),
        ("usable", usable.into()),
        ("problem", optional(problem.as_deref())),
    ])
}

impl Row {
    fn kernel(&self) -> &'static str {
        match self.same_kernel {
            Some(true) => "same",
            Some(false) => "other",
            None => "-",
        }
    }

    fn verdict(&self) -> String {
        match &self.verdict {
            Verdict::Yes => "yes".into(),
            Verdict::No(problem) => format!("no: {}", problem.cause()),
            Verdict::Unknown => "not known".into(),
        }
    }
}

fn left_out(count: usize, shown: usize) -> Option<String> {
    let more = count.checked_sub(shown).filter(|more| *more > 0)?;
    Some(format!("  ({more} more: ostree-prepare-root --explain --json)"))
}

/// Checksums cut off after as many digits as are needed to recognise them.
fn abbreviated(text: &str) -> String {
    let parts = text.split('/').map(|part| {
        let checksum = part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if checksum { short(part.as_bytes()) + ".." } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// A line that fits on the screen.
fn cut(line: &str) -> String {
    cell(line, WIDTH)
}

/// At most so many columns. (All text is ASCII by now; if it were not, less would be shown.)
fn cell(text: &str, width: usize) -> String {
    if text.len() <= width {
        return text.to_owned();
    }
    let end = (0..=width - 2).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned() + ".."
}

/// Indented lines that fit on the screen, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::from(" ")];
    for word in abbreviated(text).split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].len() + 1 + word.len() > WIDTH && lines[last].len() > 1 {
            lines.push(String::from(" "));
        }
        let last = lines.len() - 1;
        lines[last] += &format!(" {word}");
    }
    let complete = lines.len() <= LINES;
    lines.truncate(LINES);
    if let (false, Some(last)) = (complete, lines.last_mut()) {
        *last = cell(last, WIDTH - 3) + " ..";
    }
    lines.iter().map(|line| cut(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_abbreviated_and_nothing_else() {
        let checksum = "0123456789abcdef".repeat(4);
        assert_eq!(
            abbreviated(&format!("ostree=/ostree/boot.1/debian/{checksum}/0")),
            "ostree=/ostree/boot.1/debian/0123456789ab../0"
        );
        assert_eq!(abbreviated("[composefs] enabled=yes"), "[composefs] enabled=yes");
    }

    #[test]
    fn lines_fit() {
        assert_eq!(cut(&"x".repeat(100)).len(), WIDTH);
        assert_eq!(cell("\u{e9}\u{e9}", 3), "..");
        let text = "word ".repeat(40);
        let lines = wrapped(&text);
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().all(|line| line.len() <= WIDTH && line.starts_with("  word")), "{lines:?}");
        assert_eq!(wrapped("a b"), ["  a b"]);
    }
}
