//! Files put over those of an initramfs: the kernel unpacks several archives one over the other.

use crate::recipe::File;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The kernel skips zeros between archives, and wants each to begin at a multiple of this.
const ALIGNMENT: usize = 4;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Writes `initramfs`, followed by an archive of `files`, to `extended`.
pub fn extend(initramfs: &Path, files: &[File], extended: &Path) -> Result<()> {
    let mut bytes = fs::read(initramfs).with_context(|| format!("read {}", initramfs.display()))?;
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    bytes.extend(archive(files));
    fs::write(extended, bytes).with_context(|| format!("write {}", extended.display()))
}

/// A cpio archive in the "newc" format, uncompressed, of files that can be run.
fn archive(files: &[File]) -> Vec<u8> {
    let mut archive = Vec::new();
    let parents: BTreeSet<_> =
        files.iter().flat_map(|(path, _)| Path::new(path).ancestors().skip(1)).collect();
    for parent in parents {
        let name = parent.to_string_lossy();
        if !name.is_empty() {
            entry(&mut archive, &name, DIRECTORY, "");
        }
    }
    for (path, text) in files {
        entry(&mut archive, path, EXECUTABLE, text);
    }
    entry(&mut archive, "TRAILER!!!", 0, "");
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, text: &str) {
    // Number of the file, mode, owner, group, links, time, size, four device numbers, length of the
    // name with its NUL, checksum.
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
    let fields = [0, mode, 0, 0, 1, 0, length(text), 0, 0, 0, 0, length(name) + 1, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(ALIGNMENT), 0);
    archive.extend(text.bytes());
    archive.resize(archive.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, archive};

    #[test]
    fn every_part_is_aligned() {
        let archive = archive(&[("a/b", "12345")]);
        assert_eq!(archive.len() % ALIGNMENT, 0);
        let text = String::from_utf8_lossy(&archive);
        let starts: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % ALIGNMENT == 0));
        // A directory comes before what is in it.
        assert!(text.find("a\0") < text.find("a/b\0"));
        assert!(text.find("12345").is_some_and(|at| at % ALIGNMENT == 0));
    }
}
