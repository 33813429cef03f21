//! What is prepared: eight configurations that together need every kind of mount.

use crate::disturbance::Disturbance;
use crate::setting::*;
use crate::support::failure::{Context, Result};
use crate::support::kernel;
use crate::support::sandbox::{Edit, Ground, Run, SYSROOT, Sandbox};
use crate::support::signed::{self, KEYS, Signed, measured};
use crate::support::sysroots::{Disk, Disks, Kind};

/// Where strace writes, in the sandbox.
pub const TRACE: &str = "/tmp/trace";

/// One of them.
#[derive(Debug, PartialEq)]
pub struct Configuration {
    pub name: &'static str,
    /// The configuration file.
    text: &'static str,
    kind: Kind,
    /// A disk of our own: something is written to it.
    own: bool,
    /// The deployment's generator is told to do nothing: all is mounted here, and kept over a soft-reboot.
    marker: bool,
}

static ALL: [Configuration; 8] = [
    Configuration::of("bind", "", Kind { image: false, ..Kind::PLAIN }),
    Configuration::of("readonly", "[sysroot]\nreadonly=true\n", Kind::PLAIN),
    Configuration::of("composefs", "[composefs]\nenabled=yes\n", Kind::PLAIN),
    Configuration { own: true, ..Configuration::of("signed", signed::CONFIGURATION, Kind::PLAIN) },
    Configuration::of(
        "transient",
        "[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=16M\n\
         [etc]\ntransient=true\n[var]\ntransient=true\n",
        Kind::PLAIN,
    ),
    Configuration {
        own: true,
        ..Configuration::of("hotfix", "", Kind { image: false, hotfix: true, ..Kind::PLAIN })
    },
    Configuration { marker: true, ..Configuration::of("marker", "", Kind::PLAIN) },
    Configuration {
        own: true,
        ..Configuration::of(
            "everything",
            "[composefs]\nenabled=yes\n[sysroot]\nreadonly=true\n[etc]\ntransient=true\n\
             transient-size=16M\n[var]\nmount=true\n[boot]\nmount=true\n",
            Kind { hotfix: true, ..Kind::PLAIN },
        )
    },
];

impl Configuration {
    const fn of(name: &'static str, text: &'static str, kind: Kind) -> Configuration {
        Configuration { name, text, kind, own: false, marker: false }
    }

    fn is_signed(&self) -> bool {
        self.text == signed::CONFIGURATION
    }

    fn disk(&self) -> Result<&'static Disk> {
        Ok(Disks::get()?.disk(self.kind, false))
    }

    /// All of them with all ways and propagations. Before Linux 6.6 overlays check no digests.
    pub fn settings() -> impl Iterator<Item = (&'static Configuration, Setting)> {
        let pairs = ALL.iter().flat_map(|it| Setting::all().map(move |setting| (it, setting)));
        pairs.filter(|(it, setting)| !(it.is_signed() && setting.way.without.contains(&"data-only-layers")))
    }

    /// One of them.
    pub fn named(name: &str) -> Result<&'static Configuration> {
        ALL.iter().find(|it| it.name == name).context(name)
    }

    /// Why it cannot be disturbed on this machine, if it cannot.
    pub fn obstacle(&self) -> Result<Option<&'static str>> {
        if strace().is_none() {
            return Ok(Some("there is no strace"));
        }
        let lacks = self.is_signed() && !kernel::checks_digests()?;
        Ok(lacks.then_some("this kernel's overlays check no digests"))
    }

    /// The sandbox to prepare it in.
    pub fn sandbox(&self, setting: Setting) -> Result<Sandbox> {
        let mounted = self.disk()?.mounted.clone();
        let ground = match self.own {
            true => Ground::Copy(mounted),
            false => Ground::Disk { mounted, readonly: false, hardened: false },
        };
        let mut sandbox = setting.sandbox(ground)?;
        (sandbox.loop_devices, sandbox.host) = (true, true);
        sandbox.collect.push(TRACE.into());
        sandbox.edits.push(file(CONFIG, self.text));
        // The initramfs mounted something in the physical root, which must not get lost.
        sandbox.edits.push(Edit::Tmpfs(format!("{SYSROOT}/boot")));
        if setting.shared {
            // From an earlier boot stage, to be kept when we fail.
            sandbox.edits.push(file("/run/ostree-booted", "previous"));
        }
        if self.marker {
            sandbox.edits.push(file(MARKER, ""));
        }
        if self.is_signed() {
            let signed = Signed::get()?;
            let commitmeta = format!("{SYSROOT}/{}", signed::object(&signed.checksum, "commitmeta"));
            sandbox.edits.push(file(KEYS, &signed.keys[0]));
            sandbox.edits.push(Edit::File(commitmeta, signed.commitmeta.clone()));
        }
        Ok(sandbox)
    }

    /// A run that nothing disturbs.
    pub fn run(&self, setting: Setting) -> Result<Run> {
        if self.is_signed() { self.under_strace(setting, &[]) } else { Ok(Run::of(self.command(setting)?)) }
    }

    /// The same under strace, which writes every system call to [`TRACE`].
    pub fn traced(&self, setting: Setting) -> Result<Run> {
        self.under_strace(setting, &["-e", "trace=all"])
    }

    /// A run that is disturbed.
    pub fn disturbed(&self, setting: Setting, disturbance: &Disturbance) -> Result<Run> {
        let mut trace = format!("trace={}", disturbance.call.name);
        if self.is_signed() {
            // strace answers only what it looks at.
            trace += ",ioctl";
        }
        let inject = disturbance.expression();
        self.under_strace(setting, &["-e", &trace, "-e", &inject])
    }

    /// strace keeps one expression for a call: an `ioctl` to be disturbed is not also answered for a
    /// kernel without fs-verity.
    pub fn can_be_disturbed_at(&self, disturbance: &Disturbance) -> bool {
        !self.is_signed() || disturbance.call.name != "ioctl" || disturbance.call.number == 1
    }

    fn under_strace(&self, setting: Setting, options: &[&str]) -> Result<Run> {
        let mut command = strace().context("find strace")??;
        command.extend(["-f", "-qq", "-o", TRACE].map(str::to_owned));
        if self.is_signed() {
            command.extend(["-e".to_owned(), measured(Signed::get()?.digest)]);
        }
        command.extend(options.iter().map(ToString::to_string));
        command.extend(self.command(setting)?);
        Ok(Run::of(command))
    }

    fn command(&self, setting: Setting) -> Result<Vec<String>> {
        Ok(setting.way.command(&format!("quiet ostree={}", self.disk()?.boot_links[0])))
    }
}
