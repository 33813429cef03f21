//! The composefs image of a deployment: opened and, if that is demanded, proved to be the one that
//! a signed commit names.
//!
//! The chain: a public key in the initramfs, an Ed25519 signature over the bytes of the commit, the
//! digest of the image in the commit, the digest the kernel measures of the open image (fs-verity: it
//! checks every block of it from then on), and in the image the digests of all files.

use crate::commit::{Commit, hex};
use crate::config::{Composefs, Config, Enabled};
use crate::deployment::Deployment;
use crate::error::{Class, Error, Result, describe, printable};
use crate::lookup::{self, RegularFile};
use crate::name::Name;
use crate::signature::{self, PublicKeys, Refusal};
use crate::syscall;
use crate::sysroot::Sysroot;
use alloc::ffi::CString;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// The image, in the deployment.
const PATH: &[u8] = b".ostree.cfs";

/// The most bytes that a commit may have. Those of bootc carry the description of a container image.
const COMMIT_LIMIT: usize = 16 << 20;

const BROKEN: &str = "choose another boot entry and deploy this one again";
const SIGN: &str = "choose another boot entry; sign the commit (ostree sign) and deploy it again";
const KEY: &str = "choose another boot entry; is the right key in the initramfs?";
const DIGEST: &str =
    "choose another boot entry; commit with --generate-composefs-metadata, sign, and deploy it again";
const SEAL: &str =
    "choose another boot entry; set [ex-integrity] fsverity=true in ostree/repo/config and deploy again";
const VERITY: &str = "turn it on (tune2fs -O verity DEVICE), then deploy again";

/// An open image.
#[derive(Debug)]
pub struct Image {
    file: RegularFile,
    /// Files in it have access control lists.
    pub has_acls: bool,
}

impl Image {
    /// Opens the image of the deployment; `None` if the configuration asks for none, or has nothing
    /// against there being none.
    ///
    /// # Errors
    /// [`Class::Incomplete`] when there is no image, or something else in its place;
    /// [`Class::Verification`] when it is not proved to be the signed one; [`Class::Config`] for
    /// unusable keys.
    pub fn open(config: &Config, sysroot: &Sysroot, deployment: &Deployment) -> Result<Option<Image>> {
        let Composefs { enabled, verity, signed } = config.composefs;
        let name = &deployment.facts.name;
        let operation = || format!("open the composefs image .ostree.cfs of {name}");
        let incomplete = |found: String| Error::found(Class::Incomplete, operation(), found).hint(BROKEN);
        if enabled == Enabled::Off {
            return Ok(None);
        }
        let digest = if signed { Some(signed_digest(&config.keypath, sysroot, name)?) } else { None };
        let file = match RegularFile::open_beneath(deployment.handle(), PATH) {
            Ok(file) => file,
            Err(Errno::NOENT) if enabled == Enabled::Maybe => {
                log::info!("{name} has no composefs image: mounting its directory");
                return Ok(None);
            }
            Err(Errno::NOENT) => {
                let found = "there is none, and the configuration demands composefs";
                return Err(Error::found(Class::Incomplete, operation(), found).hint(
                    "deploy it again with an ostree that writes images, or set [composefs] enabled to maybe",
                ));
            }
            Err(errno) => return Err(incomplete(describe(errno))),
        };
        if let Some(digest) = digest {
            compare(file.as_fd(), &digest, name)?;
            log::info!("the composefs image of {name} is the signed one");
        } else if verity {
            warn_without_verity(file.as_fd(), sysroot);
        }
        let mut start = Vec::with_capacity(START);
        lookup::read_at(&file, &mut start, 0).map_err(|errno| incomplete(describe(errno)))?;
        let has_acls = inspect(&start, file.size).map_err(incomplete)?;
        Ok(Some(Image { file, has_acls }))
    }

    /// The open file.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The digest of the image in a commit that is proved to be signed.
fn signed_digest(keypath: &str, sysroot: &Sysroot, name: &Name) -> Result<[u8; 32]> {
    let keys = read_keys(keypath, sysroot)?;
    let (checksum, commit, commitmeta) = signed_commit(sysroot, name)?;
    let operation = format!("verify the commit {checksum}");
    let refuse = |found: String, hint| Error::found(Class::Verification, &*operation, found).hint(hint);
    let shown = printable(keypath.as_bytes());
    let verified = signature::verify(&commit, &commitmeta, &keys).map_err(|refusal| match refusal {
        Refusal::Unsigned => refuse(refusal.to_string(), SIGN),
        Refusal::Untrusted { .. } => refuse(format!("{refusal} in {shown}"), KEY),
    })?;
    if verified.malformed > 0 {
        log::warn!("malformed signatures of the commit {checksum}: {}, passed over", verified.malformed);
    }
    log::info!("the commit stored as {checksum} is signed by the key at line {} of {shown}", verified.line);
    Commit::parse(&commit)
        .and_then(|commit| commit.composefs_digest())
        .ok_or_else(|| refuse("it has no composefs digest (ostree.composefs.digest.v0)".into(), DIGEST))
}

fn read_keys(keypath: &str, sysroot: &Sysroot) -> Result<PublicKeys> {
    let shown = printable(keypath.as_bytes());
    let refuse = |class, found: String| {
        Error::found(class, format!("read the public keys {shown}"), found)
            .hint("put the key there on the installed system and rebuild the initramfs")
    };
    let fail = |errno| refuse(Class::Verification, describe(errno));
    let path = CString::new(keypath).unwrap_or_default();
    let Some(file) = lookup::if_there(lookup::open(&path)).map_err(fail)? else {
        return Err(refuse(Class::Verification, "there is no such key file in the initramfs".into()));
    };
    // Whoever can write to the disk must not bring the key as well.
    let place = lookup::canonical_path(file.as_fd()).map_err(fail)?;
    let device = rustix::fs::fstat(&file).map_err(fail)?.st_dev;
    if device == sysroot.identity.0 || lookup::below(&place, &sysroot.path).is_some() {
        return Err(refuse(Class::Config, "it is on the disk whose contents it is to vouch for".into()));
    }
    let file = RegularFile::of(file).map_err(fail)?;
    let bytes = file.contents(lookup::SIZE_LIMIT).map_err(fail)?;
    let (keys, problems) = PublicKeys::parse(&bytes);
    if keys.is_empty() {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let why = if problems.is_empty() { "it is empty".into() } else { problems.join(", ") };
        return Err(refuse(Class::Verification, format!("it has no usable Ed25519 public key: {why}")));
    }
    for problem in &problems {
        log::warn!("{shown}: {problem}: passed over");
    }
    Ok(keys)
}

/// The commit that must be signed: its checksum, its bytes, and what is kept beside it. A commit that
/// bootc made on this machine is not signed, but has the signed one as its parent
/// (<https://github.com/bootc-dev/bootc/pull/1600>).
fn signed_commit(sysroot: &Sysroot, name: &Name) -> Result<(String, Vec<u8>, Vec<u8>)> {
    let checksum = name.checksum().ok_or_else(|| {
        let found = format!("{name} is not called after a commit");
        Error::found(Class::Verification, "find the commit of the deployment", found).hint(BROKEN)
    })?;
    let commit = read_object(sysroot, &checksum, "commit")?.ok_or_else(|| missing(&checksum, NO_COMMIT))?;
    if let Some(commitmeta) = read_object(sysroot, &checksum, "commitmeta")? {
        return Ok((checksum, commit, commitmeta));
    }
    let base = Commit::parse(&commit).filter(Commit::is_container_import).and_then(|commit| commit.parent());
    let Some(base) = base else {
        return Err(missing(&checksum, NO_SIGNATURES));
    };
    drop(commit);
    let commit = read_object(sysroot, &base, "commit")?.ok_or_else(|| missing(&base, NO_COMMIT))?;
    let commitmeta =
        read_object(sysroot, &base, "commitmeta")?.ok_or_else(|| missing(&base, NO_SIGNATURES))?;
    log::info!("the commit {checksum} was made by bootc: verifying {base}, from which it was made");
    Ok((base, commit, commitmeta))
}

const NO_COMMIT: &str = "the repository does not have it";
const NO_SIGNATURES: &str = "there is no commitmeta, where signatures are: it was never signed";

fn missing(checksum: &str, found: &str) -> Error {
    let hint = if found == NO_SIGNATURES { SIGN } else { BROKEN };
    Error::found(Class::Verification, format!("verify the commit {checksum}"), found).hint(hint)
}

/// An object of the repository.
fn read_object(sysroot: &Sysroot, checksum: &str, kind: &str) -> Result<Option<Vec<u8>>> {
    let (directory, file) = checksum.split_at(2);
    let path = format!("ostree/repo/objects/{directory}/{file}.{kind}");
    let limit = if kind == "commit" { COMMIT_LIMIT } else { lookup::SIZE_LIMIT };
    lookup::read_beneath(sysroot.handle(), path.as_bytes(), limit).map_err(|errno| {
        Error::errno(Class::Verification, format!("read {sysroot}/{path}"), errno).hint(BROKEN)
    })
}

/// Whether the kernel measures this digest of the open file.
fn compare(file: BorrowedFd<'_>, expected: &[u8; 32], name: &Name) -> Result<()> {
    let (found, hint) = match syscall::measure_verity(file) {
        Ok(measured) if measured == *expected => return Ok(()),
        Ok(measured) => {
            let (measured, expected) = (hex(&measured), hex(expected));
            let found = format!(
                "the fs-verity digest of the image is {measured}, the signed commit names {expected}"
            );
            (found, BROKEN)
        }
        Err(errno @ Errno::NODATA) => {
            (format!("the image has no fs-verity digest: it was written without: {}", describe(errno)), SEAL)
        }
        Err(errno @ (Errno::NOTTY | Errno::OPNOTSUPP)) => (
            format!("its file system has no fs-verity, see mkfs.ext4 -O verity: {}", describe(errno)),
            VERITY,
        ),
        Err(errno) => (describe(errno), BROKEN),
    };
    Err(Error::found(Class::Verification, format!("verify the composefs image of {name}"), found).hint(hint))
}

/// libostree's `verity` mounts all the same, and no file can be read then.
fn warn_without_verity(file: BorrowedFd<'_>, sysroot: &Sysroot) {
    if let Err(errno @ (Errno::NOTTY | Errno::OPNOTSUPP)) = syscall::measure_verity(file) {
        log::warn!(
            "the file system at {sysroot} has no fs-verity, see mkfs.ext4 -O verity: reading files will fail with EIO: {}",
            describe(errno)
        );
    }
}

/// Bytes that [`inspect`] needs: composefs' header, and after 1024 bytes the superblock of EROFS.
pub const START: usize = 1024 + 128;

/// Whether an image that starts so has access control lists, or why it is no image. The kernel does
/// not compare the size with that of the file; what is cut off would be missed later.
pub fn inspect(start: &[u8], size: u64) -> core::result::Result<bool, String> {
    /// `LCFS_EROFS_MAGIC` in composefs' `lcfs-erofs.h`.
    const COMPOSEFS: u32 = 0xd078_629a;
    /// `EROFS_SUPER_MAGIC_V1` in the kernel's `magic.h`.
    const EROFS: u32 = 0xe0f5_e1e2;
    let number = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    if number(0) != Some(COMPOSEFS) || number(1024) != Some(EROFS) {
        return Err("it is not a composefs image".into());
    }
    // `struct erofs_super_block`: 12 the binary logarithm of the block size, 36 the number of blocks.
    let (Some(bits @ 9..=16), Some(blocks)) = (start.get(1024 + 12), number(1024 + 36)) else {
        return Err("it is not a composefs image: its block size is impossible".into());
    };
    let needed = u64::from(blocks) << bits;
    if size < needed {
        return Err(format!("it is cut off: {size} of {needed} bytes"));
    }
    // `struct lcfs_erofs_header_s`: 8 the flags.
    Ok(number(8).is_some_and(|flags| flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of an image of three blocks of 4096 bytes.
    fn start() -> Vec<u8> {
        let mut start = vec![0; START];
        start[..4].copy_from_slice(&0xd078_629a_u32.to_le_bytes());
        start[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        start[1024 + 12] = 12;
        start[1024 + 36] = 3;
        start
    }

    #[test]
    fn an_image_is_whole_or_refused() {
        assert_eq!(inspect(&start(), 3 << 12), Ok(false));
        assert_eq!(inspect(&start(), (3 << 12) - 1), Err("it is cut off: 12287 of 12288 bytes".into()));
        for length in 0..1024 + 40 {
            assert!(inspect(&start()[..length], 3 << 12).is_err(), "{length}");
        }
        let with_acls = [&start()[..8], &[1], &start()[9..]].concat();
        assert_eq!(inspect(&with_acls, 3 << 12), Ok(true));
        let mut strange = start();
        strange[1024 + 12] = 255;
        assert!(inspect(&strange, u64::MAX).is_err());
    }
}
