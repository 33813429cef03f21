//! Signed commits as OSTree's own tools make them, and damaged in every way that changes one byte;
//! and GVariants that another implementation wrote, or reads.

mod support;

use gvariant::{Marker, SerializeTo, Structure, Variant, VariantWrap, gv};
use libtest_mimic::Trial;
use prepare_root::booted::{self, Booted};
use prepare_root::commit::{Commit, hex};
use prepare_root::gvariant as ours;
use prepare_root::signature::{PublicKeys, Reason, Refusal, Verified, verify};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::OnceLock;
use support::failure::{Context, Result};
use support::signer::{Key, Signer, base64};
use support::trials;

const ED25519: &str = "ostree.sign.ed25519";
const SPKI: &str = "ostree.sign.spki";
const DIGEST: &str = "ostree.composefs.digest.v0";

fn main() -> ExitCode {
    trials::main(|| {
        vec![
            trials::trial("ostree: what is in a commit", contents),
            trials::trial("ostree: one valid pair of key and signature is enough", pairs),
            trials::trial("ostree: all forms of the key", forms),
            trials::trial("ostree: no signature of ours", unsigned),
            trials::trial("ostree: every change and every cut of a commit is refused", damaged_commits),
            trials::trial(
                "ostree: a changed or cut commitmeta changes no answer but to a refusal",
                damaged_commitmeta,
            ),
            unprivileged("gvariant: another implementation reads what we write", written),
            unprivileged("gvariant: we read what another implementation writes", read),
            unprivileged(
                "gvariant: we find the parts of commits that another implementation writes",
                read_commits,
            ),
        ]
    })
}

fn unprivileged(name: &str, run: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || run().map_err(Into::into))
}

/// Says which of many checks failed.
fn check(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(what()) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    check(found == expected, || format!("{what}: found {found:?}, expected {expected:?}"))
}

/// Commits and keys, made once.
struct Signed {
    first: Key,
    second: Key,
    /// Unsigned, with the metadata of a container import, made from `both`.
    imported: Object,
    /// No detached metadata but what Debian's `ostree sign` makes.
    dummy: Object,
    /// Signed by the first key.
    one: Object,
    /// The same as SPKI.
    spki: Object,
    /// Detached metadata with the second key's signature, and one that is none before and after it.
    both: Object,
}

struct Object {
    checksum: String,
    commit: Vec<u8>,
    commitmeta: Vec<u8>,
}

const GOOD: std::result::Result<Verified, Refusal> = Ok(Verified { line: 1, malformed: 0 });

fn untrusted(signatures: usize, malformed: usize, keys: usize) -> std::result::Result<Verified, Refusal> {
    Err(Refusal::Untrusted { signatures, malformed, keys })
}

impl Signed {
    fn get() -> Result<&'static Signed> {
        static SIGNED: OnceLock<Result<Signed>> = OnceLock::new();
        SIGNED.get_or_init(Signed::make).as_ref().map_err(Clone::clone)
    }

    fn make() -> Result<Signed> {
        let signer = Signer::new()?;
        let (first, second) = (signer.key("first")?, signer.key("second")?);
        let metadata = |name| [(DIGEST, DIGEST_TEXT), ("version", name)];
        let object = |checksum: String, signed| -> Result<Object> {
            let commit = signer.object(&checksum, "commit")?;
            let commitmeta = if signed { signer.object(&checksum, "commitmeta")? } else { Vec::new() };
            Ok(Object { checksum, commit, commitmeta })
        };

        let one = signer.commit(&metadata("'one'"), None)?;
        signer.sign(&one, "first", ED25519)?;

        let spki = signer.commit(&metadata("'spki'"), None)?;
        signer.sign(&spki, "first", SPKI)?;

        let both = signer.commit(&metadata("'both'"), None)?;
        signer.litter(&both, b"no signature", ED25519)?;
        signer.sign(&both, "second", ED25519)?;
        signer.litter(&both, &[0xff; 64], ED25519)?;
        // Other tools keep what they do not know.
        signer.sign_dummy(&both)?;

        let dummy = signer.commit(&metadata("'dummy'"), None)?;
        signer.sign_dummy(&dummy)?;

        let image = [("ostree.container.image-config", "'{}'")];
        let imported = signer.commit(&image, Some(&both))?;
        Ok(Signed {
            first,
            second,
            imported: object(imported, false)?,
            dummy: object(dummy, true)?,
            one: object(one, true)?,
            spki: object(spki, true)?,
            both: object(both, true)?,
        })
    }
}

/// In GVariant's text format; each byte is another.
const DIGEST_TEXT: &str = "[byte 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, \
    0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, \
    0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f]";
const DIGEST_HEX: &str = "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

/// The keys of a key file in which everything is a key.
fn keys(file: impl AsRef<[u8]>) -> Result<PublicKeys> {
    let (keys, problems) = PublicKeys::parse(file.as_ref());
    check(problems.is_empty(), || format!("the keys have problems: {problems:?}"))?;
    Ok(keys)
}

impl Object {
    fn verify(&self, keys: &PublicKeys) -> std::result::Result<Verified, Refusal> {
        verify(&self.commit, &self.commitmeta, keys)
    }
}

fn contents() -> Result<()> {
    let signed = Signed::get()?;
    for (object, version) in [(&signed.one, "one"), (&signed.both, "both"), (&signed.spki, "spki")] {
        let commit = Commit::parse(&object.commit).context("parse the commit")?;
        same("version", commit.version(), Some(version))?;
        same("digest", commit.composefs_digest().map(|digest| hex(&digest)).as_deref(), Some(DIGEST_HEX))?;
        same("parent", commit.parent(), None)?;
        check(!commit.is_container_import(), || "it is no container import".into())?;
    }
    let imported = Commit::parse(&signed.imported.commit).context("parse the import")?;
    same("digest of an import", imported.composefs_digest(), None)?;
    same("parent", imported.parent(), Some(signed.both.checksum.clone()))?;
    check(imported.is_container_import(), || "it is a container import".into())
}

fn pairs() -> Result<()> {
    let signed = Signed::get()?;
    let (first, second) = (signed.first.line(), signed.second.line());
    same("its key", signed.one.verify(&keys(&first)?), GOOD)?;
    same("another key", signed.one.verify(&keys(&second)?), untrusted(1, 0, 1))?;
    let two = keys(format!("{second}{first}"))?;
    same("two keys", signed.one.verify(&two), Ok(Verified { line: 2, malformed: 0 }))?;
    same("SPKI", signed.spki.verify(&two), Ok(Verified { line: 2, malformed: 0 }))?;
    same("three signatures", signed.both.verify(&two), Ok(Verified { line: 1, malformed: 1 }))?;
    same("three by others", signed.both.verify(&keys(&first)?), untrusted(3, 2, 1))?;
    let other = verify(&signed.spki.commit, &signed.one.commitmeta, &two);
    same("the signature of another commit", other, untrusted(1, 0, 2))?;

    let (found, problems) = PublicKeys::parse(format!("garbage\n{second}AAAA\n{first}").as_bytes());
    let problems: Vec<_> = problems.iter().map(|problem| (problem.line, problem.reason)).collect();
    same("bad lines", problems, vec![(1, Reason::NotBase64), (3, Reason::NotEd25519)])?;
    same("a key among bad lines", signed.one.verify(&found), Ok(Verified { line: 4, malformed: 0 }))
}

fn forms() -> Result<()> {
    let signed = Signed::get()?;
    let key = &signed.first;
    for (form, file) in [
        ("base64", key.line().into_bytes()),
        ("base64 of DER", base64(&key.der).into_bytes()),
        ("DER", key.der.clone()),
        ("PEM", key.pem.clone().into_bytes()),
    ] {
        same(form, signed.one.verify(&keys(file)?), GOOD)?;
    }
    let two = keys(format!("{}{}", signed.second.pem, key.pem))?;
    same("two PEM", signed.one.verify(&two), Ok(Verified { line: 4, malformed: 0 }))
}

fn unsigned() -> Result<()> {
    let signed = Signed::get()?;
    let keys = keys(signed.first.line())?;
    same("no commitmeta", signed.imported.verify(&keys), Err(Refusal::Unsigned))?;
    let dummy =
        ours::lookup(&signed.dummy.commitmeta, "ostree.sign.dummy", "aay").context("find the dummy")?;
    same("dummy", ours::byte_arrays(dummy).collect::<Vec<_>>(), vec![b"dummykey".as_slice()])?;
    same("only a dummy", signed.dummy.verify(&keys), Err(Refusal::Unsigned))
}

/// Everything that differs in one byte, and everything that lacks some at the end.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let changed = (0..bytes.len()).flat_map(move |at| {
        (1..=u8::MAX).map(move |difference| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= difference;
            (format!("byte {at} is {:#x}", bytes[at]), bytes)
        })
    });
    let cut = (0..bytes.len()).map(|length| (format!("cut at {length}"), bytes[..length].to_vec()));
    changed.chain(cut)
}

fn damaged_commits() -> Result<()> {
    let signed = Signed::get()?;
    let keys = keys(signed.first.line())?;
    for (damage, commit) in damaged(&signed.one.commit) {
        let result = verify(&commit, &signed.one.commitmeta, &keys);
        same(&damage, result, untrusted(1, 0, 1))?;
        // Nobody reads it, but if somebody did: no panic.
        if let Some(commit) = Commit::parse(&commit) {
            let _ = (commit.composefs_digest(), commit.parent(), commit.version());
        }
    }
    same("undamaged", signed.one.verify(&keys), GOOD)
}

fn damaged_commitmeta() -> Result<()> {
    let signed = Signed::get()?;
    let keys = keys(signed.second.line())?;
    let undamaged = Ok(Verified { line: 1, malformed: 1 });
    same("undamaged", signed.both.verify(&keys), undamaged)?;
    let mut outcomes = BTreeSet::new();
    for (damage, commitmeta) in damaged(&signed.both.commitmeta) {
        let result = verify(&signed.both.commit, &commitmeta, &keys);
        outcomes.insert(match result {
            // Damage to a signature that did not count before.
            Ok(Verified { line: 1, malformed: 0 | 1 }) => "verified",
            Err(Refusal::Unsigned) => "unsigned",
            Err(Refusal::Untrusted { signatures: 1..=3, keys: 1, .. }) => "untrusted",
            other => return Err(format!("{damage}: {other:?}")),
        });
    }
    // Damage that hits padding, names and signatures.
    same("outcomes", outcomes, BTreeSet::from(["unsigned", "untrusted", "verified"]))
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Mostly short, sometimes as long as makes offsets wider.
    fn length(&mut self) -> usize {
        match self.below(20) {
            0 => 65_400 + self.below(300),
            1..4 => 200 + self.below(100),
            _ => self.below(12),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let (byte, length) = (self.next() as u8, self.length());
        (0..length).map(|index| byte.wrapping_add(index as u8)).collect()
    }

    fn text(&mut self) -> String {
        let (letter, length) = (self.below(26) as u8, self.length());
        String::from(char::from(b'a' + letter)).repeat(length)
    }
}

#[derive(Debug)]
enum Value {
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    Arrays(Vec<Vec<u8>>),
    Pair(u64, u64),
}

impl SerializeTo<Variant> for &Value {
    fn serialize(self, f: &mut impl std::io::Write) -> std::io::Result<usize> {
        match self {
            Value::Bool(value) => VariantWrap(gv!("b"), value).serialize(f),
            Value::Text(value) => VariantWrap(gv!("s"), value.as_str()).serialize(f),
            Value::Bytes(value) => VariantWrap(gv!("ay"), value).serialize(f),
            Value::Arrays(value) => VariantWrap(gv!("aay"), value).serialize(f),
            Value::Pair(first, second) => VariantWrap(gv!("(tt)"), &(*first, *second)).serialize(f),
        }
    }
}

impl Value {
    fn random(random: &mut Random) -> Value {
        match random.below(5) {
            0 => Value::Bool(random.below(2) == 1),
            1 => Value::Text(random.text()),
            2 => Value::Bytes(random.bytes()),
            3 => Value::Arrays((0..random.below(5)).map(|_| random.bytes()).collect()),
            _ => Value::Pair(random.next(), random.next()),
        }
    }

    /// Does our reader find this value under this key, and under no other type?
    fn is_in(&self, dictionary: &[u8], key: &str) -> bool {
        let of_type = |signature| ours::lookup(dictionary, key, signature);
        let (signature, found) = match self {
            Value::Bool(value) => ("b", of_type("b") == Some(&[u8::from(*value)])),
            Value::Text(value) => ("s", of_type("s").and_then(ours::string) == Some(value)),
            Value::Bytes(value) => ("ay", of_type("ay") == Some(value)),
            Value::Arrays(value) => {
                let found = of_type("aay");
                ("aay", found.is_some_and(|found| ours::byte_arrays(found).eq(value)))
            }
            Value::Pair(first, second) => {
                let bytes = [first.to_le_bytes(), second.to_le_bytes()].concat();
                ("(tt)", of_type("(tt)") == Some(&bytes))
            }
        };
        let others = ["b", "s", "ay", "aay", "(tt)", "v", ""].into_iter().filter(|other| *other != signature);
        found && others.into_iter().all(|other| of_type(other).is_none())
    }
}

type Entries = Vec<(String, Value)>;

fn random_entries(random: &mut Random) -> Entries {
    // Some keys occur twice: of those the first counts.
    (0..random.below(12)).map(|_| (random.text(), Value::random(random))).collect()
}

fn serialise(entries: &Entries) -> Vec<u8> {
    let entries: Vec<_> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
    gv!("a{sv}").serialize_to_vec(&entries)
}

fn check_entries(dictionary: &[u8], entries: &Entries) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (key, value) in entries {
        if seen.insert(key) {
            check(value.is_in(dictionary, key), || {
                format!("{} bytes lack {key} = {value:?}", dictionary.len())
            })?;
        }
    }
    check(ours::lookup(dictionary, "absent", "s").is_none(), || "a key that is absent".into())
}

fn read() -> Result<()> {
    let mut random = Random(1);
    let mut widths = BTreeSet::new();
    for _ in 0..500 {
        let entries = random_entries(&mut random);
        let dictionary = serialise(&entries);
        widths.insert([0xff, 0xffff].map(|end| dictionary.len() > end));
        check_entries(&dictionary, &entries)?;
    }
    same("sizes", widths.len(), 3)
}

fn read_commits() -> Result<()> {
    let mut random = Random(2);
    for _ in 0..500 {
        let entries = random_entries(&mut random);
        let parent = random.bytes();
        let related: Vec<_> = (0..random.below(3)).map(|_| (random.text(), random.bytes())).collect();
        let [subject, body] = [random.text(), random.text()];
        let [tree, dirmeta] = [random.bytes(), random.bytes()];
        let metadata: Vec<_> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let commit = gv!("(a{sv}aya(say)sstayay)").serialize_to_vec(&(
            &metadata,
            &parent,
            &related.iter().map(|(name, checksum)| (name.as_str(), checksum)).collect::<Vec<_>>(),
            subject.as_str(),
            body.as_str(),
            &random.next(),
            &tree,
            &dirmeta,
        ));
        let commit = Commit::parse(&commit).context(format!("find the parts of {} bytes", commit.len()))?;
        check_entries(commit.metadata, &entries)?;
        same("parent", commit.parent(), (parent.len() == 32).then(|| hex(&parent)))?;
    }
    Ok(())
}

fn written() -> Result<()> {
    let mut random = Random(3);
    for _ in 0..500 {
        let mut coin = || random.below(2) == 1;
        let (root_transient, root_transient_readonly, sysroot_readonly) = (coin(), coin(), coin());
        let composefs_verity = coin().then(&mut coin);
        let (signed, transient) = (coin(), coin());
        let booted = Booted {
            device: random.next(),
            inode: random.next(),
            root_transient,
            root_transient_readonly,
            composefs_verity,
            signed_by: signed.then(|| random.text()),
            sysroot_readonly,
        };
        let etc = transient.then(|| random.text());
        let bytes = booted.serialise(etc.as_deref());
        same("deployment", booted::deployment(&bytes), Some((booted.device, booted.inode)))?;
        let mut expected = vec![
            format!("backing-root-device-inode = ({}, {})", booted.device, booted.inode),
            format!("root.transient = {root_transient}"),
            format!("root.transient-ro = {root_transient_readonly}"),
        ];
        expected.extend(booted.signed_by.map(|path| format!("composefs.signed = {path}")));
        if let Some(verity) = composefs_verity {
            expected.extend(["composefs = true".to_owned(), format!("composefs.verity = {verity}")]);
        }
        expected.push(format!("sysroot-ro = {sysroot_readonly}"));
        expected.extend(etc.map(|path| format!("transient-etc = {path}")));
        let dictionary = gv!("a{sv}").from_bytes(&bytes);
        let found: Vec<_> = dictionary
            .iter()
            .map(|entry| {
                let (key, value) = entry.to_tuple();
                format!("{key} = {}", text(value))
            })
            .collect();
        same("entries", found, expected)?;
    }
    Ok(())
}

fn text(value: &Variant) -> String {
    if let Some(value) = value.get(gv!("b")) {
        value.to_bool().to_string()
    } else if let Some(value) = value.get(gv!("s")) {
        value.to_str().to_owned()
    } else if let Some(value) = value.get(gv!("(tt)")) {
        format!("{:?}", value.to_tuple())
    } else {
        format!("{value:?}")
    }
}
