//! Commits made by `ostree`, signed by OpenSSL, with the signatures put where `ostree sign` puts
//! them by libostree and GLib: nothing of what our program reads is written by our code.
//!
//! Debian's `ostree sign` knows neither Ed25519 nor SPKI (it is built without), but it does no more
//! than this: sign the bytes of the commit object, append to an array in the detached metadata.

use super::debian;
use super::failure::{Context, Result};
use ct_codecs::{Base64, Encoder};
use nix::mount::{MsFlags, mount};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SUITE: &str = "bookworm";
const PACKAGES: &str = "ostree,openssl,python3-gi,gir1.2-ostree-1.0";

/// Appends a signature to the detached metadata of a commit.
const APPEND: &str = r#"
import gi, sys
gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree

checksum, key, path = sys.argv[1:]
repository = OSTree.Repo.new(Gio.File.new_for_path("/tmp/repo"))
repository.open()
_, metadata = repository.read_commit_detached_metadata(checksum)
metadata = GLib.VariantDict.new(metadata)
signatures = metadata.lookup_value(key, GLib.VariantType("aay"))
signatures = signatures.unpack() if signatures else []
signatures.append(open(path, "rb").read())
metadata.insert_value(key, GLib.Variant("aay", signatures))
repository.write_commit_detached_metadata(checksum, metadata.end())
"#;

/// A Debian with a repository and keys in its `/tmp`.
pub struct Signer {
    root: PathBuf,
}

/// A public key in the forms that OpenSSL gives it.
pub struct Key {
    /// The 32 bytes.
    pub raw: Vec<u8>,
    /// The `SubjectPublicKeyInfo`.
    pub der: Vec<u8>,
    /// The same as text.
    pub pem: String,
}

impl Key {
    /// A line of a key file.
    pub fn line(&self) -> String {
        base64(&self.raw) + "\n"
    }
}

/// In base64.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2 + 4];
    Base64::encode_to_str(&mut text, bytes).unwrap_or_default().to_owned()
}

impl Signer {
    /// With an empty repository. Its `/tmp` goes with this process's mount namespace, which
    /// [`trials`](super::trials) made.
    pub fn new() -> Result<Signer> {
        let root = debian::unpacked(&format!("signer-{SUITE}"), SUITE, PACKAGES)?;
        let signer = Signer { root };
        for (kind, place) in [("tmpfs", "tmp"), ("proc", "proc")] {
            let place = signer.root.join(place);
            fs::create_dir_all(&place).context(format!("make {}", place.display()))?;
            mount(None::<&str>, &place, Some(kind), MsFlags::empty(), None::<&str>)
                .context(format!("mount {}", place.display()))?;
        }
        fs::create_dir_all(signer.file("tree/usr")).context("make a tree")?;
        // The mode that puts no attributes on files: before Linux 6.6 a tmpfs takes none of users.
        signer.run(&["ostree", "init", "--repo=/tmp/repo", "--mode=archive"])?;
        Ok(signer)
    }

    /// A new key pair.
    pub fn key(&self, name: &str) -> Result<Key> {
        let [secret, pem, der] = ["secret", "pem", "der"].map(|kind| format!("/tmp/{name}.{kind}"));
        self.run(&["openssl", "genpkey", "-algorithm", "ED25519", "-out", &secret])?;
        self.run(&["openssl", "pkey", "-in", &secret, "-pubout", "-out", &pem])?;
        self.run(&["openssl", "pkey", "-in", &secret, "-pubout", "-outform", "DER", "-out", &der])?;
        let der = self.read(&format!("{name}.der"))?;
        let raw = der.get(12..).context("find the key's bytes")?.to_vec();
        let pem = String::from_utf8(self.read(&format!("{name}.pem"))?).context("read the PEM")?;
        Ok(Key { raw, der, pem })
    }

    /// A new commit with this metadata, each a key and a value as GVariant text. The answer is its
    /// checksum.
    pub fn commit(&self, metadata: &[(&str, &str)], parent: Option<&str>) -> Result<String> {
        let metadata = metadata.iter().map(|(key, value)| format!("--add-metadata={key}={value}"));
        let parent = parent.map(|parent| format!("--parent={parent}"));
        let arguments: Vec<_> = metadata.chain(parent).collect();
        let mut command =
            vec!["ostree", "commit", "--repo=/tmp/repo", "--orphan", "--subject=a commit", "/tmp/tree"];
        command.extend(arguments.iter().map(String::as_str));
        Ok(self.run(&command)?.trim().to_owned())
    }

    /// Takes over a commit from another repository.
    pub fn import(&self, checksum: &str, commit: &[u8]) -> Result<()> {
        let file = self.file(&object(checksum, "commit"));
        fs::create_dir_all(file.parent().context("find the folder")?)
            .and_then(|()| fs::write(&file, commit))
            .context(format!("write {}", file.display()))
    }

    /// Signs a commit; `place` is the array for the signature in the detached metadata.
    pub fn sign(&self, checksum: &str, key: &str, place: &str) -> Result<()> {
        let commit = format!("/tmp/{}", object(checksum, "commit"));
        let secret = format!("/tmp/{key}.secret");
        let sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", &secret, "-in", &commit];
        self.run(&[&sign[..], &["-out", "/tmp/signature"]].concat())?;
        self.append(checksum, place)
    }

    /// Puts bytes where a signature belongs.
    pub fn litter(&self, checksum: &str, bytes: &[u8], place: &str) -> Result<()> {
        fs::write(self.file("signature"), bytes).context("write a signature")?;
        self.append(checksum, place)
    }

    /// Signs a commit with `ostree sign`, in the one way that Debian's knows.
    pub fn sign_dummy(&self, checksum: &str) -> Result<()> {
        self.run(&["ostree", "sign", "--repo=/tmp/repo", "--sign-type=dummy", checksum, "dummykey"]).map(drop)
    }

    /// The bytes of an object of the repository.
    pub fn object(&self, checksum: &str, kind: &str) -> Result<Vec<u8>> {
        self.read(&object(checksum, kind))
    }

    fn append(&self, checksum: &str, place: &str) -> Result<()> {
        self.run(&["python3", "-c", APPEND, checksum, place, "/tmp/signature"]).map(drop)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.file(name);
        fs::read(&file).context(format!("read {}", file.display()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join("tmp").join(name)
    }

    fn run(&self, command: &[&str]) -> Result<String> {
        let mut chroot = Command::new("chroot");
        chroot.arg(&self.root).args(command).env("LC_ALL", "C.UTF-8").env("OSTREE_DUMMY_SIGN_ENABLED", "1");
        let output = chroot.output().context(format!("run {chroot:?}"))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command:?}: {}: {}", output.status, message.trim_end()));
        }
        String::from_utf8(output.stdout).context("read what it says")
    }
}

fn object(checksum: &str, kind: &str) -> String {
    let (folder, name) = checksum.split_at_checked(2).unwrap_or_default();
    format!("repo/objects/{folder}/{name}.{kind}")
}
