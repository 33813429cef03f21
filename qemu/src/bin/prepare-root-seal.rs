//! Seals files with fs-verity, as the init of a guest: a build host often cannot.
//!
//! The kernel mounts the disk itself and starts this program from it. It seals every file that
//! [`LIST`] names, says so on the console, and switches the guest off.

use composefs_ioctls::fsverity::{EnableVerityError, fs_ioc_enable_verity};
use rustix::mount::{MountFlags, mount_remount};
use rustix::system::{RebootCommand, reboot};
use std::fs::{self, File};
use std::path::Path;
use std::thread;

/// Paths, one per line, relative to the root of the disk.
const LIST: &str = "/spare/list";

/// What composefs wants: SHA-256 over blocks of 4 KiB.
const SHA256: u8 = 1;
const BLOCK: u32 = 4096;

/// Sealing a file waits for the disk several times; meanwhile others go on.
const THREADS: usize = 8;

fn main() {
    match seal_all().and_then(settle) {
        Ok(count) => println!("prepare-root-seal: {count} files are sealed"),
        Err(error) => println!("prepare-root-seal: FAILED: {error}"),
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("prepare-root-seal: switch off: {error}");
    }
}

fn seal_all() -> Result<usize, String> {
    let list = fs::read_to_string(LIST).map_err(|error| format!("read {LIST}: {error}"))?;
    let names: Vec<_> = list.lines().collect();
    let seal_every = |names: &[&str]| {
        names
            .iter()
            .try_for_each(|name| seal(&Path::new("/").join(name)).map_err(|error| format!("{name}: {error}")))
    };
    thread::scope(|scope| {
        let share = names.len().div_ceil(THREADS).max(1);
        let workers: Vec<_> =
            names.chunks(share).map(|names| scope.spawn(move || seal_every(names))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked")?)
    })?;
    Ok(names.len())
}

/// Leaves a file system that can be mounted read-only, without a journal to replay.
fn settle(count: usize) -> Result<usize, String> {
    mount_remount("/", MountFlags::RDONLY, c"").map_err(|error| format!("remount read-only: {error}"))?;
    Ok(count)
}

fn seal(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    match fs_ioc_enable_verity(&file, SHA256, BLOCK) {
        // One file, listed by two of its names.
        Err(EnableVerityError::AlreadyEnabled) | Ok(()) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
