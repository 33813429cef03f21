//! One value at a time: from the file or, as far as that is allowed, from the kernel command line.

use super::{BootLinks, Break, Composefs, Fallback, MountHere, Overrides, REBUILD, Transient};
use crate::cmdline::Cmdline;
use crate::error::{Class, Error, Result, printable};
use crate::keyfile::{self, KeyFile};
use crate::selector::{self, Selector};
use crate::spelling;
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Where the public keys are, unless the configuration says otherwise.
pub const KEYS: &str = "/etc/ostree/initramfs-root-binding.key";

/// The configuration file and, as far as they are allowed, the kernel arguments that override it:
/// `ostree.prepare-root.GROUP.KEY=VALUE`.
pub struct Settings<'a> {
    path: &'a str,
    file: KeyFile<'a>,
    cmdline: &'a Cmdline,
    /// What arguments may change, as the file says.
    pub overrides: Overrides,
}

const BOOLEANS: &str = "true, false, 1, 0";
const COMPOSEFS: &str = "no, maybe, yes, verity, signed, true, false, 1, 0";

impl<'a> Settings<'a> {
    /// Takes the contents of the file `path`, and the kernel command line.
    ///
    /// # Errors
    /// [`Class::Config`] for a file that is malformed, or has an unknown value for what arguments may
    /// change.
    pub fn new(cmdline: &'a Cmdline, path: &'a str, bytes: &'a [u8]) -> Result<Settings<'a>> {
        let file = KeyFile::parse(bytes).map_err(|malformed| {
            Error::found(Class::Config, format!("parse {path}"), malformed.to_string()).hint(REBUILD)
        })?;
        let mut settings = Settings { path, file, cmdline, overrides: Overrides::All };
        // Never from the command line, which this is about.
        let overrides =
            settings.in_file("overrides", "kernel-arguments", Overrides::parse, "all, safe, none")?;
        settings.overrides = overrides.unwrap_or(Overrides::All);
        Ok(settings)
    }

    /// What is misspelt would otherwise be ignored in silence.
    pub fn warn_of_the_unknown(&self) {
        warn_of_unknown_keys(self.path, &self.file);
        if self.overrides != Overrides::None {
            warn_of_unknown_arguments(self.cmdline);
        }
    }

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
            let once = match self.overrides {
                Overrides::All => format!("; for one boot, ostree.prepare-root.{group}.{key}= replaces it"),
                Overrides::Safe | Overrides::None => String::new(),
            };
            Error::found(Class::Config, format!("parse {}", self.path), found)
                .hint(REBUILD.to_owned() + &once)
        })
    }

    /// The value of the kernel argument `ostree.prepare-root.NAME=`.
    fn in_arguments<T>(&self, name: &str, parse: fn(&str) -> Option<T>, known: &str) -> Result<Option<T>> {
        if self.overrides == Overrides::None {
            return Ok(None);
        }
        let name = format!("ostree.prepare-root.{name}");
        let Some(value) = self.cmdline.value(&name) else { return Ok(None) };
        if let Some(value) = core::str::from_utf8(value).ok().and_then(parse) {
            return Ok(Some(value));
        }
        let found = format!("{name}={} is none of {known}", printable(value));
        if self.overrides == Overrides::Safe {
            log::warn!("{found}: ignored");
            return Ok(None);
        }
        Err(Error::found(Class::Cmdline, "read the kernel command line", found)
            .hint("boot without this argument, or with one of these values"))
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
        let argument = self.in_arguments(&format!("{group}.{key}"), parse, known)?;
        let file = match self.in_file(group, key, parse, known) {
            // What is wrong in the file can be put right from the boot prompt.
            Err(error) if argument.is_some() && self.overrides == Overrides::All => {
                log::warn!("{}: the kernel argument replaces it", error.summary());
                None
            }
            file => file?,
        };
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
            self.warn_ignored(&format!("for [{group}] {key}"));
        }
        allowed
    }

    fn warn_ignored(&self, which: &str) {
        log::warn!(
            "the kernel argument {which} is ignored: {} says [overrides] kernel-arguments=safe",
            self.path
        );
    }

    /// The deployment that is chosen by an argument, which is never the safer choice.
    pub fn deployment(&self) -> Result<Option<Selector>> {
        if self.overrides == Overrides::Safe && self.cmdline.value("ostree.prepare-root.deployment").is_some()
        {
            self.warn_ignored("ostree.prepare-root.deployment=");
            return Ok(None);
        }
        self.in_arguments("deployment", Selector::parse, selector::FORMS)
    }

    /// Where a shell is asked for.
    pub fn breaks(&self) -> Vec<Break> {
        let name = "ostree.prepare-root.break";
        // People type it alone, like rd.break.
        let named = self.cmdline.ours().filter(|(n, _)| *n == name.as_bytes());
        let mut values = named.map(|(_, value)| value.unwrap_or(b"before")).peekable();
        if self.overrides != Overrides::All {
            if values.peek().is_some() && self.overrides == Overrides::Safe {
                self.warn_ignored(&format!("{name}="));
            }
            return Vec::new();
        }
        let parse = |value: &[u8]| {
            let point = Break::parse(value);
            if point.is_none() {
                log::warn!("{name}={} is neither before nor after: ignored", printable(value));
            }
            point
        };
        values.filter_map(parse).collect()
    }

    /// What to do about a boot link that is missing.
    pub fn boot_links(&self) -> Result<BootLinks> {
        let strictest = |value: &BootLinks| *value == BootLinks::Strict;
        let value = self.value("recovery", "boot-links", BootLinks::parse, "repair, strict", strictest)?;
        Ok(value.unwrap_or(BootLinks::Repair))
    }

    /// What to do when the deployment cannot be prepared.
    pub fn fallback(&self) -> Result<Fallback> {
        let strictest = |value: &Fallback| *value == Fallback::None;
        let value = self.value("recovery", "fallback", Fallback::parse, "none, same-kernel", strictest)?;
        Ok(value.unwrap_or(Fallback::None))
    }

    /// A boolean. `true_demands_more`: else neither value does.
    pub fn boolean(&self, group: &str, key: &str, true_demands_more: bool) -> Result<Option<bool>> {
        let strongest: fn(&bool) -> bool = if true_demands_more { |value| *value } else { |_| false };
        self.value(group, key, keyfile::boolean, BOOLEANS, strongest)
    }

    /// Who mounts `/var` or `/boot`.
    pub fn mount_here(&self, group: &str) -> Result<MountHere> {
        let value = self.value(group, "mount", MountHere::parse, "auto, true, false", |_| false)?;
        Ok(value.unwrap_or(MountHere::Auto))
    }

    /// What is transient, if it is; then its size.
    pub fn transient(&self, group: &str, on: bool) -> Result<Option<Transient>> {
        let known = "512M, 1G, 25% and the like";
        let size = self.value(group, "transient-size", tmpfs_size, known, |_| false)?;
        if size.is_some() && !on {
            log::warn!("{}: [{group}] transient-size has no effect without transient=true", self.path);
        }
        Ok(on.then_some(Transient { size }))
    }

    /// Whether the root is an image.
    pub fn composefs(&self) -> Result<Composefs> {
        // What is wrong in this line may have been a demand for signatures: no argument replaces it.
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

    /// Where the keys are. Not from the command line: whoever can choose the key need not break the signature.
    pub fn keypath(&self) -> Result<String> {
        let absolute = |value: &str| value.starts_with('/').then(|| value.to_owned());
        let value = self.in_file("composefs", "keypath", absolute, "the absolute paths in the initramfs")?;
        Ok(value.unwrap_or_else(|| KEYS.to_owned()))
    }

    /// An error: two settings that exclude each other.
    pub fn contradiction(&self, one: &str, other: &str) -> Error {
        Error::found(
            Class::Config,
            format!("obey {}", self.path),
            format!("{one} and {other} exclude each other"),
        )
        .hint(REBUILD)
    }
}

/// A size as `tmpfs(5)` has it, except 0, which would be no limit.
pub fn tmpfs_size(value: &str) -> Option<String> {
    let digits = value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(value);
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0');
    number.then(|| value.to_owned())
}

/// The sections and keys of the file.
pub const KNOWN: [(&str, &[&str]); 9] = [
    ("sysroot", &["readonly"]),
    ("root", &["transient", "transient-ro", "transient-size"]),
    ("etc", &["transient", "transient-size"]),
    ("var", &["mount", "transient", "transient-size"]),
    ("boot", &["mount"]),
    ("composefs", &["enabled", "keypath"]),
    ("systemd", &["volatile-root", "remount-fs-dropin"]),
    ("recovery", &["boot-links", "fallback"]),
    ("overrides", &["kernel-arguments"]),
];

/// What an argument must not set: it would decide what arguments may do, or which signature is good.
const ONLY_IN_THE_FILE: [&str; 2] = ["overrides.kernel-arguments", "composefs.keypath"];

/// Arguments that are no keys of the file.
const ONLY_ARGUMENTS: [&str; 5] = ["composefs", "deployment", "break", "debug", "log"];

fn warn_of_unknown_keys(path: &str, file: &KeyFile<'_>) {
    for entry in file.entries() {
        let (group, key) = (printable(entry.group.as_bytes()), printable(entry.key.as_bytes()));
        let meant = |known: Option<&str>| known.map_or(String::new(), |known| format!("; is {known} meant?"));
        match KNOWN.iter().find(|(group, _)| *group == entry.group) {
            None => {
                let near = spelling::nearest(entry.group, KNOWN.iter().map(|(group, _)| *group));
                log::warn!("{path}: there is no section [{group}]: {key} is ignored{}", meant(near));
            }
            Some((_, keys)) if !keys.contains(&entry.key) => {
                let near = spelling::nearest(entry.key, keys.iter().copied());
                log::warn!("{path}: [{group}] has no key {key}: ignored{}", meant(near));
            }
            Some(_) => {}
        }
    }
}

fn warn_of_unknown_arguments(cmdline: &Cmdline) {
    let ours = |name: &[u8]| name.starts_with(b"ostree.prepare");
    for (name, value) in cmdline.ours().filter(|(name, _)| ours(name)) {
        let shown = printable(name);
        let Some(word) =
            name.strip_prefix(b"ostree.prepare-root.").and_then(|word| str::from_utf8(word).ok())
        else {
            log::warn!("the kernel argument {shown} is ignored: is ostree.prepare-root.NAME meant?");
            continue;
        };
        if ONLY_IN_THE_FILE.contains(&word) {
            log::warn!("the kernel argument {shown} is ignored: only the configuration file can set that");
            continue;
        }
        let keys =
            KNOWN.iter().flat_map(|(group, keys)| keys.iter().map(move |key| format!("{group}.{key}")));
        let known: Vec<String> = keys.chain(ONLY_ARGUMENTS.map(str::to_owned)).collect();
        if known.iter().any(|known| known == word) {
            let first = str::from_utf8(name).ok().and_then(|name| cmdline.value(name));
            if value.is_none() && !["break", "debug"].contains(&word) {
                log::warn!("the kernel argument {shown} needs a value: ignored");
            } else if value.is_some() && value != first && word != "break" {
                log::warn!(
                    "the kernel argument {shown} is given more than once: using the first ({}), ignoring {}",
                    printable(first.unwrap_or_default()),
                    printable(value.unwrap_or_default())
                );
            }
            continue;
        }
        match spelling::nearest(word, known.iter().map(String::as_str)) {
            Some(near) => {
                log::warn!("there is no kernel argument {shown}: is ostree.prepare-root.{near} meant?");
            }
            None => log::warn!("there is no kernel argument {shown}: ignored"),
        }
    }
}
