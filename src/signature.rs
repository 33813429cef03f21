//! Is a commit signed by a key that this machine trusts?
//!
//! Signatures are Ed25519, over the exact bytes of the commit object. `ostree sign` puts them into the
//! commit's detached metadata, a `.commitmeta` object: under `ostree.sign.ed25519`, or under
//! `ostree.sign.spki` if it was given the keys in the containers that OpenSSL uses. One valid
//! signature by one trusted key is enough, and nothing malformed beside it counts against it.
//!
//! `ed25519-compact` refuses keys and signatures with points of small order or in another than their
//! canonical encoding, and an S that is not below the group order (RFC 8032, section 5.1.7); so
//! neither is there a key that accepts anything, nor can anybody make a second signature of a first.
//! It checks the equation with the cofactor, as the RFC has it; libsodium and OpenSSL check the one
//! without, which also refuses some signatures that nobody but the key's owner can make.

use crate::gvariant;
use alloc::vec::Vec;
use core::fmt;
use ct_codecs::{Base64, Decoder};
use ed25519_compact::{Error, PublicKey, Signature};

/// A DER `SubjectPublicKeyInfo` is this and the key's 32 bytes (RFC 8410, sections 3 and 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_LEN: usize = SPKI_PREFIX.len() + PublicKey::BYTES;

/// Where `ostree sign` puts the signatures, an `aay` each.
const SIGNATURES: [&str; 2] = ["ostree.sign.ed25519", "ostree.sign.spki"];

/// How many signatures are looked at. Each takes as long as hashing the commit, and whoever wrote the
/// disk decides how many there are.
const LIMIT: usize = 64;

/// The keys that may have signed a commit.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(Vec<Trusted>);

#[derive(Clone, Debug)]
struct Trusted {
    line: usize,
    key: PublicKey,
}

/// A place in a key file that is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// Why something is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Neither base64 nor a line of PEM.
    NotBase64,
    /// Base64 of something else.
    NotEd25519,
    /// A PEM block with another label.
    NotPublicKey,
    /// A PEM block without an end.
    Unfinished,
    /// 32 bytes that encode no point of the curve, or not in the one way that counts.
    Invalid,
    /// A point of small order: signatures by it prove nothing.
    Weak,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::NotBase64 => "is not base64",
            Reason::NotEd25519 => "is not an Ed25519 public key",
            Reason::NotPublicKey => "begins a PEM block that is not a PUBLIC KEY",
            Reason::Unfinished => "begins a PEM block that does not end",
            Reason::Invalid => "is not a valid Ed25519 public key",
            Reason::Weak => "is a weak key, which would accept forged signatures",
        };
        write!(f, "line {} {reason}", self.line)
    }
}

impl PublicKeys {
    /// Parses a key file: base64, one key a line, as `ostree` wants it; PEM; or a single key in DER.
    ///
    /// Base64 and DER hold the 32 bytes of the key or a `SubjectPublicKeyInfo`. Empty lines and those
    /// that begin with `#` are skipped, white space does not matter. What is not a key is reported
    /// and does not spoil the keys.
    pub fn parse(file: &[u8]) -> (Self, Vec<Problem>) {
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        let mut add = |line, key: Result<PublicKey, Reason>| match key {
            Ok(key) => keys.push(Trusted { line, key }),
            Err(reason) => problems.push(Problem { line, reason }),
        };
        if let Some(key) = from_spki(file) {
            add(1, key);
            return (PublicKeys(keys), problems);
        }
        let mut lines = (1..).zip(file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii));
        while let Some((number, line)) = lines.next() {
            if let Some(label) = pem_label(line, b"-----BEGIN ") {
                let key = match pem_body(&mut lines, label) {
                    // Without its end, what follows may be keys as well as part of this one.
                    None => Err(Reason::Unfinished),
                    Some(_) if label != b"PUBLIC KEY" => Err(Reason::NotPublicKey),
                    Some(body) => from_pem(&body),
                };
                add(number, key);
            } else if !line.is_empty() && !line.starts_with(b"#") {
                add(number, from_base64(line));
            }
        }
        (PublicKeys(keys), problems)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there no key?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The label of a line of PEM that begins like this (RFC 7468, section 3).
fn pem_label<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(prefix)?.strip_suffix(b"-----")
}

/// What is inside a PEM block, taken off the lines that follow its begin; nothing if it has no end.
fn pem_body<'a>(
    lines: &mut (impl Iterator<Item = (usize, &'a [u8])> + Clone),
    label: &[u8],
) -> Option<Vec<u8>> {
    let mut rest = lines.clone();
    let mut body = Vec::new();
    loop {
        let (_, line) = rest.next()?;
        if !line.starts_with(b"-----") {
            body.extend_from_slice(line);
        } else if pem_label(line, b"-----END ")? == label {
            *lines = rest;
            return Some(body);
        } else {
            return None;
        }
    }
}

fn from_pem(body: &[u8]) -> Result<PublicKey, Reason> {
    decode(body, &mut [0; SPKI_LEN]).and_then(|der| from_spki(der).ok_or(Reason::NotEd25519)?)
}

fn from_base64(line: &[u8]) -> Result<PublicKey, Reason> {
    let mut buffer = [0; SPKI_LEN];
    let key = decode(line, &mut buffer)?;
    from_spki(key).unwrap_or_else(|| from_raw(key))
}

/// As `g_base64_decode()` does, this skips white space inside.
fn decode<'a>(text: &[u8], buffer: &'a mut [u8; SPKI_LEN]) -> Result<&'a [u8], Reason> {
    Base64::decode(buffer, text, Some(b" \t\r")).map_err(|error| match error {
        ct_codecs::Error::Overflow => Reason::NotEd25519,
        ct_codecs::Error::InvalidInput => Reason::NotBase64,
    })
}

/// Nothing if it is not of this form.
fn from_spki(bytes: &[u8]) -> Option<Result<PublicKey, Reason>> {
    (bytes.len() == SPKI_LEN).then(|| bytes.strip_prefix(&SPKI_PREFIX).map(from_raw))?
}

fn from_raw(bytes: &[u8]) -> Result<PublicKey, Reason> {
    let key = PublicKey::from_slice(bytes).map_err(|_| Reason::NotEd25519)?;
    match key.validate() {
        Ok(()) => Ok(key),
        Err(Error::WeakPublicKey) => Err(Reason::Weak),
        Err(_) => Err(Reason::Invalid),
    }
}

/// A commit has a valid signature by a trusted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The line of the key file at which the key begins.
    pub line: usize,
    /// How many signatures before the valid one are malformed.
    pub malformed: usize,
}

/// Why a commit cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It carries no Ed25519 signature.
    Unsigned,
    /// It carries signatures, and none by a trusted key.
    Untrusted {
        /// How many signatures there are.
        signatures: usize,
        /// How many of them are malformed: no key could have made them.
        malformed: usize,
        /// How many keys were tried.
        keys: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unsigned => f.write_str("the commit has no Ed25519 signature"),
            Refusal::Untrusted { signatures, malformed, keys } => {
                write!(
                    f,
                    "none of the commit's Ed25519 signatures ({signatures}, {malformed} of them malformed) "
                )?;
                write!(f, "was made over these bytes by one of the trusted keys ({keys})")
            }
        }
    }
}

/// Looks for a valid signature of the commit object among the first 64 in its detached metadata.
pub fn verify(commit: &[u8], commitmeta: &[u8], keys: &PublicKeys) -> Result<Verified, Refusal> {
    let arrays = SIGNATURES.iter().filter_map(|key| gvariant::lookup(commitmeta, key, "aay"));
    let mut signatures = 0;
    let mut malformed = 0;
    for signature in arrays.flat_map(gvariant::byte_arrays).take(LIMIT) {
        signatures += 1;
        match signer(commit, signature, keys) {
            Ok(Some(line)) => return Ok(Verified { line, malformed }),
            Ok(None) => {}
            Err(Malformed) => malformed += 1,
        }
    }
    match signatures {
        0 => Err(Refusal::Unsigned),
        _ => Err(Refusal::Untrusted { signatures, malformed, keys: keys.len() }),
    }
}

struct Malformed;

/// The line of the key that made this signature.
fn signer(commit: &[u8], signature: &[u8], keys: &PublicKeys) -> Result<Option<usize>, Malformed> {
    let signature = Signature::from_slice(signature).map_err(|_| Malformed)?;
    for Trusted { line, key } in &keys.0 {
        match key.verify(commit, &signature) {
            Ok(()) => return Ok(Some(*line)),
            Err(Error::SignatureMismatch) => {}
            // The keys were validated when they were read, so this is the signature's fault.
            Err(_) => return Err(Malformed),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
