//! What the running kernel can do and shows, found out by trying it.
//!
//! In a mount namespace of one's own, as [`trials`](super::trials) makes it.

use super::failure::{Context, Result};
use super::mounts::Mounts;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::path::Path;
use std::sync::OnceLock;

/// Whether an overlay can check the fs-verity digests of its files: Linux 6.6.
pub fn checks_digests() -> Result<bool> {
    static CHECKS: OnceLock<Result<bool>> = OnceLock::new();
    let ask = || Ok(overlay("metacopy=on,redirect_dir=on,verity=require,")?.is_some());
    CHECKS.get_or_init(ask).clone()
}

/// The options that the kernel shows of its own accord for an overlay without an upper layer, each
/// after a comma.
pub fn overlay_defaults() -> Result<&'static str> {
    static SHOWN: OnceLock<Result<String>> = OnceLock::new();
    let ask = || {
        let shown = overlay("")?.context("mount an overlay without an upper layer")?;
        let rest = shown.split(',').filter(|option| *option != "ro" && !option.starts_with("lowerdir"));
        Ok(rest.map(|option| format!(",{option}")).collect())
    };
    SHOWN.get_or_init(ask).as_deref().map_err(Clone::clone)
}

/// Whether a mount can be put beneath another: Linux 6.5.
pub fn mounts_beneath() -> Result<bool> {
    static BENEATH: OnceLock<Result<bool>> = OnceLock::new();
    let ask = || {
        let place = tempfile::tempdir().context("make a mount point")?;
        let place = place.path();
        mount(None::<&str>, place, Some("tmpfs"), MsFlags::empty(), None::<&str>).context("mount a tmpfs")?;
        let answer = put_beneath(place);
        // Both of them, if there are two.
        while umount2(place, MntFlags::MNT_DETACH).is_ok() {}
        match answer {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::INVAL) => Ok(false),
            Err(error) => Err(format!("put a mount beneath another: {error}")),
        }
    };
    BENEATH.get_or_init(ask).clone()
}

/// Whether the program makes and places the new root in the newest way, with the fewest calls.
pub fn has_newest_way() -> Result<bool> {
    // The last that it needs are mounts in mounts that nobody sees yet: Linux 6.15.
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Err(format!("this is no kernel release: {release}"));
    };
    Ok((major, minor) >= (6, 15) && mounts_beneath()?)
}

fn put_beneath(place: &Path) -> rustix::io::Result<()> {
    let top = openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let copy = open_tree(CWD, place, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_BENEATH;
    move_mount(&copy, "", &top, "", flags)
}

/// The options that an overlay without an upper layer is shown with; `None` if the kernel does not
/// know what it is asked for.
fn overlay(options: &str) -> Result<Option<String>> {
    let place = tempfile::tempdir().context("make a mount point")?;
    let place = place.path();
    // Any two directories.
    let options = format!("{options}lowerdir=/usr:/dev");
    match mount(Some("overlay"), place, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())) {
        Err(Errno::EINVAL) => return Ok(None),
        result => result.context(format!("mount an overlay with {options}"))?,
    }
    let rows = Mounts::read("/proc/self/mountinfo")?.below(&place.to_string_lossy());
    umount2(place, MntFlags::MNT_DETACH).context("unmount an overlay")?;
    Ok(Some(rows.into_iter().next().context("find the overlay")?.super_options))
}
