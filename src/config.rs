//! Everything that was asked for, typed: `prepare-root.conf` and the kernel command line together.

mod settings;

use crate::boot_link::BootLink;
use crate::cmdline::{Cmdline, GeneratorReading, Target};
use crate::error::{Class, Error, Result, printable};
use crate::keyfile;
use crate::lookup::{self, RegularFile};
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use settings::Settings;

/// Where the configuration is read from, inside the initramfs. The first that exists is the only
/// one read.
pub const PATHS: [&CStr; 2] = [c"/etc/ostree/prepare-root.conf", c"/usr/lib/ostree/prepare-root.conf"];

const REBUILD: &str = "mend the file on the installed system and rebuild the initramfs";

/// What the configuration file and the kernel arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which deployment.
    pub target: Target,
    /// What the deployment's own generator will make of the kernel command line.
    pub generator: GeneratorReading,
    /// `[sysroot] readonly`: mount the physical root read-only, `/etc` and `/var` writable.
    pub sysroot_readonly: Option<bool>,
    /// `[root] transient` or `transient-ro`: changes to `/` last until reboot.
    pub root_transient: Option<Transient>,
    /// `[root] transient-ro`: but `/` is mounted read-only.
    pub root_transient_readonly: bool,
    /// `[etc] transient`: changes to `/etc` last until reboot.
    pub etc_transient: Option<Transient>,
    /// `[var] transient`: `/var` begins anew at every boot.
    pub var_transient: Option<Transient>,
    /// `[composefs] enabled`, or the kernel argument `ostree.prepare-root.composefs=`.
    pub composefs: Composefs,
    /// `[composefs] keypath`: the public keys, in the initramfs.
    pub keypath: String,
    /// `[var] mount`: who mounts `/var`.
    pub var: MountHere,
    /// `[boot] mount`: who mounts `/boot`.
    pub boot: MountHere,
    /// `[systemd] volatile-root`: tell systemd which device an overlay root is from.
    pub volatile_root: bool,
    /// `[systemd] remount-fs-dropin`: keep `systemd-remount-fs.service` from failing on an overlay
    /// root.
    pub remount_fs_dropin: bool,
    /// `[overrides] kernel-arguments`
    pub overrides: Overrides,
    /// `[recovery] boot-links`: what to do about a boot link that is missing.
    pub boot_links: BootLinks,
    /// `[recovery] fallback`: what to do when the deployment cannot be prepared.
    pub fallback: Fallback,
    /// The boot link of the boot entry, which tells the kernel that is running.
    pub booted: Option<BootLink>,
}

/// Where `ostree.prepare-root.break=` asks for a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Before the root is prepared.
    Before,
    /// After it was.
    After,
}

impl Break {
    /// Takes the value of the argument.
    pub fn parse(value: &[u8]) -> Option<Break> {
        match value {
            b"before" => Some(Break::Before),
            b"after" => Some(Break::After),
            _ => None,
        }
    }
}

/// What to do about a boot link that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLinks {
    /// Take the one under another boot version, if there is exactly one deployment.
    Repair,
    /// Refuse.
    Strict,
}

/// What to do when the deployment cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Refuse.
    None,
    /// Take another one of the stateroot that boots with the same kernel.
    SameKernel,
}

impl BootLinks {
    fn parse(value: &str) -> Option<BootLinks> {
        match value {
            "repair" => Some(BootLinks::Repair),
            "strict" => Some(BootLinks::Strict),
            _ => None,
        }
    }
}

impl Fallback {
    fn parse(value: &str) -> Option<Fallback> {
        match value {
            "none" => Some(Fallback::None),
            "same-kernel" => Some(Fallback::SameKernel),
            _ => None,
        }
    }
}

/// Where the configuration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// In the initramfs, as this program is.
    #[default]
    Initramfs,
    /// There is none: in the deployment that `ostree=` names.
    Deployment,
}

/// The configuration file, or that there is none.
#[derive(Debug)]
pub struct Source {
    /// Its path, or "the defaults".
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

impl Source {
    /// Reads the first of [`PATHS`] that exists.
    ///
    /// # Errors
    /// [`Class::Config`]
    pub fn read(origin: Origin, cmdline: &Cmdline) -> Result<Source> {
        let deployment = match origin {
            Origin::Initramfs => return Source::first(read_file),
            Origin::Deployment => Source::deployment(cmdline),
        };
        Source::first(|path| match &deployment {
            Some(deployment) => read_file_beneath(deployment.as_fd(), path),
            None => Ok(None),
        })
    }

    fn first(read: impl Fn(&CStr) -> Result<Option<Vec<u8>>>) -> Result<Source> {
        for path in PATHS {
            if let Some(bytes) = read(path)? {
                return Ok(Source { name: printable(path.to_bytes()), bytes });
            }
        }
        Ok(Source { name: "the defaults".into(), bytes: Vec::new() })
    }

    /// The directory of the deployment that `ostree=` names on the physical root that is our root directory. If it does
    /// not lead to one, the deployment that is taken instead has its own say ([`Config::of_deployment`]).
    fn deployment(cmdline: &Cmdline) -> Option<OwnedFd> {
        let link = cmdline.link(true).ok()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, c"/", flags, Mode::empty()).ok()?;
        lookup::open_beneath(root.as_fd(), link.path(), flags).ok()
    }
}

/// Storage in memory, empty at every boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transient {
    /// It is a file system of its own, of at most this size, as `tmpfs(5)` writes it.
    pub size: Option<String>,
}

/// Whether the root is a composefs image, and how it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Composefs {
    /// Whether to mount an image.
    pub enabled: Enabled,
    /// Every file must carry the fs-verity digest that the image has of it.
    pub verity: bool,
    /// The image must be the one that a signed commit names.
    pub signed: bool,
}

/// Whether to mount a composefs image. Later values demand more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enabled {
    /// No: bind mounts.
    Off,
    /// If the deployment has one.
    Maybe,
    /// Yes.
    On,
}

impl Composefs {
    /// Bind mounts.
    pub const OFF: Composefs = Composefs { enabled: Enabled::Off, verity: false, signed: false };

    /// Takes a value of `composefs.enabled`.
    fn parse(value: &str) -> Option<Composefs> {
        Some(match value {
            "no" | "false" | "0" => Composefs::OFF,
            "maybe" => Composefs { enabled: Enabled::Maybe, ..Composefs::OFF },
            "yes" | "true" | "1" => Composefs { enabled: Enabled::On, ..Composefs::OFF },
            "verity" => Composefs { enabled: Enabled::On, verity: true, ..Composefs::OFF },
            "signed" => Composefs { enabled: Enabled::On, verity: true, signed: true },
            _ => return None,
        })
    }

    /// Whether this demands all that `other` does.
    fn at_least(self, other: Composefs) -> bool {
        self.enabled >= other.enabled && self.verity >= other.verity && self.signed >= other.signed
    }

    /// `argument` in place of this. As with libostree it switches signatures off, but not fs-verity.
    fn overridden(self, argument: Composefs) -> Composefs {
        let verity = argument.verity || (self.verity && argument.enabled != Enabled::Off);
        Composefs { verity, ..argument }
    }
}

/// Who mounts `/var` or `/boot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountHere {
    /// We do, if nobody else will after the switch to the new root.
    Auto,
    /// We do.
    Yes,
    /// We do not.
    No,
}

impl MountHere {
    fn parse(value: &str) -> Option<MountHere> {
        match value {
            "auto" => Some(MountHere::Auto),
            _ => Some(if keyfile::boolean(value)? { MountHere::Yes } else { MountHere::No }),
        }
    }
}

/// What kernel arguments may change: whoever can edit the boot entry can give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrides {
    /// Everything.
    All,
    /// They can demand more than the configuration file, never less.
    Safe,
    /// Nothing: of all kernel arguments only `ostree=` is read.
    None,
}

impl Overrides {
    fn parse(value: &str) -> Option<Overrides> {
        match value {
            "all" => Some(Overrides::All),
            "safe" => Some(Overrides::Safe),
            "none" => Some(Overrides::None),
            _ => None,
        }
    }
}

impl Config {
    /// Reads the configuration file, if there is one, and combines it with the kernel command line.
    ///
    /// # Errors
    /// [`Class::Config`] for a file that cannot be read, has a malformed line or an unknown value, or
    /// contradicts itself; [`Class::Cmdline`] as [`Cmdline::link`], and for an unknown value of a
    /// kernel argument.
    pub fn read(origin: Origin, cmdline: &Cmdline) -> Result<Config> {
        Config::from_source(origin, cmdline, &Source::read(origin, cmdline)?)
    }

    /// Combines what was read with the kernel command line.
    ///
    /// # Errors
    /// As [`Config::read`]; [`Class::Unsupported`] for what only an initramfs can keep.
    pub fn from_source(origin: Origin, cmdline: &Cmdline, source: &Source) -> Result<Config> {
        let mut config = Config::parse(cmdline, &source.name, &source.bytes)?;
        if origin == Origin::Deployment {
            config.without_initramfs(&source.name)?;
        }
        Ok(config)
    }

    /// Without an initramfs: what the deployment's own configuration asks for, whichever way it was chosen.
    ///
    /// # Errors
    /// As [`Config::read`]
    pub fn of_deployment(
        origin: Origin,
        cmdline: &Cmdline,
        deployment: BorrowedFd<'_>,
    ) -> Result<Option<Config>> {
        if origin == Origin::Initramfs {
            return Ok(None);
        }
        let source = Source::first(|path| read_file_beneath(deployment, path))?;
        Config::from_source(origin, cmdline, &source).map(Some)
    }

    /// What is different without an initramfs.
    fn without_initramfs(&mut self, name: &str) -> Result<()> {
        if self.composefs.signed {
            let found = "without an initramfs the key, this configuration and this program come from the disk \
                         that is to be verified: whoever can change one can change all";
            return Err(Error::found(
                Class::Unsupported,
                format!("obey {name}: [composefs] enabled=signed"),
                found,
            )
            .hint("boot with an initramfs that has the key, and let the firmware verify that"));
        }
        // As libostree does here: there may be no systemd whose generator would.
        for place in [&mut self.var, &mut self.boot] {
            if *place == MountHere::Auto {
                *place = MountHere::Yes;
            }
        }
        Ok(())
    }

    /// What kernel arguments may change; everything if the file is malformed.
    pub fn overrides(source: &Source) -> Overrides {
        let none = Cmdline::new("");
        let settings = Settings::new(&none, &source.name, &source.bytes);
        settings.map_or(Overrides::All, |settings| settings.overrides)
    }

    /// Whether the kernel command line asks for a shell at that point, and may. Read apart from all other
    /// settings: the shell may be asked for because there is something wrong with those.
    ///
    /// # Errors
    /// [`Class::Config`]
    pub fn breaks_at(point: Break, cmdline: &Cmdline) -> Result<bool> {
        let source = Source::read(Origin::Initramfs, cmdline)?;
        Ok(Settings::new(cmdline, &source.name, &source.bytes)?.breaks().contains(&point))
    }

    /// Reads a configuration file only to see whether it can be used.
    ///
    /// # Errors
    /// [`Class::Config`]
    pub fn check(path: &[u8]) -> Result<()> {
        let name = printable(path);
        let missing = || Error::errno(Class::Config, format!("read {name}"), Errno::NOENT);
        let bytes = read_file(&CString::new(path).unwrap_or_default())?.ok_or_else(missing)?;
        let config = Config::parse(&Cmdline::new("ostree=/checked"), &name, &bytes)?;
        match (&config.root_transient, config.composefs.enabled) {
            (Some(_), Enabled::Off) => Err(config.transient_root_without_composefs()),
            _ => Ok(()),
        }
    }

    /// The error that the root is to be transient and is no image.
    pub fn transient_root_without_composefs(&self) -> Error {
        let key = if self.root_transient_readonly { "transient-ro" } else { "transient" };
        let composefs = match self.composefs.enabled {
            Enabled::Maybe => "[composefs] enabled=maybe finds no image in this deployment",
            _ => "[composefs] enabled is no",
        };
        let found = format!("[root] {key}=true needs composefs, and {composefs}");
        Error::found(Class::Config, "plan the new root", found).hint(
            "set [composefs] enabled=yes, or take the other setting away, and rebuild the initramfs; \
             ostree.prepare-root.composefs=1 does it for one boot",
        )
    }

    /// Combines the contents of the configuration file `path` with the kernel command line.
    pub fn parse(cmdline: &Cmdline, path: &str, bytes: &[u8]) -> Result<Config> {
        let settings = Settings::new(cmdline, path, bytes)?;
        settings.warn_of_the_unknown();
        let boolean = |group, key| settings.boolean(group, key, false);
        let transient = |group: &'static str, on| settings.transient(group, on);
        let root_transient = boolean("root", "transient")?.unwrap_or(false);
        let root_transient_readonly = boolean("root", "transient-ro")?.unwrap_or(false);
        if root_transient && root_transient_readonly {
            return Err(settings.contradiction("[root] transient=true", "[root] transient-ro=true"));
        }
        let var_transient = boolean("var", "transient")?.unwrap_or(false);
        let var = settings.mount_here("var")?;
        if var_transient && var == MountHere::No {
            return Err(settings.contradiction("[var] transient=true", "[var] mount=false"));
        }
        Ok(Config {
            target: match settings.deployment()? {
                Some(selector) => Target::Chosen(selector),
                None => Target::Link(cmdline.link(settings.overrides != Overrides::None)?),
            },
            generator: cmdline.generator_reading(),
            sysroot_readonly: settings.boolean("sysroot", "readonly", true)?,
            root_transient: transient("root", root_transient || root_transient_readonly)?,
            root_transient_readonly,
            etc_transient: transient("etc", boolean("etc", "transient")?.unwrap_or(false))?,
            var_transient: transient("var", var_transient)?,
            composefs: settings.composefs()?,
            keypath: settings.keypath()?,
            var,
            boot: settings.mount_here("boot")?,
            volatile_root: boolean("systemd", "volatile-root")?.unwrap_or(true),
            remount_fs_dropin: boolean("systemd", "remount-fs-dropin")?.unwrap_or(true),
            overrides: settings.overrides,
            boot_links: settings.boot_links()?,
            fallback: settings.fallback()?,
            booted: cmdline.booted(),
        })
    }
}

fn read_file(path: &CStr) -> Result<Option<Vec<u8>>> {
    let read = || {
        let file = lookup::if_there(lookup::open(path).and_then(RegularFile::of))?;
        let contents = file.as_ref().map(|file| file.contents(lookup::SIZE_LIMIT)).transpose();
        if let Some(file) = file {
            file.leave_open();
        }
        contents
    };
    read().map_err(|errno| unreadable(path, errno))
}

/// The same in a deployment's directory. What leads out of it is not read.
fn read_file_beneath(deployment: BorrowedFd<'_>, path: &CStr) -> Result<Option<Vec<u8>>> {
    let below = path.to_bytes().strip_prefix(b"/").unwrap_or(path.to_bytes());
    lookup::read_beneath(deployment, below, lookup::SIZE_LIMIT).map_err(|errno| unreadable(path, errno))
}

fn unreadable(path: &CStr, errno: Errno) -> Error {
    Error::errno(Class::Config, format!("read {}", printable(path.to_bytes())), errno)
        .hint("rebuild the initramfs with a readable file of at most 1 MiB, or without it")
}

#[cfg(test)]
mod tests;
