//! What a commit object says of itself.
//!
//! A commit is a GVariant `(a{sv}aya(say)sstayay)`: metadata, parent, related objects, subject, body,
//! time, and the checksums of its tree. It is content-addressed, and the signatures are over its
//! bytes; nothing here is to be believed before [`crate::signature::verify`] has accepted them.

use crate::gvariant::{self, Member};
use alloc::string::String;

/// Bytes of a SHA-256 digest, which is what names objects and what fs-verity measures.
const DIGEST_LEN: usize = 32;

/// A commit object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The metadata, an `a{sv}`.
    pub metadata: &'a [u8],
    parent: &'a [u8],
    time: &'a [u8],
}

impl<'a> Commit<'a> {
    /// Finds the parts of a commit object; nothing if it has not the shape of one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let dictionary = Member { alignment: 8, size: None };
        let variable = Member { alignment: 1, size: None };
        let time = Member { alignment: 8, size: Some(8) };
        let types = [dictionary, variable, variable, variable, variable, time, variable, variable];
        let [metadata, parent, _, _, _, time, ..] = gvariant::tuple(bytes, types)?;
        Some(Commit { metadata, parent, time })
    }

    /// The fs-verity digest that the deployment's composefs image must have.
    pub fn composefs_digest(&self) -> Option<[u8; DIGEST_LEN]> {
        gvariant::lookup(self.metadata, "ostree.composefs.digest.v0", "ay")?.try_into().ok()
    }

    /// The checksum of the commit this one was made from, as objects are named on disk.
    pub fn parent(&self) -> Option<String> {
        (self.parent.len() == DIGEST_LEN).then(|| hex(self.parent))
    }

    /// When it was made: seconds since 1970. (OSTree stores its numbers as big-endian.)
    pub fn time(&self) -> u64 {
        self.time.try_into().map_or(0, u64::from_be_bytes)
    }

    /// Was it made by importing a container image? bootc makes such commits on the machine itself, so
    /// nobody signed them; their parent is the commit that came with the image.
    pub fn is_container_import(&self) -> bool {
        self.text("ostree.container.image-config").is_some()
    }

    /// The version its maker gave it.
    pub fn version(&self) -> Option<&'a str> {
        self.text("version")
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        gvariant::string(gvariant::lookup(self.metadata, key, "s")?)
    }
}

/// A digest in lower-case hexadecimal digits.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // GLib wrote these, for framing offsets of 1, 2 and 4 bytes: the first as it is here, the others
    // with 400 and 70,000 times the letter x in between.
    //
    //     GLib.Variant("(a{sv}aya(say)sstayay)", ({
    //         "ostree.composefs.digest.v0": GLib.Variant("ay", bytes(range(32))),
    //         # not in the first
    //         "filler": GLib.Variant("s", "x" * n),
    //         "version": GLib.Variant("s", "9.1"),
    //         "ostree.container.image-config": GLib.Variant("s", "{}")},
    //         bytes(range(32, 64)), [("r", b"R" * 32)], "subject", "", 1, b"c" * 32, b"m" * 32))
    //         # in the first: [], "", "", 1, b"c" * 32, b"m" * 32
    const SMALL: &[u8] = b"\
        ostree.composefs.digest.v0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
        \x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\0ay\x1bD !\"#$%&'()*+,-./0123456789\
        :;<=>?\0\0\0\x01\0\0\0\0\0\0\0ccccccccccccccccccccccccccccccccmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\x90gf\
        eeE";
    const HEAD: &[u8] = b"\
        ostree.composefs.digest.v0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
        \x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\0ay\x1b\0\0\0\0filler\0\0";
    const TAIL_400: &[u8] = b"\
        \0\0s\x07\0\0\0\0version\09.1\0\0s\x08\0ostree.container.image-config\0\0\0{}\0\0s\x1eD\0\xe5\x01\
        \xf7\x01\x1e\x02 !\"#$%&'()*+,-./0123456789:;<=>?r\0RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR\x02#subject\0\0\
        \0\0\0\0\0\x01\0\0\0\0\0\0\0ccccccccccccccccccccccccccccccccmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\xa0\x02\
        s\x02r\x02j\x02F\x02&\x02";
    const TAIL_70000: &[u8] = b"\
        \0\0s\x07\0\0\0\0version\09.1\0\0s\x08\0ostree.container.image-config\0\0\0{}\0\0s\x1eD\0\0\0\xc7\
        \x11\x01\0\xd7\x11\x01\0\xfe\x11\x01\0 !\"#$%&'()*+,-./0123456789:;<=>?r\0RRRRRRRRRRRRRRRRRRRRRRRRRR\
        RRRRRR\x02#subject\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0ccccccccccccccccccccccccccccccccmmmmmmmmmmmmmmmmmm\
        mmmmmmmmmmmmmm\x88\x12\x01\0[\x12\x01\0Z\x12\x01\0R\x12\x01\0.\x12\x01\0\x0e\x12\x01\0";

    fn long(length: usize, tail: &[u8]) -> Vec<u8> {
        [HEAD, &b"x".repeat(length), tail].concat()
    }

    #[test]
    fn reads_what_glib_writes() {
        let digest: [u8; 32] = std::array::from_fn(|index| index as u8);
        let parent = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
        for (bytes, imported) in
            [(SMALL.to_vec(), false), (long(400, TAIL_400), true), (long(70_000, TAIL_70000), true)]
        {
            let commit = Commit::parse(&bytes).unwrap();
            assert_eq!(commit.composefs_digest(), Some(digest), "{}", bytes.len());
            assert_eq!(commit.parent().as_deref(), Some(parent), "{}", bytes.len());
            // As GLib wrote it here: 1, little-endian.
            assert_eq!(commit.time(), 1 << 56, "{}", bytes.len());
            assert_eq!(commit.is_container_import(), imported, "{}", bytes.len());
            assert_eq!(commit.version(), imported.then_some("9.1"), "{}", bytes.len());
        }
    }

    #[test]
    fn no_part_of_a_commit_is_a_commit() {
        for length in 0..SMALL.len() {
            assert_eq!(Commit::parse(&SMALL[..length]), None, "{length}");
        }
    }

    #[test]
    fn digests_and_parents_have_32_bytes() {
        let mut commit = Commit::parse(SMALL).unwrap();
        commit.parent = &commit.parent[1..];
        assert_eq!(commit.parent(), None);
        for (length, good) in [(0, false), (31, false), (32, true), (33, false)] {
            let entry =
                [b"ostree.composefs.digest.v0\0\0\0\0\0\0", &vec![7; length][..], b"\0ay\x1b"].concat();
            let metadata = [&entry[..], &[entry.len() as u8]].concat();
            assert!(gvariant::lookup(&metadata, "ostree.composefs.digest.v0", "ay").is_some());
            let commit = Commit { metadata: &metadata, parent: b"", time: b"" };
            assert_eq!(commit.composefs_digest().is_some(), good, "{length}");
        }
    }
}
