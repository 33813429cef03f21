use super::*;
use crate::gvariant::{self, Value};
use ::gvariant::{Marker, SerializeTo, Variant, VariantWrap, gv};
use ct_codecs::{Encoder, Hex};
use ed25519_compact::{KeyPair, Seed};

/// The group order (RFC 8032, section 5.1).
const L: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// The points of small order, in every encoding that a lenient decoder accepts. Only the first eight
/// are canonical: of the others, two have the sign of an x that is 0, four have a y that is not below p.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// Made by OpenSSL 3.0: `genpkey`, `pkey -pubout`, `pkeyutl -sign -rawin`.
const KEY: &str = "a9d79af95f59d9c9cfdda2ed926798746856b08a9b21712b32507c20ec51cc7b";
const PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAqdea+V9Z2cnP3aLtkmeYdGhWsIqbIXErMlB8IOxRzHs=
-----END PUBLIC KEY-----
";
const COMMIT: &[u8] = b"test commit";
const SIGNATURE: &str = "fa82d0eaaf98f37629b82ad21b2102b065e7c56a9b8015d1b3807e6879c0ac50
    72af77220b0cc2de3cb304b5fbe246b5a68a8af176283dc4123e1ef51f3ce404";

fn unhex(text: &str) -> Vec<u8> {
    Hex::decode(&mut vec![0; text.len()], text, Some(b" \n")).unwrap().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_to_str(&mut vec![0; 2 * bytes.len() + 4], bytes).unwrap().to_owned()
}

/// A key file with these keys, all of them good.
fn keys(keys: &[&[u8]]) -> PublicKeys {
    let file: String = keys.iter().map(|key| base64(key) + "\n").collect();
    let (parsed, problems) = PublicKeys::parse(file.as_bytes());
    assert_eq!((parsed.len(), problems), (keys.len(), vec![]));
    parsed
}

/// An `aay` in a variant.
#[derive(Clone, Copy)]
struct Arrays<'a>(&'a [&'a [u8]]);

impl SerializeTo<Variant> for Arrays<'_> {
    fn serialize(self, f: &mut impl std::io::Write) -> std::io::Result<usize> {
        VariantWrap(gv!("aay"), self.0.iter().map(|array| array.iter())).serialize(f)
    }
}

/// Detached metadata, written by somebody else's code.
fn commitmeta(key: &str, signatures: &[&[u8]]) -> Vec<u8> {
    gv!("a{sv}").serialize_to_vec(&[(key, Arrays(signatures))])
}

fn verify_one(message: &[u8], key: &[u8], signature: &[u8]) -> Result<Verified, Refusal> {
    verify(message, &commitmeta("ostree.sign.ed25519", &[signature]), &keys(&[key]))
}

const GOOD: Result<Verified, Refusal> = Ok(Verified { line: 1, malformed: 0 });

fn untrusted(signatures: usize, malformed: usize, keys: usize) -> Result<Verified, Refusal> {
    Err(Refusal::Untrusted { signatures, malformed, keys })
}

#[test]
fn vectors_of_rfc_8032() {
    // Section 7.1: TEST 1, 2, 3 and SHA(abc).
    for (message, key, signature) in [
        (
            "",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "72",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "af82",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589
             09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ),
    ] {
        let (message, key, signature) = (unhex(message), unhex(key), unhex(signature));
        assert_eq!(verify_one(&message, &key, &signature), GOOD);
        let other = [message, b"x".to_vec()].concat();
        assert_eq!(verify_one(&other, &key, &signature), untrusted(1, 0, 1));
    }
}

/// The vectors of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020, table 6).
#[test]
fn vectors_of_taming_the_many_eddsas() {
    let weak = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa";
    let (_, problems) = PublicKeys::parse(base64(&unhex(weak)).as_bytes());
    // 0 and 1: the key has small order.
    assert_eq!(problems, [Problem { line: 1, reason: Reason::Weak }]);

    let ordinary = "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43";
    // Has a component of small order besides its own.
    let mixed = "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d";
    let other = "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623";
    let third = "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c";
    let fourth = "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40";
    for (number, message, key, signature, expected) in [
        // R has small order.
        (
            2,
            "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
            ordinary,
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa
             8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
            untrusted(1, 1, 1),
        ),
        // A and R are mixed and both equations hold.
        (
            3,
            "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
            mixed,
            "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f
             87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
            GOOD,
        ),
        // Only the equation with the cofactor holds, which is the one that RFC 8032 asks for. libsodium
        // and OpenSSL refuse these; nobody but the key's owner can make them.
        (
            4,
            third,
            mixed,
            "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512
             5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
            GOOD,
        ),
        (
            5,
            third,
            mixed,
            "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7
             e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
            GOOD,
        ),
        // S is not below L, and far above.
        (
            6,
            fourth,
            other,
            "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e
             547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
            untrusted(1, 1, 1),
        ),
        (
            7,
            fourth,
            other,
            "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942
             7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
            untrusted(1, 1, 1),
        ),
        // R has small order and is not canonical.
        (
            8,
            "fdaebc429f4a735932a160da1301080c13280eea8bc280d1b392c6b9e6ba3a5a",
            ordinary,
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
             454d370c8d9fc323a41450f8d513eafeb5b0697390c1e505a0d4ddc71f566607",
            untrusted(1, 1, 1),
        ),
        (
            9,
            "84b698d39be126ff55fe45079e6c8bf64a0d7db6994560b4e96b7021eb39c1a1",
            ordinary,
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
             084d5b99c2a9463d9c8bd5026916996984eeec87ddf1d3be329006ace1b37b09",
            untrusted(1, 1, 1),
        ),
    ] {
        let result = verify_one(&unhex(message), &unhex(key), &unhex(signature));
        assert_eq!(result, expected, "{number}");
    }
}

#[test]
fn no_point_of_small_order_is_a_key_or_part_of_a_signature() {
    for (index, point) in SMALL_ORDER.iter().map(|point| unhex(point)).enumerate() {
        let (keys_, problems) = PublicKeys::parse(base64(&point).as_bytes());
        let reason = if index < 8 { Reason::Weak } else { Reason::Invalid };
        assert!(keys_.is_empty());
        assert_eq!(problems, [Problem { line: 1, reason }], "{index}");

        let signature = [&point, &unhex(SIGNATURE)[32..]].concat();
        assert_eq!(verify_one(COMMIT, &unhex(KEY), &signature), untrusted(1, 1, 1), "{index}");
    }
    // Not below p, and of no small order either: 2^255 - 1 and p + 3.
    for point in ["ff".repeat(31) + "7f", "f0".to_owned() + &"ff".repeat(30) + "7f"] {
        let (_, problems) = PublicKeys::parse(base64(&unhex(&point)).as_bytes());
        assert_eq!(problems, [Problem { line: 1, reason: Reason::Invalid }]);
    }
}

#[test]
fn nobody_can_make_a_second_signature_of_a_first() {
    let signature = unhex(SIGNATURE);
    assert_eq!(verify_one(COMMIT, &unhex(KEY), &signature), GOOD);
    let mut second = signature.clone();
    let mut carry = 0;
    for (byte, l) in second[32..].iter_mut().zip(unhex(L)) {
        carry += u16::from(*byte) + u16::from(l);
        *byte = carry as u8;
        carry >>= 8;
    }
    // S + L satisfies the equation as S does.
    assert_eq!(verify_one(COMMIT, &unhex(KEY), &second), untrusted(1, 1, 1));
    // Either half of it alone, its halves exchanged, and one byte more.
    let halves = [&signature[32..], &signature[..32]].concat();
    let longer = [signature.as_slice(), &[0]].concat();
    assert_eq!(verify_one(COMMIT, &unhex(KEY), &signature[..32]), untrusted(1, 1, 1));
    assert!(verify_one(COMMIT, &unhex(KEY), &halves).is_err());
    assert_eq!(verify_one(COMMIT, &unhex(KEY), &longer), untrusted(1, 1, 1));
}

#[test]
fn one_valid_pair_is_enough() {
    let pairs: Vec<_> = (1..=3).map(|number| KeyPair::from_seed(Seed::new([number; 32]))).collect();
    let signatures: Vec<_> = pairs.iter().map(|pair| pair.sk.sign(COMMIT, None)).collect();
    let [first, second, third] = [0, 1, 2].map(|index| signatures[index].as_slice());
    let both = keys(&[pairs[0].pk.as_slice(), pairs[1].pk.as_slice()]);
    let check = |signatures: &[&[u8]]| verify(COMMIT, &commitmeta("ostree.sign.ed25519", signatures), &both);

    assert_eq!(check(&[first]), GOOD);
    assert_eq!(check(&[second]), Ok(Verified { line: 2, malformed: 0 }));
    assert_eq!(check(&[third, second]), Ok(Verified { line: 2, malformed: 0 }));
    assert_eq!(check(&[b"", &[0xff; 64], third, first]), Ok(Verified { line: 1, malformed: 2 }));
    assert_eq!(check(&[third]), untrusted(1, 0, 2));
    assert_eq!(check(&[third, b"short"]), untrusted(2, 1, 2));
    assert_eq!(check(&[]), Err(Refusal::Unsigned));

    // The other key's name is as good; a third is not.
    let spki = commitmeta("ostree.sign.spki", &[first]);
    assert_eq!(verify(COMMIT, &spki, &both), GOOD);
    let gpg = commitmeta("ostree.gpgsigs", &[first]);
    assert_eq!(verify(COMMIT, &gpg, &both), Err(Refusal::Unsigned));
    assert_eq!(verify(COMMIT, b"", &both), Err(Refusal::Unsigned));
    assert_eq!(verify(COMMIT, &spki, &PublicKeys::default()), untrusted(1, 0, 0));

    // Both names at once: neither hides the other.
    for [ed25519, spki] in [[third, first], [first, third]] {
        let entries = [("ostree.sign.ed25519", Arrays(&[ed25519])), ("ostree.sign.spki", Arrays(&[spki]))];
        assert_eq!(verify(COMMIT, &gv!("a{sv}").serialize_to_vec(&entries), &both), GOOD);
    }
    // Signatures of another type are none.
    let text = Value::Str("x".into());
    let text = gvariant::dictionary([("ostree.sign.ed25519", text)]);
    assert_eq!(verify(COMMIT, &text, &both), Err(Refusal::Unsigned));
}

#[test]
fn key_files_of_all_forms() {
    let raw = unhex(KEY);
    let der = [SPKI_PREFIX.as_slice(), &raw].concat();
    let (raw, line) = (base64(&raw), base64(&der));
    let windows = PEM.replace('\n', "\r\n");
    let wrapped = PEM.replace("yEA", "yEA\n");
    for (form, file, at) in [
        ("raw", raw.clone().into_bytes(), 1),
        ("raw, with white space", format!("\n  \t{raw}  \r\n").into_bytes(), 2),
        ("raw, with white space inside", format!("{} {}", &raw[..9], &raw[9..]).into_bytes(), 1),
        ("raw, after a comment", format!("# the key\n\n{raw}\n").into_bytes(), 3),
        ("DER in base64", line.clone().into_bytes(), 1),
        ("DER", der.clone(), 1),
        ("PEM", PEM.into(), 1),
        ("PEM, with CRLF", windows.into(), 1),
        ("PEM, in several lines", wrapped.into(), 1),
        ("PEM, without a last line feed", PEM.trim_end().into(), 1),
    ] {
        let (keys, problems) = PublicKeys::parse(&file);
        assert_eq!((keys.len(), problems), (1, vec![]), "{form}");
        let meta = commitmeta("ostree.sign.ed25519", &[&unhex(SIGNATURE)]);
        assert_eq!(verify(COMMIT, &meta, &keys), Ok(Verified { line: at, malformed: 0 }), "{form}");
    }
}

#[test]
fn a_bad_key_does_not_spoil_a_good_one() {
    let good = base64(&unhex(KEY));
    let weak = base64(&unhex(SMALL_ORDER[4]));
    let alternative = base64(&unhex(SMALL_ORDER[10]));
    let unpadded = good.trim_end_matches('=');
    let der = |prefix: &[u8]| base64(&[prefix, &unhex(KEY)].concat());
    // X25519 differs in the last number of the algorithm's identifier.
    let x25519 = der(&SPKI_PREFIX.map(|byte| if byte == 0x70 { 0x6e } else { byte }));
    let rsa = base64(&[0x30; 162]);
    let pem = |label, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----");
    for (bad, lines, reason) in [
        ("not a key".to_owned(), 1, Reason::NotBase64),
        (unpadded.to_owned(), 1, Reason::NotBase64),
        (format!("{good}="), 1, Reason::NotBase64),
        (format!("{good} # mine"), 1, Reason::NotBase64),
        ("\u{feff}\0\u{1b}[2J".to_owned(), 1, Reason::NotBase64),
        ("AAAA".to_owned(), 1, Reason::NotEd25519),
        (base64(&[7; 31]), 1, Reason::NotEd25519),
        (base64(&[7; 33]), 1, Reason::NotEd25519),
        (x25519.clone(), 1, Reason::NotEd25519),
        (rsa.clone(), 1, Reason::NotEd25519),
        (weak.clone(), 1, Reason::Weak),
        (alternative, 1, Reason::Invalid),
        (pem("PUBLIC KEY", &x25519), 3, Reason::NotEd25519),
        (pem("PUBLIC KEY", &rsa), 3, Reason::NotEd25519),
        (pem("PUBLIC KEY", &good), 3, Reason::NotEd25519),
        (pem("PUBLIC KEY", "not a key"), 3, Reason::NotBase64),
        (
            pem("PUBLIC KEY", &base64(&[&SPKI_PREFIX, unhex(SMALL_ORDER[4]).as_slice()].concat())),
            3,
            Reason::Weak,
        ),
        (pem("PRIVATE KEY", &good), 3, Reason::NotPublicKey),
        ("-----BEGIN PUBLIC KEY-----".to_owned(), 1, Reason::Unfinished),
    ] {
        let file = format!("{good}\n{bad}\n{PEM}{good}");
        let (keys, problems) = PublicKeys::parse(file.as_bytes());
        assert_eq!(problems, [Problem { line: 2, reason }], "{bad}");
        let found: Vec<_> = keys.0.iter().map(|trusted| trusted.line).collect();
        assert_eq!(found, [1, lines + 2, lines + 5], "{bad}");
    }
    // An end of something else does not end a block, and is no key.
    let (keys, problems) = PublicKeys::parse(b"-----BEGIN PUBLIC KEY-----\n-----END X-----\n");
    let at = |line, reason| Problem { line, reason };
    assert!(keys.is_empty());
    assert_eq!(problems, [at(1, Reason::Unfinished), at(2, Reason::NotBase64)]);
    // A weak key in DER.
    let weak = [SPKI_PREFIX.as_slice(), &unhex(SMALL_ORDER[0])].concat();
    assert_eq!(PublicKeys::parse(&weak).1, [at(1, Reason::Weak)]);
    assert!(PublicKeys::parse(b"\n#\n").1.is_empty());
}

#[test]
fn says_what_is_wrong() {
    let problem = Problem { line: 3, reason: Reason::Weak };
    assert_eq!(problem.to_string(), "line 3 is a weak key, which would accept forged signatures");
    assert_eq!(Refusal::Unsigned.to_string(), "the commit has no Ed25519 signature");
    let refusal = Refusal::Untrusted { signatures: 2, malformed: 1, keys: 3 };
    assert_eq!(
        refusal.to_string(),
        "none of the commit's Ed25519 signatures (2, 1 of them malformed) was made over these bytes by one \
         of the trusted keys (3)"
    );
}
