//! The boot entry OSTree wrote: what a boot loader would read.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A Boot Loader Specification entry, with its paths made absolute on this host.
pub struct Entry {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs, if the system has one.
    pub initramfs: Option<PathBuf>,
    /// The kernel command line.
    pub options: String,
}

impl Entry {
    /// Reads the newest entry below a copy of `/boot`.
    pub fn read(boot: &Path) -> Result<Self> {
        let dir = boot.join("loader/entries");
        let mut texts = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            texts.push(fs::read_to_string(entry?.path())?);
        }
        let text = newest(&texts).with_context(|| format!("{} has no boot entry", dir.display()))?;
        let value = |key| value_of(text, key).with_context(|| format!("the boot entry has no '{key}'"));
        // Paths in an entry are relative to the file system it is on; where that is the root file
        // system, OSTree still writes "/ostree/..." and the loader adds /boot.
        let file = |path: &str| {
            let path = path.trim_start_matches('/');
            boot.join(path.strip_prefix("boot/").unwrap_or(path))
        };
        Ok(Self {
            kernel: file(value("linux")?),
            initramfs: value_of(text, "initrd").map(file),
            options: value("options")?.to_owned(),
        })
    }
}

/// The entry that OSTree wants first: it numbers them upwards.
fn newest(texts: &[String]) -> Option<&String> {
    texts.iter().max_by_key(|text| value_of(text, "version").and_then(|number| number.parse::<u32>().ok()))
}

fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        (name == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::{newest, value_of};

    #[test]
    fn the_newest_has_the_highest_number() {
        let texts = ["version 9\n", "version 10\n", "title Debian\n"].map(str::to_owned);
        assert_eq!(newest(&texts), Some(&texts[1]));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn keys_are_whole_words() {
        let text = "title Debian\nlinuxes no\nlinux  /ostree/debian-1/vmlinuz\noptions a=b c\n";
        assert_eq!(value_of(text, "linux"), Some("/ostree/debian-1/vmlinuz"));
        assert_eq!(value_of(text, "options"), Some("a=b c"));
        assert_eq!(value_of(text, "initrd"), None);
    }
}
