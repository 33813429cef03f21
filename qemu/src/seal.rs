//! Seals the files of a disk with fs-verity, in a guest whose only process does nothing else.
//!
//! The build host's kernel may lack fs-verity; Debian's kernels have it, and need no initramfs for a
//! disk on NVMe. See `bin/prepare-root-seal.rs` for the guest's side.

use crate::accel::Accel;
use crate::bare::Bare;
use crate::entry::Entry;
use crate::machine::Arch;
use crate::script;
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

/// What seals.
pub const PROGRAM: &str = "prepare-root-seal";

/// Its source, part of the key of a disk.
pub const SOURCE: &str = include_str!("bin/prepare-root-seal.rs");

/// What the guest says at its end.
pub const DONE: &str = "files are sealed";

/// Emulation seals a Debian in some 20 s.
const LIMIT: Duration = Duration::from_secs(300);

/// Seals what the disk's list names.
pub fn run(disk: &Path, boot: &Path, arch: Arch, accel: Accel, logs: &Path) -> Result<()> {
    let kernel = Entry::read(boot)?.kernel;
    let guest = Bare {
        arch,
        accel,
        processors: 1,
        kernel: &kernel,
        disk,
        keep: true,
        attached: &[],
        init: "/spare/seal",
        arguments: "",
        limit: arch.limit(LIMIT),
        logs,
        name: "seal",
    };
    ensure!(guest.run()?.contains(DONE), "sealing: {}", script::tail(&logs.join("seal.log"))?);
    Ok(())
}
