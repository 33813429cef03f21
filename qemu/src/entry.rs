//! The boot entry OSTree wrote: what a boot loader would read.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// A Boot Loader Specification entry, with its paths made absolute on this host.
pub struct Entry {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The kernel command line.
    pub options: String,
}

impl Entry {
    /// Reads the only entry below a copy of `/boot`.
    pub fn read(boot: &Path) -> Result<Self> {
        let dir = boot.join("loader/entries");
        let entries = fs::read_dir(&dir)
            .with_context(|| format!("list {}", dir.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        ensure!(entries.len() == 1, "{}: {} boot entries instead of one", dir.display(), entries.len());
        let text = fs::read_to_string(&entries[0])?;
        let value = |key| {
            let found = value_of(&text, key);
            found.with_context(|| format!("{} has no '{key}'", entries[0].display()))
        };
        // Paths in an entry are relative to the file system it is on; where that is the root file
        // system, OSTree still writes "/ostree/..." and the loader adds /boot.
        let file = |path: &str| {
            let path = path.trim_start_matches('/');
            boot.join(path.strip_prefix("boot/").unwrap_or(path))
        };
        Ok(Self {
            kernel: file(value("linux")?),
            initramfs: file(value("initrd")?),
            options: value("options")?.to_owned(),
        })
    }
}

fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        (name == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn keys_are_whole_words() {
        let text = "title Debian\nlinuxes no\nlinux  /ostree/debian-1/vmlinuz\noptions a=b c\n";
        assert_eq!(value_of(text, "linux"), Some("/ostree/debian-1/vmlinuz"));
        assert_eq!(value_of(text, "options"), Some("a=b c"));
        assert_eq!(value_of(text, "initrd"), None);
    }
}
