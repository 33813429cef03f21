//! Disks that somebody made to lead the program astray, to stop it, or to speak through it.

use crate::support::failure::Result;
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, replaced_only};
use crate::support::sandbox::{Edit, PRODUCT, Ran, Run, SYSROOT};
use crate::support::trials::trial;
use libtest_mimic::Trial;
use std::time::Duration;

use crate::setting::*;

/// Whatever is on the disk, the program ends within that.
const PATIENCE: Duration = Duration::from_secs(2);

/// A directory beside the disk with all that a deployment has.
const OUTSIDE: &str = "/outside";

/// A name that would clear the screen, set its title, and forge a line in a log.
const LOUD: &str = "\n<0>FORGED\x1b[2J\x1b]0;x\x07\u{9b}2J";

const KEYS: &str = "/etc/ostree/initramfs-root-binding.key";

/// The first public key of RFC 8032, section 7.1.
const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n";

/// A hostile disk.
struct Trap {
    name: &'static str,
    set: fn(&mut Scene),
    ends: Ends,
}

/// How the run must end.
enum Ends {
    /// With this exit status, and a line that says this: what it was about, by name.
    Refused(i32, &'static [&'static str]),
    /// The root is prepared.
    Prepared,
}
use Ends::{Prepared, Refused};

/// The disk, as OSTree made it, and what is done to it.
struct Scene {
    link: String,
    deployment: String,
    cmdline: String,
    edits: Vec<Edit>,
}

impl Scene {
    fn config(&mut self, text: &str) {
        self.edits.push(file(CONFIG, text));
    }

    fn boot_link(&mut self, text: &str) {
        self.edits.push(Edit::Link(self.link.clone(), text.into()));
    }

    /// A path in the deployment.
    fn of(&self, path: &str) -> String {
        format!("{}/{path}", self.deployment)
    }

    /// The commit must be signed; its path in the repository.
    fn signed(&mut self) -> String {
        self.config("[composefs]\nenabled=signed\n");
        self.edits.push(file(KEYS, KEY));
        let name = self.deployment.rsplit('/').next().unwrap_or_default();
        let (directory, rest) = name.split_at(2);
        let rest = rest.split('.').next().unwrap_or_default();
        format!("{SYSROOT}/ostree/repo/objects/{directory}/{rest}.commit")
    }
}

fn on_disk(path: &str) -> String {
    format!("{SYSROOT}/{path}")
}

const TRAPS: &[Trap] = &[
    Trap {
        name: "the boot link is absolute",
        set: |scene| scene.boot_link(OUTSIDE),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "/outside", "leads outside the physical root"]),
    },
    Trap {
        name: "the boot link leads out, and in again",
        set: |scene| scene.boot_link(&format!("../../../../..{}", scene.deployment)),
        ends: Refused(
            7,
            &["follow ostree=/ostree/boot.", "../../../../../sysroot", "leads outside the physical root"],
        ),
    },
    Trap {
        name: "the boot link is a long way out",
        set: |scene| scene.boot_link(&format!("{}outside", "../".repeat(1300))),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "leads outside the physical root"]),
    },
    Trap {
        name: "the boot link goes through a process's root",
        set: |scene| scene.boot_link("/proc/self/root/outside"),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "/proc/self/root/outside", "leads outside"]),
    },
    Trap {
        name: "the boot link goes through a process's root, in a /proc on the disk",
        set: |scene| {
            scene.edits.push(Edit::Proc(on_disk("proc")));
            scene.boot_link("../../../../proc/self/root/outside");
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.", "../../../../proc/self/root/outside", "/proc"]),
    },
    Trap {
        name: "two links lead to each other",
        set: |scene| {
            scene.boot_link("other");
            let other =
                scene.link.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/other"));
            let name = scene.link.rsplit('/').next().unwrap_or_default().to_owned();
            scene.edits.push(Edit::Link(other, name));
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.", "runs in circles"]),
    },
    Trap {
        name: "the stateroot is a link out",
        set: |scene| scene.edits.push(Edit::Link(on_disk("ostree/deploy/debian"), OUTSIDE.into())),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "leads outside the physical root"]),
    },
    Trap {
        name: "the deployment is a link out",
        set: |scene| scene.edits.push(Edit::Link(scene.deployment.clone(), OUTSIDE.into())),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "leads outside the physical root"]),
    },
    Trap {
        name: "ostree is a link out",
        set: |scene| scene.edits.push(Edit::Link(on_disk("ostree"), OUTSIDE.into())),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "leads outside the physical root"]),
    },
    Trap {
        name: "usr is a link out",
        set: |scene| scene.edits.push(Edit::Link(scene.of("usr"), "/outside/usr".into())),
        ends: Refused(8, &["prepare debian ", "/usr of the deployment is missing or no directory"]),
    },
    Trap {
        name: "etc is a link out",
        set: |scene| scene.edits.push(Edit::Link(scene.of("etc"), "../../../../../../outside/etc".into())),
        ends: Refused(8, &["prepare debian ", "/etc of the deployment is missing or no directory"]),
    },
    Trap {
        name: "sysroot is a link out",
        set: |scene| scene.edits.push(Edit::Link(scene.of("sysroot"), "/outside/sysroot".into())),
        ends: Refused(8, &["prepare debian ", "/sysroot of the deployment is missing or no directory"]),
    },
    Trap {
        name: "the stateroot's var is a link out",
        set: |scene| {
            scene.config("[var]\nmount=true\n");
            scene.edits.push(Edit::Link(on_disk("ostree/deploy/debian/var"), "/outside/var".into()));
        },
        ends: Refused(8, &["open the physical root's ostree/deploy/debian/var for /var", "it leads outside"]),
    },
    Trap {
        name: "the stateroot's var climbs out",
        set: |scene| {
            scene.config("[sysroot]\nreadonly=true\n[var]\nmount=false\n");
            // Below the new root's /sysroot there is one directory more to climb.
            scene.edits.push(Edit::Link(on_disk("ostree/deploy/debian/var"), "../../../../usr".into()));
        },
        ends: Refused(8, &["for /sysroot/ostree/deploy/debian/var", "it leads outside"]),
    },
    Trap {
        name: "usr is a FIFO",
        set: |scene| scene.edits.push(Edit::Fifo(scene.of("usr"))),
        ends: Refused(8, &["prepare debian ", "/usr of the deployment is missing or no directory"]),
    },
    Trap {
        name: "etc is a device",
        set: |scene| scene.edits.push(Edit::Endless(scene.of("etc"))),
        ends: Refused(8, &["prepare debian ", "/etc of the deployment is missing or no directory"]),
    },
    Trap {
        name: "the boot link is a device",
        set: |scene| scene.edits.push(Edit::Endless(scene.link.clone())),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "it is not a symbolic link"]),
    },
    Trap {
        name: "the deployment is a FIFO",
        set: |scene| scene.edits.push(Edit::Fifo(scene.deployment.clone())),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "does not lead to a directory"]),
    },
    Trap {
        name: "the image is a device",
        set: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.edits.push(Edit::Endless(scene.of(".ostree.cfs")));
        },
        ends: Refused(8, &["open the composefs image .ostree.cfs of debian ", "EINVAL"]),
    },
    Trap {
        name: "the image is 4 GiB of nothing",
        set: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.edits.push(Edit::Sparse(scene.of(".ostree.cfs"), 4 << 30));
        },
        ends: Refused(8, &["open the composefs image .ostree.cfs of debian ", "it is not a composefs image"]),
    },
    Trap {
        name: "the commit is 4 GiB of nothing",
        set: |scene| {
            let commit = scene.signed();
            scene.edits.push(Edit::Sparse(commit, 4 << 30));
        },
        ends: Refused(13, &["read /sysroot/ostree/repo/objects/", ".commit", "EFBIG"]),
    },
    Trap {
        name: "the commit is a FIFO",
        set: |scene| {
            let commit = scene.signed();
            scene.edits.push(Edit::Fifo(commit));
        },
        ends: Refused(13, &["read /sysroot/ostree/repo/objects/", ".commit", "EINVAL"]),
    },
    Trap {
        name: "the commit is a link out",
        set: |scene| {
            let commit = scene.signed();
            scene.edits.push(Edit::Link(commit, "/outside/commit".into()));
        },
        ends: Refused(13, &["read /sysroot/ostree/repo/objects/", ".commit", "EXDEV"]),
    },
    Trap {
        name: "the commits of a refused disk are 4 GiB of nothing",
        set: |scene| {
            let commit = scene.signed();
            scene.config("");
            scene.edits.push(Edit::Sparse(commit, 4 << 30));
            scene.edits.push(Edit::Sparse(scene.of("usr/lib/os-release"), 4 << 30));
            scene.edits.push(Edit::Sparse(on_disk("boot/loader/entries/ostree-1.conf"), 4 << 30));
            scene.boot_link("gone");
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.", "points at nothing"]),
    },
    Trap {
        name: "FIFOs and devices where a refusal looks for what to say",
        set: |scene| {
            let commit = scene.signed();
            scene.config("");
            scene.edits.push(Edit::Fifo(commit));
            scene.edits.push(Edit::Fifo(on_disk("ostree/boot.0")));
            scene.edits.push(Edit::Endless(scene.of("usr/lib/os-release")));
            scene.edits.push(Edit::Directory(on_disk("boot/loader/entries")));
            scene.edits.push(Edit::Fifo(on_disk("boot/loader/entries/ostree-1.conf")));
            scene.edits.push(Edit::Endless(on_disk("boot/loader/entries/ostree-2.conf")));
            scene.boot_link("gone");
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.", "points at nothing"]),
    },
    Trap {
        name: "FIFOs and devices that are asked who mounts /var and /boot",
        set: |scene| {
            scene.edits.push(Edit::Fifo(scene.of("etc/fstab")));
            scene.edits.push(Edit::Endless(scene.of("usr/lib64")));
            scene
                .edits
                .push(Edit::Fifo(scene.of("usr/lib/systemd/system-generators/ostree-system-generator")));
            scene.edits.push(Edit::Endless(on_disk("ostree/repo/config")));
        },
        ends: Prepared,
    },
    Trap {
        name: "4 GiB of nothing that is asked who mounts /var and /boot",
        set: |scene| {
            scene.edits.push(Edit::Sparse(scene.of("etc/fstab"), 4 << 30));
            scene.edits.push(Edit::Sparse(scene.of("usr/lib64/libostree-1.so.1"), 4 << 30));
            scene.edits.push(Edit::Sparse(on_disk("ostree/repo/config"), 4 << 30));
        },
        ends: Prepared,
    },
    Trap {
        name: "the boot link speaks to the console",
        set: |scene| scene.boot_link(LOUD),
        ends: Refused(7, &["follow ostree=/ostree/boot.", r"\n<0>FORGED\x1b[2J", "points at nothing"]),
    },
    Trap {
        name: "the deployment's name speaks to the console",
        set: |scene| {
            let deployment = format!("../../../deploy/{LOUD}/deploy/{LOUD}.0");
            scene.boot_link(&deployment);
            scene.edits.push(Edit::Directory(on_disk(&format!("ostree/deploy/{LOUD}/deploy/{LOUD}.0/etc"))));
        },
        ends: Refused(8, &[r"prepare \n<0>FORGED\x1b[2J", "/usr of the deployment is missing"]),
    },
    Trap {
        name: "what is asked for speaks to the console",
        set: |scene| scene.cmdline = format!("ostree=\"/ostree/boot.1/{LOUD}/x/0\""),
        ends: Refused(7, &[r"follow ostree=/ostree/boot.1/\n<0>FORGED\x1b[2J", "there is no such link"]),
    },
    Trap {
        name: "names and texts that a refusal lists speak to the console",
        set: |scene| {
            let deployment = format!("ostree/deploy/{LOUD}/deploy/{}.0", "a".repeat(64));
            scene.edits.push(Edit::Directory(on_disk(&format!("{deployment}/usr"))));
            let text = format!("VERSION_ID=\"{LOUD}\"\nPRETTY_NAME=\"{LOUD}\"\n");
            scene.edits.push(file(&on_disk(&format!("{deployment}/usr/lib/os-release")), &text));
            scene.edits.push(Edit::Link(on_disk(&format!("ostree/boot.1/{LOUD}/{LOUD}/0")), LOUD.into()));
            let entry = format!("title {LOUD}\nversion 1{LOUD}\noptions ostree=/{LOUD}\n");
            scene.edits.push(file(&on_disk(&format!("boot/loader/entries/{LOUD}.conf")), &entry));
            scene.boot_link("gone");
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.", "points at nothing"]),
    },
    Trap {
        name: "a mount point hides the deployments",
        set: |scene| scene.edits.push(Edit::Tmpfs(on_disk("ostree/deploy"))),
        ends: Refused(7, &["follow ostree=/ostree/boot.", "points at nothing"]),
    },
    Trap {
        name: "the deployment is a mount point",
        set: |scene| scene.edits.push(Edit::Tmpfs(scene.deployment.clone())),
        ends: Refused(8, &["prepare debian ", "of the deployment is missing"]),
    },
    Trap {
        name: "usr is a mount point",
        set: |scene| scene.edits.push(Edit::Tmpfs(scene.of("usr"))),
        ends: Prepared,
    },
];

/// A million, if all is to be tested: making them takes ten seconds and 200 MB.
fn many() -> u32 {
    if everything() { 1_000_000 } else { 100_000 }
}

/// Not needed in more than one setting.
const CROWDS: &[Trap] = &[
    Trap {
        name: "a directory of very many boot links",
        set: |scene| {
            let folder = on_disk("ostree/boot.0/debian/c0ffee");
            scene.edits.push(Edit::Links(folder, many(), "../../../deploy/debian/deploy/gone.0".into()));
            scene.cmdline = "ostree=/ostree/boot.0/debian/c0ffee/none".into();
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.0/debian/c0ffee/none", "there is no such link"]),
    },
    Trap {
        name: "very many deployments",
        set: |scene| {
            let folder = on_disk("ostree/deploy/many/deploy");
            scene.edits.push(Edit::Links(folder, many(), "/outside".into()));
            scene.boot_link("gone");
        },
        ends: Refused(7, &["follow ostree=/ostree/boot.", "points at nothing"]),
    },
];

pub fn hostile() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (number, setting) in Setting::without_mounting().enumerate() {
        let crowds = if number == 0 { CROWDS } else { &[] };
        for trap in TRAPS.iter().chain(crowds) {
            let name = format!("hostile: {}: {}", trap.name, setting.name());
            trials.push(trial(name, move || trap.check(setting)));
        }
    }
    trials
}

impl Trap {
    fn check(&self, setting: Setting) -> Result<()> {
        let disk = disk()?;
        let mut scene = Scene {
            link: on_disk(disk.boot_links[0].trim_start_matches('/')),
            deployment: on_disk(&disk.deployments[0]),
            cmdline: cmdline()?,
            edits: outside(),
        };
        (self.set)(&mut scene);
        let mut sandbox = setting.sandbox(copy()?)?;
        sandbox.kernel_log = std::fs::File::options().read(true).write(true).open("/dev/kmsg").is_ok();
        sandbox.edits = scene.edits;
        sandbox.runs.push(Run::of([PRODUCT, SYSROOT, &scene.cmdline].map(str::to_owned).to_vec()));
        let outcome = job::run(sandbox)?;
        let ran = &outcome.runs[0];
        silent(ran)?;
        if ran.time > PATIENCE {
            return Err(format!("it took {:?}", ran.time));
        }
        match self.ends {
            Prepared => {
                exited(ran, 0)?;
                replaced_only(setting.shared, &outcome, ran)
            }
            Refused(status, says) => {
                exited(ran, status)?;
                nothing_changed(&outcome.before, &ran.after)?;
                let complete = |line: &str| says.iter().all(|words| line.contains(words));
                let said = ran.stderr.lines().any(complete);
                if said { Ok(()) } else { Err(format!("no line says {says:?}:\n{}", ran.stderr)) }
            }
        }
    }
}

/// What a naive program would take for a deployment.
fn outside() -> Vec<Edit> {
    let folders = ["usr/etc", "etc", "var", "boot", "sysroot", "deploy"];
    folders.into_iter().map(|folder| Edit::Directory(format!("{OUTSIDE}/{folder}"))).collect()
}

/// No byte of the disk's reached a console or a log as it was.
fn silent(ran: &Ran) -> Result<()> {
    for text in [&ran.stdout, &ran.stderr] {
        if let Some(byte) = text.bytes().find(|byte| !(*byte == b'\n' || (b' '..=b'~').contains(byte))) {
            return Err(format!("the byte {byte:#x} was printed:\n{}", text.escape_debug()));
        }
    }
    let ours = |(_, line): &(u8, String)| {
        Some(line.strip_prefix("ostree-prepare-root[")?.split_once("]: ")?.1.to_owned())
    };
    let log: Vec<String> = ran.kernel_log.iter().filter_map(ours).collect();
    // The kernel shows what is not printable as \xNN, and a backslash as \x5c.
    let raw = log.iter().find(|line| line.contains(r"\x1b"));
    let said = ran.stdout.lines().chain(ran.stderr.lines()).chain(log.iter().map(String::as_str));
    let mut said = said.map(|line| line.trim_start_matches("ostree-prepare-root: "));
    let forged = said.find(|line| line.starts_with("<0>FORGED"));
    match raw.map(String::as_str).or(forged) {
        Some(line) => Err(format!("the disk spoke: {line}")),
        None => Ok(()),
    }
}
