//! The devices that are there, for a person at the console who wants to know why the root is none of them.

use super::argument::{By, ELSEWHERE};
use super::device::{Content, Device};
use super::partition_table::Table;
use super::superblock::Kind;
use crate::error::{describe, printable};
use alloc::string::String;
use alloc::vec::Vec;

/// The most lines: with the message above them, a screen.
const LINES: usize = 24;

/// The most columns of a label; a UUID has as many.
const TEXT: usize = 36;

/// The table, and what to do.
pub fn text(devices: &[Device], by: By) -> String {
    let mut lines = vec![advice(devices)];
    lines.extend(table(devices, by));
    lines.join("\n")
}

fn advice(devices: &[Device]) -> String {
    let disks = || devices.iter().filter(|device| device.is_disk());
    if disks().next().is_none() {
        return "the kernel has found no disk: the initramfs lacks the driver (virtio_blk, nvme, ahci and sd_mod, ...), \
                or the disk is not connected"
            .into();
    }
    let kind = |device: &Device| match &device.content {
        Some(Content::Superblock(found)) => Some(found.kind),
        _ => None,
    };
    if let Some((device, what)) = disks().find_map(|device| Some((device, kind(device)?.container()?))) {
        return format!("/dev/{} is {what}: if the root is in it, {ELSEWHERE}", printable(&device.name));
    }
    let mut roots = disks().filter(|device| kind(device).is_some_and(Kind::bootable));
    if let (Some(device), None) = (roots.next(), roots.next())
        && let Some(Content::Superblock(found)) = &device.content
    {
        let (name, uuid) = (printable(&device.name), printable(&found.uuid));
        return format!(
            "the only file system that could be the root is on /dev/{name}: boot with root=UUID={uuid}"
        );
    }
    "boot with root= of a device in the list; if the right one is not there, the initramfs lacks its driver"
        .into()
}

/// One line for each device, aligned, without the columns in which nothing is.
pub fn table(devices: &[Device], by: By) -> Vec<String> {
    let mut disks: Vec<&Device> = devices.iter().filter(|device| device.is_disk()).collect();
    let more = (disks.len() + 1).saturating_sub(LINES);
    if more > 0 {
        disks.truncate(LINES - 2);
    }
    let label = if by == By::PartLabel { "PARTLABEL" } else { "label" };
    let mut lines = vec![String::from(" "); disks.len() + 1];
    for (column, title) in ["name", "size", "kind", label, "UUID", "PARTUUID"].into_iter().enumerate() {
        let cells: Vec<String> = disks.iter().map(|device| cell(device, by, column)).collect();
        let width = cells.iter().map(String::len).max().unwrap_or(0);
        if width > 0 {
            let width = width.max(title.len());
            let cells = core::iter::once(title).chain(cells.iter().map(String::as_str));
            lines.iter_mut().zip(cells).for_each(|(line, cell)| *line += &format!(" {cell:width$} "));
        }
    }
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    if more > 0 {
        lines.push(format!("  ({} more)", more + 1));
    }
    if disks.is_empty() { Vec::new() } else { lines }
}

fn cell(device: &Device, by: By, column: usize) -> String {
    let superblock = match &device.content {
        Some(Content::Superblock(superblock)) => Some(superblock),
        _ => None,
    };
    let identity = device.identity.as_ref();
    let text = match column {
        0 => Some(&device.name),
        1 => return size(device.sectors),
        2 => return kind(device),
        3 if by == By::PartLabel => identity.map(|identity| &identity.label),
        3 => superblock.map(|superblock| &superblock.label),
        4 => superblock.map(|superblock| &superblock.uuid),
        _ => identity.map(|identity| &identity.uuid),
    };
    let mut text = text.map(|text| printable(text)).unwrap_or_default();
    if text.len() > TEXT {
        text.truncate(TEXT - 2);
        text += "..";
    }
    text
}

fn kind(device: &Device) -> String {
    let known = match &device.content {
        Some(Content::Superblock(found)) if found.damaged => {
            return format!("{}, damaged", found.kind.name());
        }
        Some(Content::Unreadable(errno)) => return describe(*errno),
        Some(Content::Superblock(found)) => found.kind.name(),
        Some(Content::Table(Table::Gpt(_))) => "GPT",
        Some(Content::Table(Table::Damaged)) => "GPT, damaged",
        Some(Content::Table(Table::Mbr(_))) => "MBR",
        Some(Content::Unknown) | None => "unknown",
    };
    known.into()
}

/// Four digits at most, so that no fraction is missed.
fn size(sectors: u64) -> String {
    let mut size = sectors / 2;
    let mut units = "KMGTPE".chars();
    while size >= 10_000 {
        size /= 1024;
        units.next();
    }
    format!("{size}{}", units.next().unwrap_or(' '))
}
