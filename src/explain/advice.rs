//! What to do, as exactly as it can be typed.

use super::{Explanation, Row, problem};
use crate::config::{Composefs, Config, Enabled, Overrides};
use crate::sysroot::Sysroot;

/// What would boot something, best first.
pub fn advice(explanation: &Explanation, config: &Config, sysroot: &Sysroot) -> Vec<String> {
    let rows = &explanation.deployments;
    let usable = |same_kernel| {
        rows.iter()
            .enumerate()
            .find(|(_, row)| row.problem.is_none() && (row.same_kernel == Some(true)) == same_kernel)
    };
    if let Some((index, row)) = usable(true).or_else(|| usable(false)) {
        return boot(index, row, config);
    }
    if rows.is_empty() {
        return vec![
            "there is no deployment on this disk: is it the right one? see root= on the kernel command line"
                .into(),
        ];
    }
    // Not when signatures are demanded: whoever reads this must not be talked into giving that up.
    let Composefs { enabled, signed, .. } = config.composefs;
    if enabled != Enabled::Off && !signed && config.overrides == Overrides::All {
        let without = Config { composefs: Composefs::OFF, ..config.clone() };
        let helps = |row: &&Row| row.asked && problem(Some(&without), sysroot, &row.name).is_none();
        if let Some(row) = rows.iter().find(helps) {
            let what =
                format!("to boot {} without its composefs image, add to the kernel command line", row.name);
            return vec![what, "  ostree.prepare-root.composefs=no".into()];
        }
    }
    vec![
        "no deployment on this disk can be booted as it is configured, see the reasons above:".into(),
        "boot a rescue system, check the file system, or deploy again".into(),
    ]
}

fn boot(index: usize, row: &Row, config: &Config) -> Vec<String> {
    let argument = match (config.overrides, &row.link) {
        (Overrides::All, _) => format!("  ostree.prepare-root.deployment={index}"),
        // The only argument that is still read.
        (_, Some(link)) => format!("  ostree={link}"),
        (_, None) => return vec![format!("choose the boot entry of {}", row.name)],
    };
    let verb = if argument.contains("ostree=/") { "set in" } else { "add to" };
    let mut advice = vec![format!("to boot {}, {verb} the kernel command line", row.name), argument];
    match row.same_kernel {
        Some(true) => {}
        Some(false) => {
            advice.push("  (it has another kernel: its own boot entry is better, if there is one)".into())
        }
        None => advice.push("  (whether this kernel is the right one for it is not known)".into()),
    }
    advice
}
