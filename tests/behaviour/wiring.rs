//! Who mounts `/var` and `/boot`.

use crate::support::failure::Result;
use crate::support::promises::{exited, replaced_only, same};
use crate::support::sandbox::{Edit, Outcome, Ran, Run, SYSROOT};
use crate::support::sysroots::library_name;
use crate::support::trials::{ignorable, trial};
use crate::support::{job, reference};
use libtest_mimic::{Completion, Trial};

use crate::setting::*;

/// What tells who mounts `/var` and `/boot`, and whether we do.
struct Wiring {
    name: &'static str,
    config: &'static str,
    marker: bool,
    generator: Generator,
    fstab: &'static str,
    mounts_var: bool,
    mounts_boot: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Generator {
    /// It makes `var.mount` and `boot.mount`.
    New,
    /// It makes `var.mount`, as all before 2026.
    Old,
    Absent,
    /// It is there, but the administrator masked it.
    Masked,
}

const WIRING: Wiring = Wiring {
    name: "the generator does",
    config: "",
    marker: false,
    generator: Generator::New,
    fstab: "",
    mounts_var: false,
    mounts_boot: false,
};

const WIRINGS: [Wiring; 14] = [
    WIRING,
    Wiring { name: "marker", marker: true, mounts_var: true, mounts_boot: true, ..WIRING },
    Wiring {
        name: "marker but [var] mount=false",
        marker: true,
        config: "[var]\nmount=false\n",
        mounts_boot: true,
        ..WIRING
    },
    Wiring { name: "[var] mount=true", config: "[var]\nmount=true\n", mounts_var: true, ..WIRING },
    Wiring { name: "[boot] mount=true", config: "[boot]\nmount=true\n", mounts_boot: true, ..WIRING },
    Wiring {
        name: "no generator",
        generator: Generator::Absent,
        mounts_var: true,
        mounts_boot: true,
        ..WIRING
    },
    Wiring {
        name: "no generator, [var] mount=false",
        generator: Generator::Absent,
        config: "[var]\nmount=false\n",
        mounts_boot: true,
        ..WIRING
    },
    Wiring {
        name: "no generator, [boot] mount=false",
        generator: Generator::Absent,
        config: "[boot]\nmount=false\n",
        mounts_var: true,
        ..WIRING
    },
    Wiring {
        name: "no generator, read-only",
        generator: Generator::Absent,
        config: "[sysroot]\nreadonly=true\n",
        mounts_var: true,
        mounts_boot: true,
        ..WIRING
    },
    Wiring {
        name: "masked generator",
        generator: Generator::Masked,
        mounts_var: true,
        mounts_boot: true,
        ..WIRING
    },
    Wiring { name: "old generator", generator: Generator::Old, mounts_boot: true, ..WIRING },
    Wiring {
        name: "old generator, [boot] mount=false",
        generator: Generator::Old,
        config: "[boot]\nmount=false\n",
        ..WIRING
    },
    Wiring {
        name: "no generator, fstab has /var",
        generator: Generator::Absent,
        fstab: "LABEL=var /var ext4 defaults 0 2\n",
        mounts_boot: true,
        ..WIRING
    },
    Wiring {
        name: "no generator, fstab has /boot",
        generator: Generator::Absent,
        fstab: "LABEL=boot /boot/ ext4 defaults 0 2\n",
        mounts_var: true,
        ..WIRING
    },
];

pub fn var_and_boot() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::all() {
        for wiring in &WIRINGS {
            let name = format!("/var and /boot: {}: {}", wiring.name, setting.name());
            trials.push(trial(name, move || wiring.check(setting)));
        }
        let name = format!("/var and /boot: marker, as the reference: {}", setting.name());
        trials.push(ignorable(name, move || marker_like_the_reference(setting)));
    }
    trials
}

impl Wiring {
    fn check(&self, setting: Setting) -> Result<()> {
        let mut sandbox = setting.sandbox(copy()?)?;
        let deployment = format!("{}/{}", SYSROOT, disk()?.deployments[0]);
        let generator = format!("{deployment}/usr/lib/systemd/system-generators/ostree-system-generator");
        match self.generator {
            Generator::New => {}
            Generator::Absent => sandbox.edits.push(Edit::Remove(generator)),
            Generator::Masked => {
                let mask = generator.replace("/usr/lib/", "/etc/");
                sandbox.edits.push(Edit::Link(mask, "/dev/null".into()));
            }
            Generator::Old => {
                let library = library_name();
                sandbox
                    .edits
                    .push(file(&format!("{deployment}/{library}"), "var.mount, and nothing about boot"));
            }
        }
        if self.marker {
            sandbox.edits.push(file(MARKER, ""));
        }
        if !self.config.is_empty() {
            sandbox.edits.push(file(CONFIG, self.config));
        }
        if !self.fstab.is_empty() {
            sandbox.edits.push(file(&format!("{deployment}/etc/fstab"), self.fstab));
        }
        sandbox.runs.push(setting.run(&cmdline()?));
        let outcome = job::run(sandbox)?;
        let ran = &outcome.runs[0];
        exited(ran, 0)?;
        replaced_only(setting.shared, &outcome, ran)?;

        let rows = ran.after.mounts.below(SYSROOT);
        let points = points(&rows);
        same("is /var mounted", &[self.mounts_var], &[points.contains(&"/var")])?;
        same("is /boot mounted", &[self.mounts_boot], &[points.contains(&"/boot")])?;
        if self.mounts_var {
            let var = row(&rows, "/var")?;
            same("root of /var", &["/ostree/deploy/debian/var"], &[var.root.as_str()])?;
            same("propagation of /var", &["shared"], &[var.propagation])?;
            same("is /var writable", &[true], &[var.options.starts_with("rw")])?;
        }
        if self.mounts_boot {
            let boot = row(&rows, "/boot")?;
            same("root of /boot", &["/boot"], &[boot.root.as_str()])?;
            same("propagation of /boot", &["private"], &[boot.propagation])?;
        }
        same("what keeps mounts over a soft-reboot", &self.kept(), &kept(ran))
    }

    /// What is left for systemd: nothing where a new generator does it. Nobody looks how new it is where it is not asked
    /// about `/boot`.
    fn kept(&self) -> Vec<&'static str> {
        let asked = !self.config.contains("[boot]");
        let ours = self.marker || self.generator != Generator::New || !asked;
        let are_kept = [self.mounts_boot, true, self.mounts_var];
        KEPT.into_iter().zip(are_kept).filter(|(_, is_kept)| ours && *is_kept).map(|(unit, _)| unit).collect()
    }
}

/// All that can be left for a soft-reboot.
const KEPT: [&str; 3] = ["boot.mount", "sysroot.mount.d/50-ostree-prepare-root.conf", "var.mount"];

/// The names of the files in systemd's directory.
fn kept(ran: &Ran) -> Vec<&str> {
    let lines = ran.after.run.iter().filter_map(|line| line.strip_prefix("/run/systemd/system/"));
    let mut names: Vec<_> =
        lines.filter_map(|line| line.split_once(" file ")).map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

/// Both mount `/var`. We mount `/boot` as well, and keep all over a soft-reboot: the marker silences the generator, so
/// that nobody else would.
fn marker_like_the_reference(setting: Setting) -> Result<Completion> {
    let Some(strace) = strace() else {
        return Ok(Completion::ignored_with("there is no strace"));
    };
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.host = true;
    sandbox.edits.push(file(MARKER, ""));
    let mut theirs = sandbox.clone();
    sandbox.runs.push(setting.run(&cmdline()?));
    // The reference looks for a marker in /run/ostree, but first fails if that folder exists. So it
    // is told that it made it.
    let strace = [
        &strace?[..],
        &["-qq", "-o", "/tmp/trace", "-P", "/run/ostree", "-e", "inject=mkdir,mkdirat:retval=0"]
            .map(str::to_owned),
        &[reference::PROGRAM, SYSROOT, &cmdline()?].map(str::to_owned),
    ];
    theirs.runs.push(Run::of(strace.concat()));
    let (theirs, ours) = (job::run(theirs)?, job::run(sandbox)?);
    exited(&ours.runs[0], 0)?;
    exited(&theirs.runs[0], 0).map_err(|error| format!("the reference: {error}"))?;
    let below = |outcome: &Outcome| outcome.runs[0].after.mounts.below(SYSROOT);
    let mut rows = below(&ours);
    rows.retain(|row| row.point != "/boot");
    same("mounts", &below(&theirs), &rows)?;
    same("what keeps mounts over a soft-reboot", &KEPT, &kept(&ours.runs[0]))?;
    let mut run = ours.runs[0].after.run.clone();
    run.retain(|line| !line.starts_with("/run/systemd"));
    same("/run", &theirs.runs[0].after.run, &run)?;
    Ok(Completion::Completed)
}
