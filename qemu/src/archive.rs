//! The archives that an initramfs is: the kernel unpacks several, one over the other. Files put over those of an
//! initramfs, and how much one holds.

use crate::recipe::File;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File as Open};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

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

/// How an entry of an archive begins, and how long its header is.
const ENTRY: &[u8] = b"070701";
const HEADER: usize = 110;

/// How what zstd compressed begins.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The bytes of all archives in an initramfs, uncompressed: in the order that the kernel wants, those
/// that are not compressed come first.
pub fn unpacked(initramfs: &Path) -> Result<u64> {
    let bytes = fs::read(initramfs).with_context(|| format!("read {}", initramfs.display()))?;
    let plain = plain_length(&bytes).with_context(|| format!("read {}", initramfs.display()))?;
    let (length, rest) = (u64::try_from(plain)?, &bytes[plain..]);
    if rest.is_empty() {
        return Ok(length);
    }
    ensure!(rest.starts_with(&ZSTD), "{}: byte {plain} is not what zstd compressed", initramfs.display());
    let mut file = Open::open(initramfs).with_context(|| format!("open {}", initramfs.display()))?;
    file.seek(SeekFrom::Start(length))?;
    let mut command = Command::new("zstd");
    command.args(["--decompress", "--stdout", "--quiet"]).stdin(file).stdout(Stdio::piped());
    let mut child = command.spawn().context("run zstd")?;
    let mut output = child.stdout.take().context("zstd has no output")?;
    let inside = io::copy(&mut output, &mut io::sink()).context("read what zstd unpacks")?;
    let status = child.wait().context("wait for zstd")?;
    ensure!(status.success(), "zstd, unpacking {}: {status}", initramfs.display());
    Ok(length + inside)
}

/// How many bytes at the beginning are archives without compression, with the zeros between them.
fn plain_length(bytes: &[u8]) -> Result<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().take_while(|byte| **byte == 0).count();
        if !bytes[at..].starts_with(ENTRY) {
            return Ok(at);
        }
        // The seventh and the twelfth of thirteen fields of eight digits each.
        let field = |number: usize| {
            let digits = bytes.get(at + 6 + 8 * number..at + 14 + 8 * number);
            let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
            digits.and_then(|digits| usize::from_str_radix(digits, 16).ok())
        };
        let (Some(size), Some(name)) = (field(6), field(11)) else {
            anyhow::bail!("the archive's entry at byte {at} is damaged");
        };
        at = (at + HEADER + name).next_multiple_of(ALIGNMENT) + size.next_multiple_of(ALIGNMENT);
        ensure!(at <= bytes.len(), "an archive ends too early");
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, ZSTD, archive, plain_length};

    #[test]
    fn archives_are_counted_until_what_is_compressed() {
        let mut image = archive(&[("a/b", "12345")]);
        image.resize(image.len().next_multiple_of(512), 0);
        image.extend(archive(&[("c", "070701")]));
        image.resize(image.len() + 8, 0);
        let plain = image.len();
        assert_eq!(plain_length(&image).ok(), Some(plain));
        image.extend(ZSTD);
        assert_eq!(plain_length(&image).ok(), Some(plain));
        assert!(plain_length(&archive(&[("c", "12345678")])[..115]).is_err());
    }

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
