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

/// Where the public keys are, unless the configuration says otherwise.
const KEYS: &str = "/etc/ostree/initramfs-root-binding.key";

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
    /// contradicts itself; [`Class::Cmdline`] as [`Cmdline::target`], and for an unknown value of a
    /// kernel argument.
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
        let file = KeyFile::parse(bytes).map_err(|malformed| {
            Error::found(Class::Config, format!("parse {path}"), malformed.to_string()).hint(REBUILD)
        })?;
        warn_of_unknown_keys(path, &file);
        let mut settings = Settings { path, file, cmdline, overrides: Overrides::All };
        // Never from the command line, which this is about.
        let overrides =
            settings.in_file("overrides", "kernel-arguments", Overrides::parse, "all, safe, none")?;
        settings.overrides = overrides.unwrap_or(Overrides::All);

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
            target: cmdline.target(settings.overrides != Overrides::None)?,
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
        })
    }
}

fn read_file(path: &CStr) -> Result<Option<Vec<u8>>> {
    lookup::read(path).map_err(|errno| {
        Error::errno(Class::Config, format!("read {}", printable(path.to_bytes())), errno)
            .hint("rebuild the initramfs with a readable file of at most 1 MiB, or without it")
    })
}

/// The configuration file and, as far as they are allowed, the kernel arguments that override it:
/// `ostree.prepare-root.GROUP.KEY=VALUE`.
struct Settings<'a> {
    path: &'a str,
    file: KeyFile<'a>,
    cmdline: &'a Cmdline,
    overrides: Overrides,
}

const BOOLEANS: &str = "true, false, 1, 0";
const COMPOSEFS: &str = "no, maybe, yes, verity, signed, true, false, 1, 0";

impl Settings<'_> {
    /// The value in the file.
    fn in_file<T>(
        &self,
        group: &str,
        key: &str,
        parse: fn(&str) -> Option<T>,
        known: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.file.get(group, key).map(str::trim_end) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| {
            let found = format!("[{group}] {key}={} is none of {known}", printable(value.as_bytes()));
            Error::found(Class::Config, format!("parse {}", self.path), found).hint(REBUILD)
        })
    }

    /// The value of the kernel argument `ostree.prepare-root.NAME=`.
    fn in_arguments<T>(&self, name: &str, parse: fn(&str) -> Option<T>, known: &str) -> Result<Option<T>> {
        if self.overrides == Overrides::None {
            return Ok(None);
        }
        let name = format!("ostree.prepare-root.{name}");
        let Some(value) = self.cmdline.value(&name) else { return Ok(None) };
        std::str::from_utf8(value).ok().and_then(parse).map(Some).ok_or_else(|| {
            let found = format!("{name}={} is none of {known}", printable(value));
            Error::found(Class::Cmdline, "read the kernel command line", found)
                .hint("boot without this argument, or with one of these values")
        })
    }

    /// The value that counts. `strongest`: whether no value in the file could demand more than this.
    fn value<T: PartialEq>(
        &self,
        group: &str,
        key: &str,
        parse: fn(&str) -> Option<T>,
        known: &str,
        strongest: fn(&T) -> bool,
    ) -> Result<Option<T>> {
        let file = self.in_file(group, key, parse, known)?;
        let argument = self.in_arguments(&format!("{group}.{key}"), parse, known)?;
        Ok(match argument {
            Some(value) if self.allows(strongest(&value) || file.as_ref() == Some(&value), group, key) => {
                Some(value)
            }
            _ => file,
        })
    }

    /// Whether an argument may take effect, which is `safe` or not.
    fn allows(&self, safe: bool, group: &str, key: &str) -> bool {
        let allowed = safe || self.overrides == Overrides::All;
        if !allowed {
            log::warn!(
                "the kernel argument for [{group}] {key} is ignored: {} says [overrides] kernel-arguments=safe",
                self.path
            );
        }
        allowed
    }

    /// `true_demands_more`: else neither value does.
    fn boolean(&self, group: &str, key: &str, true_demands_more: bool) -> Result<Option<bool>> {
        let strongest: fn(&bool) -> bool = if true_demands_more { |value| *value } else { |_| false };
        self.value(group, key, keyfile::boolean, BOOLEANS, strongest)
    }

    fn mount_here(&self, group: &str) -> Result<MountHere> {
        let value = self.value(group, "mount", MountHere::parse, "auto, true, false", |_| false)?;
        Ok(value.unwrap_or(MountHere::Auto))
    }

    fn transient(&self, group: &str, on: bool) -> Result<Option<Transient>> {
        let known = "512M, 1G, 25% and the like";
        let size = self.value(group, "transient-size", tmpfs_size, known, |_| false)?;
        if size.is_some() && !on {
            log::warn!("{}: [{group}] transient-size has no effect without transient=true", self.path);
        }
        Ok(on.then_some(Transient { size }))
    }

    fn composefs(&self) -> Result<Composefs> {
        let file =
            self.in_file("composefs", "enabled", Composefs::parse, COMPOSEFS)?.unwrap_or(Composefs::OFF);
        // libostree's name for it, then the one that follows the rule.
        let argument = match self.in_arguments("composefs", Composefs::parse, COMPOSEFS)? {
            None => self.in_arguments("composefs.enabled", Composefs::parse, COMPOSEFS)?,
            argument => argument,
        };
        Ok(match argument {
            Some(argument) if self.allows(argument.at_least(file), "composefs", "enabled") => {
                file.overridden(argument)
            }
            _ => file,
        })
    }

    /// Not from the command line: whoever can choose the key need not break the signature.
    fn keypath(&self) -> Result<String> {
        let absolute = |value: &str| value.starts_with('/').then(|| value.to_owned());
        let value = self.in_file("composefs", "keypath", absolute, "the absolute paths in the initramfs")?;
        Ok(value.unwrap_or_else(|| KEYS.to_owned()))
    }

    fn contradiction(&self, one: &str, other: &str) -> Error {
        Error::found(
            Class::Config,
            format!("obey {}", self.path),
            format!("{one} and {other} exclude each other"),
        )
        .hint(REBUILD)
    }
}

/// A size as `tmpfs(5)` has it, except 0, which would be no limit.
fn tmpfs_size(value: &str) -> Option<String> {
    let digits = value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(value);
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0');
    number.then(|| value.to_owned())
}

/// What is misspelt would otherwise be ignored in silence.
fn warn_of_unknown_keys(path: &str, file: &KeyFile<'_>) {
    const KNOWN: [(&str, &[&str]); 8] = [
        ("sysroot", &["readonly"]),
        ("root", &["transient", "transient-ro", "transient-size"]),
        ("etc", &["transient", "transient-size"]),
        ("var", &["mount", "transient", "transient-size"]),
        ("boot", &["mount"]),
        ("composefs", &["enabled", "keypath"]),
        ("systemd", &["volatile-root", "remount-fs-dropin"]),
        ("overrides", &["kernel-arguments"]),
    ];
    for entry in file.entries() {
        let (group, key) = (printable(entry.group.as_bytes()), printable(entry.key.as_bytes()));
        match KNOWN.iter().find(|(group, _)| *group == entry.group) {
            None => log::warn!("{path}: there is no section [{group}]: {key} is ignored"),
            Some((_, keys)) if !keys.contains(&entry.key) => {
                log::warn!("{path}: [{group}] has no key {key}: ignored");
            }
            Some(_) => {}
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
        assert_eq!(config.composefs, Composefs::OFF);
        assert_eq!((config.root_transient, config.etc_transient, config.var_transient), (None, None, None));
        assert_eq!((config.var, config.boot), (MountHere::Auto, MountHere::Auto));
        assert_eq!(config.keypath, "/etc/ostree/initramfs-root-binding.key");
        assert_eq!(
            (config.volatile_root, config.remount_fs_dropin, config.overrides),
            (true, true, Overrides::All)
        );
    }

    const SIGNED: Composefs = Composefs { enabled: Enabled::On, verity: true, signed: true };

    #[test]
    fn every_key() {
        let config = parse(
            "[sysroot]\nreadonly=0\n[etc]\ntransient=1\ntransient-size=10%\n[root]\ntransient-ro=true\n\
             [composefs]\nenabled=signed\nkeypath=/k\n[var]\ntransient=true\nmount=true\n[boot]\nmount=false\n\
             [systemd]\nvolatile-root=false\nremount-fs-dropin=0\n[overrides]\nkernel-arguments=safe\n",
            "",
        )
        .unwrap();
        assert_eq!(config.sysroot_readonly, Some(false));
        assert_eq!(config.etc_transient, Some(Transient { size: Some("10%".into()) }));
        assert_eq!(
            (config.root_transient, config.root_transient_readonly),
            (Some(Transient::default()), true)
        );
        assert_eq!(config.var_transient, Some(Transient { size: None }));
        assert_eq!((config.composefs, &*config.keypath), (SIGNED, "/k"));
        assert_eq!((config.var, config.boot), (MountHere::Yes, MountHere::No));
        assert_eq!(
            (config.volatile_root, config.remount_fs_dropin, config.overrides),
            (false, false, Overrides::Safe)
        );
    }

    #[test]
    fn the_kernel_argument_overrides_the_file() {
        let composefs = |file, arguments| parse(file, arguments).map(|config| config.composefs);
        let signed = "[composefs]\nenabled=signed\n";
        assert_eq!(composefs(signed, "ostree.prepare-root.composefs=0"), Ok(Composefs::OFF));
        // libostree's: signatures are switched off, fs-verity is not.
        let verity = Composefs { signed: false, ..SIGNED };
        assert_eq!(composefs(signed, "ostree.prepare-root.composefs=1"), Ok(verity));
        assert_eq!(composefs("", "ostree.prepare-root.composefs=verity"), Ok(verity));
        assert_eq!(composefs("", "ostree.prepare-root.composefs.enabled=signed"), Ok(SIGNED));
        let error = composefs("", "ostree.prepare-root.composefs=perhaps").expect_err("accepted");
        assert_eq!(error.class(), Class::Cmdline);
        let config = parse(
            "[sysroot]\nreadonly=1\n",
            "ostree.prepare-root.sysroot.readonly=0 ostree.prepare-root.etc.transient=1 ostree.prepare-root.composefs.keypath=/k \
             ostree.prepare-root.overrides.kernel-arguments=none",
        )
        .unwrap();
        assert_eq!(
            (config.sysroot_readonly, config.etc_transient),
            (Some(false), Some(Transient::default()))
        );
        assert_eq!((&*config.keypath, config.overrides), (KEYS, Overrides::All));
    }

    #[test]
    fn safe_overrides_only_demand_more() {
        let parse = |file: &str, arguments: &str| {
            parse(&format!("{file}[overrides]\nkernel-arguments=safe\n"), arguments).unwrap()
        };
        for (file, argument, expected) in [
            ("signed", "0", "signed"),
            ("signed", "1", "signed"),
            ("signed", "verity", "signed"),
            ("verity", "maybe", "verity"),
            ("verity", "yes", "verity"),
            ("yes", "no", "yes"),
            ("maybe", "0", "maybe"),
            ("no", "maybe", "maybe"),
            ("maybe", "yes", "yes"),
            ("yes", "verity", "verity"),
            ("verity", "signed", "signed"),
        ] {
            let file = format!("[composefs]\nenabled={file}\n");
            let config = parse(&file, &format!("ostree.prepare-root.composefs={argument}"));
            assert_eq!(Some(config.composefs), Composefs::parse(expected), "{file}{argument}");
        }
        let readonly = |file, argument: &str| {
            parse(file, &format!("ostree.prepare-root.sysroot.readonly={argument}")).sysroot_readonly
        };
        assert_eq!(readonly("[sysroot]\nreadonly=true\n", "0"), Some(true));
        assert_eq!(readonly("", "0"), None);
        assert_eq!(readonly("[sysroot]\nreadonly=false\n", "1"), Some(true));
        for key in ["root.transient", "root.transient-ro", "etc.transient", "var.transient"] {
            let config = parse("", &format!("ostree.prepare-root.{key}=1"));
            assert_eq!(
                (config.root_transient, config.etc_transient, config.var_transient),
                (None, None, None)
            );
            let (group, key) = key.split_once('.').unwrap();
            let config =
                parse(&format!("[{group}]\n{key}=1\n"), &format!("ostree.prepare-root.{group}.{key}=0"));
            let kept = [config.root_transient, config.etc_transient, config.var_transient];
            assert_eq!(kept.iter().flatten().count(), 1, "{group}.{key}");
        }
    }

    #[test]
    fn without_overrides_only_ostree_is_read() {
        let none = "[overrides]\nkernel-arguments=none\n";
        let config = parse(
            none,
            "androidboot.slot_suffix=_a ostree.prepare-root.composefs=signed ostree.prepare-root.sysroot.readonly=1",
        )
        .unwrap();
        assert_eq!(config.target, Target::BootLink(b"ostree/boot.0/d/c/0".to_vec()));
        assert_eq!((config.composefs, config.sysroot_readonly), (Composefs::OFF, None));
    }

    #[test]
    fn sizes_are_those_of_tmpfs() {
        assert!(["1", "512M", "10%", "2g", "007k"].iter().all(|size| tmpfs_size(size).is_some()));
        assert!(
            ["", "0", "00M", "%", "M", "1T", "-1", "1,mode=0777", "1 "]
                .iter()
                .all(|size| tmpfs_size(size).is_none())
        );
    }

    #[test]
    fn unknown_values_are_refused_by_name() {
        for (file, named) in [
            ("[sysroot]\nreadonly=yes\n", "[sysroot] readonly=yes"),
            ("[composefs]\nenabled=True\n", "[composefs] enabled=True"),
            ("[var]\nmount=maybe\n", "[var] mount=maybe"),
            ("[root]\ntransient=true\ntransient-ro=true\n", "transient-ro=true exclude"),
            ("[var]\ntransient=true\nmount=false\n", "[var] transient=true and [var] mount=false exclude"),
            ("[etc]\ntransient-size=lots\n", "[etc] transient-size=lots"),
            ("[composefs]\nkeypath=key\n", "[composefs] keypath=key"),
            ("[overrides]\nkernel-arguments=some\n", "[overrides] kernel-arguments=some"),
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
