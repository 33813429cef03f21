//! Disks on which there is more.

use crate::support::debian;
use crate::support::failure::{Context, Result};
use crate::support::sandbox::tool;
use crate::support::sysroots::{Disk, Disks, Kind, STATEROOT};
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A disk with so many deployments in place of one, each with a boot link and an entry for boot loaders.
pub fn with_deployments(kind: Kind, count: usize) -> Result<Disk> {
    let disk = writable(kind, &format!("deployments-{count}"), "256M", &[])?;
    let (first, link) = disk.first()?;
    let ostree = disk.mounted.join("ostree");
    let entries = disk.mounted.join("boot/loader/entries");
    let entry = children(&entries)?.into_iter().next().context("find an entry for boot loaders")?;
    for number in 1..count {
        let checksum = format!("{number:064x}");
        let copy = ostree.join(format!("deploy/{STATEROOT}/deploy/{checksum}.0"));
        // Hard links, as `ostree` makes them.
        tool(Command::new("cp").arg("-al").arg(disk.mounted.join(first)).arg(&copy))?;
        let boot = disk.mounted.join(link.trim_start_matches('/'));
        let boot = boot.parent().and_then(Path::parent).context("find the boot links")?.join(&checksum);
        fs::create_dir(&boot).context("make a folder for a boot link")?;
        symlink(format!("../../../deploy/{STATEROOT}/deploy/{checksum}.0"), boot.join("0"))
            .context("make a boot link")?;
        fs::copy(&entry, entries.join(format!("ostree-{number}-{STATEROOT}.conf")))
            .context("copy an entry")?;
    }
    Ok(disk)
}

/// A disk with an image of so many files.
pub fn with_files(count: usize) -> Result<Disk> {
    let tools = debian::unpacked("composefs-forky", "forky", "composefs")?;
    let tool = |name: &str| {
        // Its libraries are not this machine's.
        let mut command = Command::new(loader(&tools)?);
        command.arg("--library-path").arg(tools.join(libraries()));
        command.arg(tools.join("usr/bin").join(name));
        Ok::<_, String>(command)
    };
    let disk = writable(Kind::PLAIN, &format!("files-{count}"), "1G", &[])?;
    let image = disk.mounted.join(disk.first()?.0).join(".ostree.cfs");
    let dump = tool("composefs-info")?.arg("dump").arg(&image).output().context("run composefs-info")?;
    let mut dump = String::from_utf8(dump.stdout).context("read what composefs-info wrote")?;
    let there = dump.lines().count();
    // PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST: composefs-dump(5).
    dump += "/usr/share/many 0 40755 2 0 0 0 0.0 - - -\n";
    for number in 0..count.saturating_sub(there) {
        let folder = number / 1000;
        if number % 1000 == 0 {
            let _ = writeln!(dump, "/usr/share/many/{folder} 0 40755 2 0 0 0 0.0 - - -");
        }
        let object = format!("{:02x}/{number:062x}.file", number % 256);
        let _ = writeln!(dump, "/usr/share/many/{folder}/{number} 100 100644 1 0 0 0 0.0 {object} - -");
    }
    fs::remove_file(&image).context("remove the image")?;
    let mut made = tool("mkcomposefs")?;
    let mut made = made
        .args(["--from-file", "-"])
        .arg(&image)
        .stdin(Stdio::piped())
        .spawn()
        .context("run mkcomposefs")?;
    made.stdin
        .take()
        .context("talk to mkcomposefs")?
        .write_all(dump.as_bytes())
        .context("talk to mkcomposefs")?;
    match made.wait().context("wait for mkcomposefs")?.success() {
        true => Ok(disk),
        false => Err(format!("mkcomposefs made no image of {count} files")),
    }
}

/// A copy on a larger file system, or a different one.
pub fn writable(kind: Kind, name: &str, size: &str, options: &[&str]) -> Result<Disk> {
    let original = Disks::get()?.disk(kind, false);
    let image = original.mounted.with_file_name(name);
    let mounted = image.with_extension("mounted");
    fs::create_dir(&mounted).context("make a mount point")?;
    let mut make = Command::new("mkfs.ext4");
    tool(
        make.args(["-q", "-F", "-N", "65536"])
            .args(options)
            .arg("-d")
            .args([&original.mounted, &image])
            .arg(size),
    )?;
    tool(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).args([&image, &mounted]))?;
    Ok(Disk { mounted, ..original.clone() })
}

impl Disk {
    /// The first deployment and its boot link.
    fn first(&self) -> Result<(&str, &str)> {
        let pair = self.deployments.first().zip(self.boot_links.first());
        pair.map(|(deployment, link)| (deployment.as_str(), link.as_str())).context("find the deployment")
    }
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).context(format!("list {}", folder.display()))?;
    entries.map(|entry| Ok(entry.context("list a folder")?.path())).collect()
}

fn libraries() -> String {
    format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)
}

fn loader(tools: &Path) -> Result<PathBuf> {
    let loaders = children(&tools.join(libraries()))?;
    let is_loader =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
    loaders.into_iter().find(is_loader).context("find the loader of the composefs tools")
}
