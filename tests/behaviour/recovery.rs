//! What is booted when it is not simply the deployment that the boot entry names.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, replaced_only, same};
use crate::support::sandbox::{Edit, Ground, Ran, SYSROOT};
use crate::support::sysroots::{Disk, Disks, Kind};
use crate::support::trials::trial;
use libtest_mimic::Trial;

use crate::setting::*;

const RECORD: &str = "/run/ostree/prepare-root.json";

/// A disk with two deployments of one kernel, and what is done to it.
struct Scene {
    disk: &'static Disk,
    cmdline: String,
    edits: Vec<Edit>,
}

impl Scene {
    fn config(&mut self, text: &str) {
        self.edits.push(file(CONFIG, text));
    }

    fn argument(&mut self, argument: &str) {
        self.cmdline += &format!(" {argument}");
    }

    /// The boot entry names the other boot version.
    fn stale(&mut self) {
        self.cmdline = format!("ostree={}", self.under("boot.1"));
    }

    /// The first boot link under that boot version.
    fn under(&self, version: &str) -> String {
        let link = &self.disk.boot_links[0];
        let rest = link.split('/').skip(3).collect::<Vec<_>>().join("/");
        format!("/ostree/{version}/{rest}")
    }

    /// A boot link to a deployment.
    fn link(&mut self, path: &str, deployment: usize) {
        let to = format!("../../../../{}", self.disk.deployments[deployment]);
        self.edits.push(Edit::Link(format!("{SYSROOT}{path}"), to));
    }

    /// What takes part of a deployment away.
    fn remove(&mut self, deployment: usize, path: &str) {
        self.edits.push(Edit::Remove(format!("{SYSROOT}/{}/{path}", self.disk.deployments[deployment])));
    }

    /// The start of a deployment's checksum.
    fn checksum(&self, deployment: usize) -> String {
        let name = self.disk.deployments[deployment].rsplit('/').next().unwrap_or_default();
        name.chars().take(8).collect()
    }
}

/// What is to come of it.
enum End {
    /// That deployment is the root, and the record has this as `how`, if there is one.
    Root(usize, Option<&'static str>),
    /// Nothing changes.
    Refused(i32),
}
use End::{Refused, Root};

struct Recovery {
    name: &'static str,
    scene: fn(&mut Scene),
    end: End,
    /// What standard error says.
    says: &'static [&'static str],
}

const STRICT: &str = "[recovery]\nboot-links=strict\n";
const FALLBACK: &str = "[recovery]\nfallback=same-kernel\n";

const RECOVERIES: &[Recovery] = &[
    Recovery { name: "nothing is wrong", scene: |_| {}, end: Root(0, None), says: &[] },
    Recovery {
        name: "stale boot link",
        scene: Scene::stale,
        end: Root(0, Some("boot-links")),
        says: &["/ostree/boot.1/debian/", "does not exist, /ostree/boot.0", "booting debian "],
    },
    Recovery {
        name: "stale boot link, and the new one is where it was",
        scene: |scene| {
            scene.stale();
            let other = scene.under("boot.1.1");
            scene.link(&other, 0);
        },
        end: Root(0, Some("boot-links")),
        says: &["does not exist"],
    },
    Recovery {
        name: "stale boot link, and two deployments",
        scene: |scene| {
            scene.stale();
            let other = scene.under("boot.1.1");
            scene.link(&other, 1);
        },
        end: Refused(7),
        says: &["there is no such link", "    ostree.prepare-root.deployment="],
    },
    Recovery {
        name: "stale boot link to another kernel",
        scene: |scene| scene.cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0".into(),
        end: Refused(7),
        says: &["there is no such link"],
    },
    Recovery {
        name: "stale boot link of another stateroot",
        scene: |scene| {
            scene.stale();
            scene.cmdline = scene.cmdline.replace("/debian/", "/other/");
        },
        end: Refused(7),
        says: &["there is no such link"],
    },
    Recovery {
        name: "stale boot link, strict",
        scene: |scene| {
            scene.stale();
            scene.config(STRICT);
        },
        end: Refused(7),
        says: &["there is no such link"],
    },
    Recovery {
        name: "stale boot link, strict by argument",
        scene: |scene| {
            scene.stale();
            scene.argument("ostree.prepare-root.recovery.boot-links=strict");
        },
        end: Refused(7),
        says: &["there is no such link"],
    },
    Recovery {
        name: "strict is not relaxed by argument when that is locked",
        scene: |scene| {
            scene.stale();
            scene.argument("ostree.prepare-root.recovery.boot-links=repair");
            scene.config("[recovery]\nboot-links=strict\n[overrides]\nkernel-arguments=safe\n");
        },
        end: Refused(7),
        says: &["the kernel argument for [recovery] boot-links is ignored"],
    },
    Recovery {
        name: "dangling boot link",
        scene: |scene| {
            let link = format!("{SYSROOT}{}", scene.disk.boot_links[0]);
            scene.edits.push(Edit::Link(link, "../../../deploy/debian/deploy/gone.0".into()));
        },
        end: Refused(7),
        says: &["points at nothing"],
    },
    Recovery {
        name: "dangling boot link, fallback",
        scene: |scene| {
            let link = format!("{SYSROOT}{}", scene.disk.boot_links[0]);
            scene.edits.push(Edit::Link(link, "../../../deploy/debian/deploy/gone.0".into()));
            scene.config(FALLBACK);
        },
        end: Root(1, Some("fallback")),
        says: &["points at nothing", "falling back to debian "],
    },
    Recovery {
        name: "usr is missing",
        scene: |scene| scene.remove(0, "usr"),
        end: Refused(8),
        says: &["/usr of the deployment is missing", "    ostree.prepare-root.deployment="],
    },
    Recovery {
        name: "usr is missing, fallback",
        scene: |scene| {
            scene.remove(0, "usr");
            scene.config(FALLBACK);
        },
        end: Root(1, Some("fallback")),
        says: &["/usr of the deployment is missing", "falling back to debian "],
    },
    Recovery {
        name: "usr is missing, fallback by argument when that is locked",
        scene: |scene| {
            scene.remove(0, "usr");
            scene.argument("ostree.prepare-root.recovery.fallback=same-kernel");
            scene.config("[overrides]\nkernel-arguments=safe\n");
        },
        end: Refused(8),
        says: &["the kernel argument for [recovery] fallback is ignored"],
    },
    Recovery {
        name: "both are damaged, fallback",
        scene: |scene| {
            scene.remove(0, "usr");
            scene.remove(1, "usr");
            scene.config(FALLBACK);
        },
        end: Refused(8),
        says: &["falling back to debian ", "no deployment on this disk can be booted"],
    },
    Recovery {
        name: "damaged image, fallback",
        scene: |scene| {
            let image = format!("{SYSROOT}/{}/.ostree.cfs", scene.disk.deployments[0]);
            scene.edits.push(Edit::Remove(image.clone()));
            scene.edits.push(file(&image, "damaged"));
            scene.config(&format!("[composefs]\nenabled=yes\n{FALLBACK}"));
        },
        end: Root(1, Some("fallback")),
        says: &["it is not a composefs image", "falling back to debian "],
    },
    Recovery {
        name: "fallback never takes another kernel",
        scene: |scene| {
            scene.remove(0, "usr");
            scene.edits.push(Edit::Remove(format!("{SYSROOT}{}", scene.disk.boot_links[1])));
            scene.link("/ostree/boot.0.1/debian/c0ffee/0", 1);
            scene.config(FALLBACK);
        },
        end: Refused(8),
        says: &["/usr of the deployment is missing"],
    },
    Recovery {
        name: "fallback never takes what is not signed",
        scene: |scene| {
            scene.config(&format!("[composefs]\nenabled=signed\n{FALLBACK}"));
            scene.edits.push(file(
                "/etc/ostree/initramfs-root-binding.key",
                "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n",
            ));
        },
        end: Refused(13),
        says: &["verify the commit", "falling back to debian "],
    },
    Recovery {
        name: "chosen by index",
        scene: |scene| scene.argument("ostree.prepare-root.deployment=1"),
        end: Root(1, Some("deployment")),
        says: &[],
    },
    Recovery {
        name: "chosen by index, no ostree=",
        scene: |scene| scene.cmdline = "quiet ostree.prepare-root.deployment=1".into(),
        end: Root(1, Some("deployment")),
        says: &[],
    },
    Recovery {
        name: "chosen by checksum",
        scene: |scene| {
            let checksum = scene.checksum(1);
            scene.argument(&format!("ostree.prepare-root.deployment={checksum}"));
        },
        end: Root(1, Some("deployment")),
        says: &[],
    },
    Recovery {
        name: "chosen by name",
        scene: |scene| {
            let checksum = scene.checksum(1);
            scene.argument(&format!("ostree.prepare-root.deployment=\"debian/{checksum}.0\""));
        },
        end: Root(1, Some("deployment")),
        says: &[],
    },
    Recovery {
        name: "chosen and not there",
        scene: |scene| scene.argument("ostree.prepare-root.deployment=2"),
        end: Refused(7),
        says: &["find ostree.prepare-root.deployment=2: none of 2 deployments is meant"],
    },
    Recovery {
        name: "chosen and nonsense",
        scene: |scene| scene.argument("ostree.prepare-root.deployment=-"),
        end: Refused(4),
        says: &["ostree.prepare-root.deployment=- is none of an index"],
    },
    Recovery {
        name: "chosen, with another kernel than the running one",
        scene: |scene| {
            scene.cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0 ostree.prepare-root.deployment=1".into()
        },
        end: Root(1, Some("deployment")),
        says: &["and c0ffee is running: it may lack modules"],
    },
    Recovery {
        name: "chosen when that is locked",
        scene: |scene| {
            scene.argument("ostree.prepare-root.deployment=1");
            scene.config("[overrides]\nkernel-arguments=safe\n");
        },
        end: Root(0, None),
        says: &["the kernel argument ostree.prepare-root.deployment= is ignored"],
    },
    Recovery {
        name: "chosen when nothing is read",
        scene: |scene| {
            scene.argument("ostree.prepare-root.deployment=1");
            scene.config("[overrides]\nkernel-arguments=none\n");
        },
        end: Root(0, None),
        says: &[],
    },
    Recovery {
        name: "misspelt argument",
        scene: |scene| scene.argument("ostree.prepare-root.etc.transiant=1"),
        end: Root(0, None),
        says: &[
            "no kernel argument ostree.prepare-root.etc.transiant: is ostree.prepare-root.etc.transient meant?",
        ],
    },
    Recovery {
        name: "an argument that only the file can set",
        scene: |scene| scene.argument("ostree.prepare-root.overrides.kernel-arguments=all"),
        end: Root(0, None),
        says: &["ostree.prepare-root.overrides.kernel-arguments is ignored: only the configuration file"],
    },
    Recovery {
        name: "ostree= twice",
        scene: |scene| {
            let second = scene.disk.boot_links[1].clone();
            scene.argument(&format!("ostree={second}"));
        },
        end: Root(0, None),
        says: &["ostree= is given more than once: using the first"],
    },
];

pub fn recovery() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::without_mounting() {
        for recovery in RECOVERIES {
            let name = format!("recovery: {}: {}", recovery.name, setting.name());
            trials.push(trial(name, move || recovery.check(setting)));
        }
    }
    trials
}

impl Recovery {
    fn check(&self, setting: Setting) -> Result<()> {
        let disk = Disks::get()?.disk(Kind { deployments: 2, ..Kind::PLAIN }, false);
        let cmdline = format!("quiet ostree={}", disk.boot_links[0]);
        let mut scene = Scene { disk, cmdline, edits: Vec::new() };
        (self.scene)(&mut scene);
        let mut sandbox = setting.sandbox(Ground::Copy(disk.mounted.clone()))?;
        sandbox.edits = scene.edits;
        // The copy is in a tmpfs.
        sandbox.loop_devices = true;
        sandbox.collect.push(RECORD.into());
        // A second run recognises its own work, whoever chose.
        sandbox.runs = vec![setting.run(&scene.cmdline); 2];
        let outcome = job::run(sandbox)?;
        let [ran, again] = &outcome.runs[..] else { return Err("not two runs".into()) };
        for words in self.says {
            if !ran.stderr.contains(words) {
                return Err(format!("it did not say {words:?}:\n{}", ran.stderr));
            }
        }
        if self.says.is_empty() {
            same("standard error", &[""], &[ran.stderr.as_str()])?;
        }
        match self.end {
            Refused(status) => {
                exited(ran, status)?;
                nothing_changed(&outcome.before, &ran.after)
            }
            Root(deployment, how) => {
                exited(ran, 0)?;
                replaced_only(setting.shared, &outcome, ran)?;
                exited(again, 0)?;
                nothing_changed(&ran.after, &again.after)?;
                is_root(&disk.deployments[deployment], ran)?;
                record(&disk.deployments[deployment], how, ran)
            }
        }
    }
}

fn is_root(deployment: &str, ran: &Ran) -> Result<()> {
    let rows = ran.after.mounts.below(SYSROOT);
    let root = row(&rows, "/")?;
    // An image is a file system of its own; then /etc tells.
    let (found, expected) = match &*root.kind {
        "overlay" => (&row(&rows, "/etc")?.root, format!("/{deployment}/etc")),
        _ => (&root.root, format!("/{deployment}")),
    };
    same("the root", &[expected.as_str()], &[found.as_str()])
}

fn record(deployment: &str, how: Option<&str>, ran: &Ran) -> Result<()> {
    let Some(how) = how else {
        return match ran.files.get(RECORD) {
            None => Ok(()),
            Some(text) => Err(format!("there is a record: {text}")),
        };
    };
    let text = ran.files.get(RECORD).context("find the record")?;
    let record: serde_json::Value = serde_json::from_str(text).context("parse the record")?;
    let found = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    same("the record", &[how, &format!("/{deployment}")], &[&*found("how"), &found("path")])?;
    if found("asked").is_empty() || found("why").is_empty() {
        return Err(format!("the record does not say what was asked for, or why: {text}"));
    }
    Ok(())
}
