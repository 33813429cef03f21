//! A disk with a signed image: its kernel has to have fs-verity.

use crate::disks;
use crate::support::failure::{Context, Result};
use crate::support::sandbox::Edit;
use crate::support::signed::{CONFIGURATION, KEYS, Signed, object};
use crate::support::sysroots::{Disk, Kind};
use crate::support::workloads::Workload;
use composefs_ioctls::fsverity::fs_ioc_enable_verity;
use std::fs::{self, File};

pub const WORKLOAD: Workload = Workload { name: "signed", text: CONFIGURATION, kind: Kind::PLAIN };

/// What composefs wants: SHA-256 over blocks of 4 KiB.
const SHA256: u8 = 1;
const BLOCK: u32 = 4096;

/// The disk, and the key for its signature; or what the kernel says.
pub fn disk() -> Result<(Disk, Vec<Edit>)> {
    let signed = Signed::get()?;
    let disk = disks::writable(Kind::PLAIN, "signed", "64M", &["-O", "verity"])?;
    let commitmeta = disk.mounted.join(object(&signed.checksum, "commitmeta"));
    fs::write(&commitmeta, &signed.commitmeta).context("write the signature")?;
    let deployment = disk.deployments.first().context("find the deployment")?;
    let image = disk.mounted.join(deployment).join(".ostree.cfs");
    let file = File::open(&image).context("open the image")?;
    fs_ioc_enable_verity(&file, SHA256, BLOCK).context("seal the image with fs-verity")?;
    Ok((disk, vec![Edit::File(KEYS.into(), signed.keys[0].clone().into_bytes())]))
}
