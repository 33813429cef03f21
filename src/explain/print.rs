//! The explanation on one screen, and for programs.

use super::{Asked, Explanation, Row};
use crate::choice::short;
use crate::error::printable;
use crate::json::{array, bytes, object, optional, string};

/// Columns of a screen.
const WIDTH: usize = 80;

/// The most settings, and the most deployments, that are shown: a screen has 24 lines.
const ROWS: usize = 6;

impl Explanation {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec!["What was asked for:".to_owned()];
        let width = self.asked.iter().map(|asked| abbreviated(&asked.setting).len()).max().unwrap_or(0);
        lines.extend(self.asked.iter().take(ROWS).map(|Asked { setting, source }| {
            let width = width.min((WIDTH - 6).saturating_sub(source.len()));
            format!("  {:width$}  ({source})", abbreviated(setting))
        }));
        lines.extend(left_out(self.asked.len()));
        lines.push("What there is:".into());
        lines.extend(self.root.as_ref().map(|root| {
            format!(
                "  {} on {}: {}, {}",
                printable(&root.source),
                printable(&root.place),
                printable(&root.kind),
                printable(&root.options)
            )
        }));
        lines.extend(self.table());
        lines.extend(left_out(self.deployments.len()));
        lines.push(self.links());
        if !self.advice.is_empty() {
            lines.push("What to do:".into());
            lines.extend(self.advice.iter().map(|line| format!("  {line}")));
        }
        lines.iter().map(|line| cut(line) + "\n").collect()
    }

    fn table(&self) -> Vec<String> {
        let heading = ["index", "deployment", "version", "kernel", "can be booted"].map(str::to_owned);
        let rows = self.deployments.iter().enumerate().take(ROWS).map(|(index, row)| {
            let mark = if row.asked { "*" } else { "" };
            [
                format!("{index}{mark}"),
                row.name.to_string(),
                row.version.clone().unwrap_or_else(|| "-".into()),
                row.kernel().into(),
                row.problem.as_ref().map_or("yes".into(), |problem| format!("no: {}", problem.cause())),
            ]
        });
        let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (index, name, version, kernel) = (width(0), width(1), width(2), width(3));
        let line = |row: &[String; 5]| {
            let [a, b, c, d, e] = row;
            format!("  {a:index$}  {b:name$}  {c:version$}  {d:kernel$}  {e}")
        };
        if self.deployments.is_empty() {
            vec!["  no deployment".into()]
        } else {
            rows.iter().map(line).collect()
        }
    }

    fn links(&self) -> String {
        let of = |version: usize| match (self.links.count[version], self.links.dangling[version]) {
            (0, _) => format!("no boot.{version}"),
            (count, 0) => format!("boot.{version} has {count}"),
            (count, dangling) => format!("boot.{version} has {count}, {dangling} of them to nowhere"),
        };
        let more = if self.more { "; there is more than was looked at" } else { "" };
        format!("  boot links: {}; {}{more}", of(0), of(1))
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
        let row = |(index, row): (usize, &Row)| {
            let problem = row.problem.as_ref().map(|problem| problem.summary());
            let link = row.link.as_ref().map(ToString::to_string);
            object(&[
                ("index", index.to_string()),
                ("stateroot", bytes(&row.name.stateroot)),
                ("deployment", bytes(&row.name.directory)),
                ("version", optional(row.version.as_deref())),
                ("boot-link", optional(link.as_deref())),
                ("same-kernel", row.same_kernel.map_or("null".into(), |same| same.to_string())),
                ("asked-for", row.asked.to_string()),
                ("problem", optional(problem.as_deref())),
            ])
        };
        let refusal = self.refusal.as_ref().map_or("null".into(), |error| {
            object(&[
                ("exit-status", (error.class() as u8).to_string()),
                ("message", string(&error.summary())),
                ("hint", optional(error.what_to_do())),
            ])
        });
        object(&[
            ("asked", array(asked)),
            ("refusal", refusal),
            ("physical-root", root),
            ("deployments", array(self.deployments.iter().enumerate().map(row))),
            ("more", self.more.to_string()),
            ("advice", array(self.advice.iter().map(|line| string(line.trim_start())))),
        ])
    }
}

impl Row {
    fn kernel(&self) -> &'static str {
        match self.same_kernel {
            Some(true) => "same",
            Some(false) => "other",
            None => "-",
        }
    }
}

fn left_out(count: usize) -> Option<String> {
    let more = count.checked_sub(ROWS).filter(|more| *more > 0)?;
    Some(format!("  ({more} more: ostree-prepare-root --explain --json)"))
}

/// Checksums cut off after as many digits as are needed to recognise them.
fn abbreviated(setting: &str) -> String {
    let parts = setting.split('/').map(|part| {
        let checksum = part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if checksum { short(part.as_bytes()) + ".." } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// A line that fits on the screen, unless it is something to type.
fn cut(line: &str) -> String {
    if line.len() <= WIDTH || line.trim_start().starts_with("ostree") {
        return line.to_owned();
    }
    let end = (0..=WIDTH - 2).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
    line[..end].to_owned() + ".."
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
    fn lines_fit_unless_they_are_to_be_typed() {
        let long = "x".repeat(100);
        assert_eq!(cut(&long).len(), WIDTH);
        let typed = format!("  ostree=/{long}");
        assert_eq!(cut(&typed), typed);
    }
}
