//! What a signature consists of, for the disk with one deployment; and the kernel's part in it, played
//! by strace: a test machine need not have fs-verity.

use super::failure::{Context, Result};
use super::signer::Signer;
use super::sysroots::{Disks, Kind};
use prepare_root::commit::Commit;
use std::sync::OnceLock;

/// Without the link to the device of the root: to look for that would be another ioctl. And without
/// reading a file of the root to see who mounts `/boot`: it has no digest.
pub const CONFIGURATION: &str =
    "[composefs]\nenabled=signed\n[systemd]\nvolatile-root=false\n[boot]\nmount=false\n";
/// Where the public keys are.
pub const KEYS: &str = "/etc/ostree/initramfs-root-binding.key";

/// The name under which the signed commit is kept for bootc's.
pub const BASE: &str = "abababababababababababababababababababababababababababababababab";

/// A signed commit.
pub struct Signed {
    /// Two public keys, each a line in base64.
    pub keys: [String; 2],
    /// Of the commit.
    pub checksum: String,
    /// The commit of the deployment.
    pub commit: Vec<u8>,
    /// The signature by the first key.
    pub commitmeta: Vec<u8>,
    /// The digest of the image in the commit.
    pub digest: [u8; 32],
    /// Signatures by the first key, by nobody and by the second key.
    pub littered: Vec<u8>,
    /// Another commit, signed by the first key, which names no digest; and its signature.
    pub undigested: [Vec<u8>; 2],
    /// Another commit, as bootc makes it on the machine, with [`BASE`] as its parent.
    pub imported: Vec<u8>,
}

impl Signed {
    /// Made when first asked for.
    pub fn get() -> Result<&'static Signed> {
        static SIGNED: OnceLock<Result<Signed>> = OnceLock::new();
        SIGNED.get_or_init(Signed::make).as_ref().map_err(Clone::clone)
    }

    fn make() -> Result<Signed> {
        let disk = Disks::get()?.disk(Kind::PLAIN, false);
        let name = disk.deployments[0].rsplit('/').next().context("name the deployment")?;
        let checksum = name.split('.').next().context("name the commit")?.to_owned();
        let commit =
            std::fs::read(disk.mounted.join(object(&checksum, "commit"))).context("read the commit")?;
        let digest = Commit::parse(&commit).and_then(|commit| commit.composefs_digest());
        let signer = Signer::new()?;
        let (first, second) = (signer.key("first")?, signer.key("second")?);
        let imported = signer.commit(&[("ostree.container.image-config", "'{}'")], Some(BASE))?;
        signer.import(&checksum, &commit)?;
        const PLACE: &str = "ostree.sign.ed25519";
        signer.sign(&checksum, "first", PLACE)?;
        let commitmeta = signer.object(&checksum, "commitmeta")?;
        signer.litter(&checksum, b"litter", PLACE)?;
        signer.sign(&checksum, "second", PLACE)?;
        let undigested = signer.commit(&[("version", "'1'")], None)?;
        signer.sign(&undigested, "first", PLACE)?;
        Ok(Signed {
            keys: [first, second].map(|key| key.line()),
            commitmeta,
            littered: signer.object(&checksum, "commitmeta")?,
            undigested: [signer.object(&undigested, "commit")?, signer.object(&undigested, "commitmeta")?],
            digest: digest.context("find the digest in the commit")?,
            imported: signer.object(&imported, "commit")?,
            checksum,
            commit,
        })
    }
}

/// Where an object is in the physical root.
pub fn object(checksum: &str, kind: &str) -> String {
    let (folder, name) = checksum.split_at(2);
    format!("ostree/repo/objects/{folder}/{name}.{kind}")
}

/// strace's expression for a kernel that measures the image and finds this digest: the first ioctl
/// is the one that asks. (`struct fsverity_digest` with SHA-256, 32 bytes.)
pub fn measured(digest: [u8; 32]) -> String {
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("inject=ioctl:retval=0:poke_exit=@arg3=01002000{digest}:when=1")
}
