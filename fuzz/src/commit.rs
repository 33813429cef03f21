//! Whatever is on the disk, only the one commit that was signed is accepted.
//!
//! The input is the length of the commit (two bytes, little-endian), the commit, and its detached metadata.

use prepare_root::commit::Commit;
use prepare_root::signature::{PublicKeys, verify};
use std::sync::LazyLock;

/// The only commit that was ever signed with the key.
const SIGNED: &[u8] = include_bytes!("../signed/commit");

static KEYS: LazyLock<PublicKeys> = LazyLock::new(|| {
    let (keys, problems) = PublicKeys::parse(include_bytes!("../signed/key"));
    assert_eq!((keys.len(), problems.len()), (1, 0));
    keys
});

/// One input.
pub fn run(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (commit, commitmeta) = rest.split_at(length);
    if let Some(commit) = Commit::parse(commit) {
        let _ = (commit.composefs_digest(), commit.parent(), commit.is_container_import(), commit.version());
    }
    match verify(commit, commitmeta, &KEYS) {
        Ok(_) => assert_eq!(commit, SIGNED),
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
