//! Everything that was asked for, typed: `prepare-root.conf` and the kernel command line together.

use crate::cmdline::{Cmdline, GeneratorReading, Target};
use crate::error::{Class, Error, Result, printable};
use crate::keyfile::{self, KeyFile};
use crate::lookup;
use std::ffi::{CStr, CString};

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
    /// `[etc] transient`: changes to `/etc` last until reboot.
    pub etc_transient: bool,
    /// `[root] transient` and `transient-ro`.
    pub root: Root,
    /// `[composefs] enabled`, or the kernel argument `ostree.prepare-root.composefs=`.
    pub composefs: Composefs,
    /// `[var] mount`: who mounts `/var`.
    pub var: MountHere,
    /// `[boot] mount`: who mounts `/boot`.
    pub boot: MountHere,
}

/// Whether changes to `/` outside `/etc` and `/var` are possible and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Nothing transient.
    Persistent,
    /// Writable until reboot.
    Transient,
    /// Prepared like `Transient`, but mounted read-only.
    TransientReadOnly,
}

/// Whether the root is a composefs image, and how it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Composefs {
    /// No: bind mounts.
    Off,
    /// If the deployment has an image.
    Maybe,
    /// Yes.
    On,
    /// Yes, and every object must carry its fs-verity digest.
    Verity,
    /// As `Verity`, and the image must be signed.
    Signed,
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

impl Config {
    /// Reads the configuration file, if there is one, and combines it with the kernel command line.
    ///
    /// # Errors
    /// [`Class::Config`] for a file that cannot be read or has a malformed line or an unknown
    /// value; [`Class::Cmdline`] as [`Cmdline::target`], and for an unknown value of
    /// `ostree.prepare-root.composefs=`.
    pub fn read(cmdline: &Cmdline) -> Result<Config> {
        for path in PATHS {
            if let Some(bytes) = read_file(path)? {
                return Config::parse(cmdline, &printable(path.to_bytes()), &bytes);
            }
        }
        Config::parse(cmdline, "the defaults", b"")
    }

    /// Reads a configuration file only to see whether it can be used.
    ///
    /// # Errors
    /// [`Class::Config`]
    pub fn check(path: &[u8]) -> Result<()> {
        let name = printable(path);
        let missing = || Error::errno(Class::Config, format!("read {name}"), rustix::io::Errno::NOENT);
        let bytes = read_file(&CString::new(path).unwrap_or_default())?.ok_or_else(missing)?;
        Config::parse(&Cmdline::new("ostree=/checked"), &name, &bytes).map(|_| ())
    }

    /// Combines the contents of the configuration file `path` with the kernel command line.
    pub fn parse(cmdline: &Cmdline, path: &str, bytes: &[u8]) -> Result<Config> {
        let entries = KeyFile::parse(bytes).map_err(|malformed| {
            Error::found(Class::Config, format!("parse {path}"), malformed.to_string()).hint(REBUILD)
        })?;
        warn_of_unknown_keys(path, &entries);
        let file = File { path, entries };

        let root = match (file.boolean("root", "transient")?, file.boolean("root", "transient-ro")?) {
            (Some(true), Some(true)) => {
                return Err(Error::found(
                    Class::Config,
                    format!("obey {path}"),
                    "[root] transient=true and [root] transient-ro=true exclude each other",
                )
                .hint(REBUILD));
            }
            (Some(true), _) => Root::Transient,
            (_, Some(true)) => Root::TransientReadOnly,
            _ => Root::Persistent,
        };
        Ok(Config {
            target: cmdline.target()?,
            generator: cmdline.generator_reading(),
            sysroot_readonly: file.boolean("sysroot", "readonly")?,
            etc_transient: file.boolean("etc", "transient")?.unwrap_or(false),
            root,
            composefs: match composefs_argument(cmdline)? {
                Some(composefs) => composefs,
                None => file.composefs()?,
            },
            var: file.mount_here("var")?,
            boot: file.mount_here("boot")?,
        })
    }
}

fn read_file(path: &CStr) -> Result<Option<Vec<u8>>> {
    lookup::read(path).map_err(|errno| {
        Error::errno(Class::Config, format!("read {}", printable(path.to_bytes())), errno)
            .hint("rebuild the initramfs with a readable file of at most 1 MiB, or without it")
    })
}

/// The values that `composefs.enabled` and the kernel argument share.
fn composefs_switch(value: &str) -> Option<Composefs> {
    match value {
        "yes" | "true" | "1" => Some(Composefs::On),
        "no" | "false" | "0" => Some(Composefs::Off),
        "maybe" => Some(Composefs::Maybe),
        "verity" => Some(Composefs::Verity),
        "signed" => Some(Composefs::Signed),
        _ => None,
    }
}

fn composefs_argument(cmdline: &Cmdline) -> Result<Option<Composefs>> {
    let name = "ostree.prepare-root.composefs";
    let Some(value) = cmdline.value(name) else { return Ok(None) };
    let composefs = std::str::from_utf8(value).ok().and_then(composefs_switch);
    composefs.map(Some).ok_or_else(|| {
        Error::found(
            Class::Cmdline,
            "read the kernel command line",
            format!(
                "{name}={} is none of no, maybe, yes, verity, signed, true, false, 1, 0",
                printable(value)
            ),
        )
        .hint("boot without this argument, or with one of these values")
    })
}

struct File<'a> {
    path: &'a str,
    entries: KeyFile<'a>,
}

impl File<'_> {
    fn unknown(&self, group: &str, key: &str, value: &str, known: &str) -> Error {
        Error::found(
            Class::Config,
            format!("parse {}", self.path),
            format!("[{group}] {key}={} is none of {known}", printable(value.as_bytes())),
        )
        .hint(REBUILD)
    }

    fn boolean(&self, group: &str, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.entries.get(group, key) else { return Ok(None) };
        keyfile::boolean(value).map(Some).ok_or_else(|| self.unknown(group, key, value, "true, false, 1, 0"))
    }

    fn composefs(&self) -> Result<Composefs> {
        let Some(value) = self.entries.get("composefs", "enabled") else { return Ok(Composefs::Off) };
        composefs_switch(value.trim_end()).ok_or_else(|| {
            self.unknown("composefs", "enabled", value, "no, maybe, yes, verity, signed, true, false, 1, 0")
        })
    }

    fn mount_here(&self, group: &str) -> Result<MountHere> {
        match self.entries.get(group, "mount").map(str::trim_end) {
            None | Some("auto") => Ok(MountHere::Auto),
            Some("true" | "1") => Ok(MountHere::Yes),
            Some("false" | "0") => Ok(MountHere::No),
            Some(value) => Err(self.unknown(group, "mount", value, "auto, true, false")),
        }
    }
}

/// A misspelt key would otherwise be ignored in silence. Groups that are not ours belong to
/// somebody else.
fn warn_of_unknown_keys(path: &str, entries: &KeyFile<'_>) {
    const KNOWN: [(&str, &[&str]); 6] = [
        ("sysroot", &["readonly"]),
        ("etc", &["transient"]),
        ("root", &["transient", "transient-ro"]),
        ("composefs", &["enabled", "keypath"]),
        ("var", &["mount"]),
        ("boot", &["mount"]),
    ];
    for entry in entries.entries() {
        let keys = KNOWN.iter().find(|(group, _)| *group == entry.group).map(|(_, keys)| *keys);
        if keys.is_some_and(|keys| !keys.contains(&entry.key)) {
            log::warn!("{path}: [{}] has no key {}: ignored", entry.group, printable(entry.key.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, arguments: &str) -> Result<Config> {
        Config::parse(
            &Cmdline::new(format!("ostree=/ostree/boot.0/d/c/0 {arguments}")),
            "test.conf",
            file.as_bytes(),
        )
    }

    #[test]
    fn the_example_in_the_readme_is_a_configuration() {
        let readme = include_str!("../README.md");
        let after = readme.split_once("## Configure it").unwrap().1;
        let example = after.split_once("Kernel arguments:").unwrap().0;
        let example: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        let config = parse(&example.join("\n"), "").unwrap();
        assert_eq!(config.sysroot_readonly, Some(true));
    }

    #[test]
    fn defaults_are_libostree_s() {
        let config = parse("", "").unwrap();
        assert_eq!(config.sysroot_readonly, None);
        assert_eq!((config.root, config.composefs), (Root::Persistent, Composefs::Off));
        assert_eq!(
            (config.var, config.boot, config.etc_transient),
            (MountHere::Auto, MountHere::Auto, false)
        );
    }

    #[test]
    fn every_key() {
        let config = parse(
            "[sysroot]\nreadonly=0\n[etc]\ntransient=1\n[root]\ntransient-ro=true\n[composefs]\nenabled=signed\nkeypath=/k\n[var]\nmount=true\n[boot]\nmount=false\n",
            "",
        )
        .unwrap();
        assert_eq!(config.sysroot_readonly, Some(false));
        assert!(config.etc_transient);
        assert_eq!((config.root, config.composefs), (Root::TransientReadOnly, Composefs::Signed));
        assert_eq!((config.var, config.boot), (MountHere::Yes, MountHere::No));
    }

    #[test]
    fn the_kernel_argument_overrides_the_file() {
        let composefs = |file, arguments| parse(file, arguments).map(|config| config.composefs);
        let signed = "[composefs]\nenabled=signed\n";
        assert_eq!(composefs(signed, "ostree.prepare-root.composefs=0"), Ok(Composefs::Off));
        assert_eq!(composefs("", "ostree.prepare-root.composefs=maybe"), Ok(Composefs::Maybe));
        let error = composefs("", "ostree.prepare-root.composefs=perhaps").expect_err("accepted");
        assert_eq!(error.class(), Class::Cmdline);
    }

    #[test]
    fn unknown_values_are_refused_by_name() {
        for (file, named) in [
            ("[sysroot]\nreadonly=yes\n", "[sysroot] readonly=yes"),
            ("[composefs]\nenabled=True\n", "[composefs] enabled=True"),
            ("[var]\nmount=maybe\n", "[var] mount=maybe"),
            ("[root]\ntransient=true\ntransient-ro=true\n", "transient-ro=true exclude"),
            ("nonsense\n", "line 1"),
        ] {
            let error = parse(file, "").expect_err("accepted");
            assert_eq!(error.class(), Class::Config);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_configuration_that_is_to_be_checked_must_be_there() {
        assert_eq!(Config::check(b"/nowhere/prepare-root.conf").map_err(|e| e.class()), Err(Class::Config));
    }
}
