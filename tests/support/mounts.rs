//! Mount tables, and what differs between two of them.

use super::failure::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One line of a `mountinfo` file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is mounted.
    pub point: String,
    /// Its number.
    pub id: u64,
    /// The number of the mount it is mounted on.
    pub parent: u64,
    /// The device number of its file system.
    pub device: (u64, u64),
    /// The directory of its file system that is mounted.
    pub root: String,
    /// Options of this mount.
    pub options: String,
    /// `shared:N`, `master:N`: the peer groups.
    pub propagation: String,
    /// The type of its file system.
    pub kind: String,
    /// What the file system is made from.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

/// A mount without what is arbitrary: its number and the numbers of its peer groups; with its place
/// relative to the place looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Where it is mounted.
    pub point: String,
    /// Where the mount that it is mounted on is mounted.
    pub parent: String,
    /// The device number of its file system.
    pub device: (u64, u64),
    /// The directory of its file system that is mounted.
    pub root: String,
    /// Options of this mount.
    pub options: String,
    /// `shared`, `slave`, `private`.
    pub propagation: &'static str,
    /// The type of its file system.
    pub kind: String,
    /// What the file system is made from.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { point, parent, device, root, options, propagation, kind, source, super_options } = self;
        let (major, minor) = device;
        write!(
            f,
            "{point:40} on {parent:12} {propagation:8} {options:24} {root} of {kind} {source} {major}:{minor} {super_options}"
        )
    }
}

/// A mount table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads a `mountinfo` file.
    pub fn read(path: &str) -> Result<Mounts> {
        let bytes = std::fs::read(path).context(format!("read {path}"))?;
        let mut mounts = Vec::new();
        for mount in libmount::mountinfo::Parser::new(&bytes) {
            let mount = mount.context(format!("parse {path}"))?;
            let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            mounts.push(Mount {
                point: text(&mount.mount_point),
                id: mount.mount_id,
                parent: mount.parent_id,
                device: (mount.major, mount.minor),
                root: text(&mount.root),
                options: text(&mount.mount_options),
                propagation: text(&mount.optional_fields).trim().to_owned(),
                kind: text(&mount.fstype),
                source: text(&mount.mount_source),
                super_options: text(&mount.super_options),
            });
        }
        Ok(Mounts(mounts))
    }

    /// The mounts at `place` and below it.
    pub fn below(&self, place: &str) -> Vec<Row> {
        self.rows(place)
    }

    /// All mounts.
    pub fn everywhere(&self) -> Vec<Row> {
        self.rows("")
    }

    /// The mounts that are neither at `place` nor below it, every detail of them.
    pub fn outside(&self, place: &str) -> Vec<&Mount> {
        self.0.iter().filter(|mount| relative(&mount.point, place).is_none()).collect()
    }

    fn rows(&self, place: &str) -> Vec<Row> {
        let points: BTreeMap<u64, &str> =
            self.0.iter().map(|mount| (mount.id, mount.point.as_str())).collect();
        let parent = |id| match points.get(&id) {
            None => "nothing".to_owned(),
            Some(point) => relative(point, place).unwrap_or_else(|| "outside".to_owned()),
        };
        let mut rows: Vec<Row> = self
            .0
            .iter()
            .filter_map(|mount| {
                let point = relative(&mount.point, place)?;
                Some(Row {
                    point,
                    parent: parent(mount.parent),
                    device: mount.device,
                    root: mount.root.clone(),
                    options: mount.options.clone(),
                    propagation: propagation(&mount.propagation),
                    kind: mount.kind.clone(),
                    source: mount.source.clone(),
                    super_options: mount.super_options.clone(),
                })
            })
            .collect();
        rows.sort();
        rows
    }
}

/// `point` as seen from `place`; `None` if it is elsewhere.
fn relative(point: &str, place: &str) -> Option<String> {
    let rest = point.strip_prefix(place)?;
    match rest {
        "" => Some("/".to_owned()),
        _ if rest.starts_with('/') => Some(rest.to_owned()),
        _ => None,
    }
}

fn propagation(fields: &str) -> &'static str {
    match (fields.contains("shared:"), fields.contains("master:")) {
        (true, true) => "slave+shared",
        (true, false) => "shared",
        (false, true) => "slave",
        (false, false) => "private",
    }
}

/// What is expected but not found (`-`) and found but not expected (`+`); `None` if nothing is.
pub fn difference<T: PartialEq + fmt::Display>(expected: &[T], found: &[T]) -> Option<String> {
    let mut out = String::new();
    // Duplicates count: a mount that is there twice is a difference.
    let mut rest: Vec<&T> = found.iter().collect();
    for item in expected {
        match rest.iter().position(|other| *other == item) {
            Some(at) => drop(rest.remove(at)),
            None => out += &format!("  - {item}\n"),
        }
    }
    for item in rest {
        out += &format!("  + {item}\n");
    }
    (!out.is_empty()).then_some(out)
}
