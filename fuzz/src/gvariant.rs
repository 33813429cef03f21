//! The reader must not panic, and must find in what is in normal form what another implementation finds.

use gvariant::aligned_bytes::copy_to_align;
use gvariant::{Marker, Structure, gv};
use prepare_root::commit::{Commit, hex};
use prepare_root::gvariant as ours;

/// One input.
pub fn run(bytes: &[u8]) {
    dictionary(bytes);
    arrays(bytes);
    commit(bytes);
    let _ = ours::string(bytes);
}

/// `a{sv}`
fn dictionary(bytes: &[u8]) {
    let aligned = copy_to_align(bytes);
    let theirs: Vec<_> = gv!("a{sv}").cast(aligned.as_ref()).iter().map(|entry| entry.to_tuple()).collect();
    // Normal form is what comes out again when it is written. Variants are written as they are.
    let normal = gv!("a{sv}").serialize_to_vec(&theirs) == bytes;
    let mut seen = Vec::new();
    for (key, value) in theirs {
        let (signature, value) = value.split();
        let (key, Ok(signature)) = (key.to_str(), std::str::from_utf8(signature)) else { continue };
        let found = ours::lookup(bytes, key, signature);
        if normal && !seen.contains(&key) {
            seen.push(key);
            // A variant without a NUL is `()` for them.
            assert!(found == Some(value) || (signature == "()" && value.is_empty()));
        }
        if let Some(value) = found {
            arrays(value);
        }
    }
    if normal {
        for key in ["a", "ostree.sign.ed25519"] {
            assert!(seen.contains(&key) || ours::lookup(bytes, key, "aay").is_none());
        }
    }
}

/// `aay`
fn arrays(bytes: &[u8]) {
    let theirs = gv!("aay").from_bytes(bytes);
    let ours: Vec<_> = ours::byte_arrays(bytes).collect();
    if gv!("aay").serialize_to_vec(&*theirs) == bytes {
        assert!(ours.iter().copied().eq(theirs.iter()));
    }
}

/// `(a{sv}aya(say)sstayay)`
fn commit(bytes: &[u8]) {
    let aligned = copy_to_align(bytes);
    let theirs = gv!("(a{sv}aya(say)sstayay)").cast(aligned.as_ref());
    let ours = Commit::parse(bytes);
    if let Some(commit) = ours {
        let _ = (commit.composefs_digest(), commit.parent(), commit.is_container_import(), commit.version());
        dictionary(commit.metadata);
    }
    let (metadata, parent, related, subject, body, time, tree, dirmeta) = theirs.to_tuple();
    let metadata: Vec<_> = metadata.iter().map(|entry| entry.to_tuple()).collect();
    let related: Vec<_> = related.iter().map(|entry| entry.to_tuple()).collect();
    let parts = (&metadata, parent, &related, subject, body, time, tree, dirmeta);
    if gv!("(a{sv}aya(say)sstayay)").serialize_to_vec(&parts) == bytes {
        let ours = ours.expect("a commit in normal form is a commit");
        assert_eq!(ours.metadata, gv!("a{sv}").serialize_to_vec(&metadata));
        assert_eq!(ours.parent(), (parent.len() == 32).then(|| hex(parent)));
    }
}
