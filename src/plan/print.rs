//! A plan in words (`--dry-run`) and as JSON (`--dry-run --json`).

use crate::json::{self, array, object, string};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Access, Layer, Plan, Propagation, Source, Step};
use crate::contents::Condition;
use core::fmt::Write;

impl Step {
    /// Where the mount ends up, as seen by the new system.
    pub fn place(&self) -> String {
        format!("/{}", self.at.escape_ascii())
    }

    /// What is mounted there.
    pub fn source_text(&self) -> String {
        match &self.source {
            Source::Deployment("") => "the deployment".into(),
            Source::Deployment(path) => format!("the deployment's {path}"),
            Source::Image { layer: None, .. } => "the composefs image".into(),
            Source::Image { .. } => "a transient layer over the composefs image".into(),
            Source::Covered(path, Layer::Transient(_)) => format!("a transient layer over /{path}"),
            Source::Covered(path, Layer::Hotfix) => format!("the hotfix layer over /{path}"),
            Source::Memory(_) => "memory, with what the system has for a new /var".into(),
            Source::Physical(path) if path.is_empty() => "the physical root".into(),
            Source::Physical(path) => format!("the physical root's {}", path.escape_ascii()),
        }
    }

    /// What the contents of an image will decide.
    fn only_if(&self) -> Option<&'static str> {
        match self.only_if? {
            Condition::NobodyElseMountsVar { .. } => Some("if the image has no unit for /var"),
            Condition::NobodyElseMountsBoot { .. } => Some("if the image has no unit for /boot"),
        }
    }

    /// The mount options that are set, the others being inherited.
    fn options(&self) -> Vec<&'static str> {
        let access = match self.access {
            Access::Inherited => None,
            Access::ReadOnly => Some("ro"),
            Access::Writable => Some("rw"),
        };
        let propagation = match self.propagation {
            Propagation::Private => "private",
            Propagation::Shared => "shared",
        };
        let verity = matches!(self.source, Source::Image { verity: true, .. }).then_some("verity");
        access.into_iter().chain(verity).chain([propagation]).collect()
    }
}

/// The plan for people: a line a mount, aligned.
pub fn text(plan: &Plan) -> String {
    let mut out = format!("{} becomes the root:\n", plan.name);
    let rows: Vec<[String; 3]> =
        plan.steps.iter().map(|step| [step.place(), step.options().join(","), step.source_text()]).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (place_width, options_width, source_width) = (width(0), width(1), width(2));
    for ([place, options, source], step) in rows.iter().zip(&plan.steps) {
        let _ = writeln!(
            out,
            "  {place:place_width$}  {options:options_width$}  {source:source_width$}  ({})",
            step.only_if().unwrap_or(step.why)
        );
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// The plan for programs: one JSON object on one line. Bytes of paths that are not printable ASCII
/// are escaped as in Rust (`\xNN`).
pub fn json(plan: &Plan) -> String {
    let step = |step: &Step| {
        let (from, path) = match &step.source {
            Source::Deployment(path) => ("deployment", path.as_bytes()),
            Source::Physical(path) => ("physical-root", &path[..]),
            Source::Image { .. } => ("composefs-image", &b".ostree.cfs"[..]),
            Source::Covered(path, Layer::Transient(_)) => ("transient-layer", path.as_bytes()),
            Source::Covered(path, Layer::Hotfix) => ("hotfix-layer", path.as_bytes()),
            Source::Memory(_) => ("memory", &b"var"[..]),
        };
        object(&[
            ("mount", string(&step.place())),
            ("from", string(from)),
            ("path", json::bytes(&[b"/", path].concat())),
            ("options", array(step.options().into_iter().map(string))),
            ("why", string(step.why)),
            ("only-if", json::optional(step.only_if())),
        ])
    };
    object(&[
        ("prepared", "false".into()),
        ("stateroot", json::bytes(&plan.name.stateroot)),
        ("deployment", json::bytes(&plan.name.directory)),
        ("path", json::bytes(&[b"/", &plan.name.path()[..]].concat())),
        ("sysroot-readonly", plan.booted.sysroot_readonly.to_string()),
        ("mounts", array(plan.steps.iter().map(step))),
        ("warnings", array(plan.warnings.iter().copied().map(string))),
    ])
}
