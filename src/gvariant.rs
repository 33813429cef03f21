//! Writing the one GVariant we leave behind, a dictionary `a{sv}` of simple values, and reading the
//! few shapes that OSTree's commits and their signatures have.
//!
//! Little-endian normal form, after the specification
//! (<https://docs.gtk.org/glib/gvariant-specification-1.0.html>): an `{sv}` is the string with its
//! NUL, padding to 8, the variant (value, NUL, type string), and a framing offset for the string's end;
//! the array is the entries, each aligned to 8, followed by the offset of each entry's end.
//!
//! Reading agrees with GLib on everything in normal form. Where GLib puts a default value in the
//! place of what is malformed, here it is absent: an array ends before it, a tuple is none.

use alloc::string::String;
use alloc::vec::Vec;

/// A value that `/run/ostree-booted` can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `s`; must not contain NUL.
    Str(String),
    /// `(tt)`
    Pair(u64, u64),
}

impl Value {
    fn serialise(&self) -> Vec<u8> {
        let (mut bytes, signature) = match self {
            Value::Bool(value) => (vec![u8::from(*value)], "b"),
            Value::Str(value) => ([value.as_bytes(), b"\0"].concat(), "s"),
            Value::Pair(first, second) => ([first.to_le_bytes(), second.to_le_bytes()].concat(), "(tt)"),
        };
        bytes.push(0);
        bytes.extend_from_slice(signature.as_bytes());
        bytes
    }
}

/// The serialised form of a dictionary, entries in the given order.
pub fn dictionary<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for (key, value) in entries {
        align(&mut bytes);
        let mut entry = [key.as_bytes(), b"\0"].concat();
        let key_end = entry.len();
        align(&mut entry);
        entry.extend(value.serialise());
        append_offsets(&mut entry, &[key_end]);
        bytes.extend(entry);
        ends.push(bytes.len());
    }
    append_offsets(&mut bytes, &ends);
    bytes
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn append_offsets(container: &mut Vec<u8>, offsets: &[usize]) {
    let fits = |width: &usize| fits(container.len() + offsets.len() * width, *width);
    let width = WIDTHS.into_iter().find(fits).unwrap_or(MAX_WIDTH);
    for offset in offsets {
        container.extend_from_slice(&offset.to_le_bytes()[..width]);
    }
}

/// Offsets are as narrow as the whole container, offsets included, allows ("Framing Offsets").
const WIDTHS: [usize; 3] = [1, 2, 4];
const MAX_WIDTH: usize = 8;

fn fits(size: usize, width: usize) -> bool {
    (size as u64) < 1 << (8 * width)
}

/// Splits the last framing offset off a part of a container whose offsets have this width.
fn split_offset(bytes: &[u8], width: usize) -> Option<(&[u8], usize)> {
    let (rest, offset) = bytes.split_at_checked(bytes.len().checked_sub(width)?)?;
    Some((rest, little_endian(offset)?))
}

fn little_endian(offset: &[u8]) -> Option<usize> {
    let mut bytes = [0; MAX_WIDTH];
    bytes.get_mut(..offset.len())?.copy_from_slice(offset);
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

fn offset_width(container: &[u8]) -> usize {
    WIDTHS.into_iter().find(|width| fits(container.len(), *width)).unwrap_or(MAX_WIDTH)
}

/// The value of the first entry with this key in an `a{sv}`, if `signature` is its type.
pub fn lookup<'a>(dictionary: &'a [u8], key: &str, signature: &str) -> Option<&'a [u8]> {
    let entry = elements(dictionary, 8).filter_map(Entry::parse).find(|entry| entry.key == key.as_bytes())?;
    (entry.signature == signature.as_bytes()).then_some(entry.value)
}

/// An `{sv}`.
struct Entry<'a> {
    /// The key, without its NUL.
    key: &'a [u8],
    value: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (members, key_end) = split_offset(bytes, offset_width(bytes))?;
        let key = members.get(..key_end)?.strip_suffix(b"\0")?;
        let (value, signature) = variant(members.get(key_end.next_multiple_of(8)..)?)?;
        Some(Entry { key, value, signature })
    }
}

/// A `v`: the value and its type string, which is what follows the last NUL.
fn variant(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = bytes.iter().rposition(|byte| *byte == 0)?;
    Some((bytes.get(..nul)?, bytes.get(nul + 1..)?))
}

/// The text of an `s`.
pub fn string(bytes: &[u8]) -> Option<&str> {
    core::ffi::CStr::from_bytes_with_nul(bytes).ok()?.to_str().ok()
}

/// The byte arrays of an `aay`.
pub fn byte_arrays(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(bytes, 1)
}

/// The elements of an array whose elements vary in length, up to the first that is malformed.
fn elements(array: &[u8], alignment: usize) -> impl Iterator<Item = &[u8]> {
    let width = offset_width(array);
    // The last offset is the end of the last element, where the offsets begin.
    let (content, ends) = split_offset(array, width)
        .and_then(|(_, end)| array.split_at_checked(end))
        .filter(|(_, ends)| ends.len() % width == 0)
        .unwrap_or_default();
    let mut start = 0_usize;
    ends.chunks_exact(width)
        .map_while(move |end| {
            let end = little_endian(end)?;
            let element = content.get(start.next_multiple_of(alignment)..end);
            start = end;
            element
        })
        .fuse()
}

/// The type of a tuple's member, as far as it decides where the member lies.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// What the member's offset in the tuple is a multiple of.
    pub alignment: usize,
    /// How many bytes every value of the type has, if they all have as many.
    pub size: Option<usize>,
}

/// The members of a tuple of these types, at least one of which varies in length.
pub fn tuple<const N: usize>(bytes: &[u8], types: [Member; N]) -> Option<[&[u8]; N]> {
    let width = offset_width(bytes);
    let mut members = [[].as_slice(); N];
    // Offsets stand at the end in reverse order, one for each member that needs it: it varies in
    // length and is not the last, which ends where the offsets begin.
    let mut rest = bytes;
    let mut start = 0_usize;
    for (index, (member, Member { alignment, size })) in members.iter_mut().zip(types).enumerate() {
        let begin = start.checked_next_multiple_of(alignment)?;
        let end = match size {
            Some(size) => begin.checked_add(size)?,
            None if index + 1 == N => rest.len(),
            None => {
                let end;
                (rest, end) = split_offset(rest, width)?;
                end
            }
        };
        *member = bytes.get(begin..end)?;
        start = end;
    }
    (start == rest.len()).then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_what_glib_writes() {
        // GLib: GLib.Variant("a{sv}", {"a": GLib.Variant("b", True), "bc": GLib.Variant("s", "x")})
        let bytes = dictionary([("a", Value::Bool(true)), ("bc", Value::Str("x".into()))]);
        let expected = b"a\0\0\0\0\0\0\0\x01\0b\x02\0\0\0\0bc\0\0\0\0\0\0x\0\0s\x03\x0c\x1d";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn offsets_widen_with_the_container() {
        let long = |length| dictionary([("k", Value::Str("x".repeat(length)))]);
        // One byte while the container, offsets included, is at most 255 bytes: here first the entry's
        // own (12 bytes more than the string), then the dictionary's.
        assert_eq!([242, 243, 244].map(|length| long(length).len()), [255, 257, 259]);
    }

    #[test]
    fn an_empty_dictionary_is_empty() {
        assert_eq!(dictionary([]), b"");
    }

    #[test]
    fn reads_what_glib_writes() {
        let bytes = b"a\0\0\0\0\0\0\0\x01\0b\x02\0\0\0\0bc\0\0\0\0\0\0x\0\0s\x03\x0c\x1d";
        assert_eq!(lookup(bytes, "a", "b"), Some(b"\x01".as_slice()));
        assert_eq!(lookup(bytes, "bc", "s").and_then(string), Some("x"));
        assert_eq!(lookup(bytes, "bc", "ay"), None);
        assert_eq!([lookup(bytes, "", "s"), lookup(bytes, "b", "b"), lookup(b"", "a", "b")], [None; 3]);

        // GLib.Variant("aay", [b"ab", b"", b"c"]), and [b""], and [].
        let arrays = |bytes| byte_arrays(bytes).collect::<Vec<_>>();
        assert_eq!(arrays(b"abc\x02\x02\x03"), [b"ab".as_slice(), b"", b"c"]);
        assert_eq!(arrays(b"\0"), [b""]);
        assert_eq!(arrays(b""), [b""; 0]);
        // GLib.Variant("aay", [b"x" * 300, b"y"])
        let long = [b"x".repeat(300), b"y,\x01-\x01".to_vec()].concat();
        assert_eq!(arrays(&long), [&b"x".repeat(300), b"y".as_slice()]);

        // GLib.Variant("(aaya{sv})", ([b"ab", b"", b"c"], {"a": GLib.Variant("b", True)}))
        let pair = b"abc\x02\x02\x03\0\0a\0\0\0\0\0\0\0\x01\0b\x02\x0c\x06";
        let types = [Member { alignment: 1, size: None }, Member { alignment: 8, size: None }];
        let [first, second] = tuple(pair, types).unwrap();
        assert_eq!(arrays(first).len(), 3);
        assert_eq!(lookup(second, "a", "b"), Some(b"\x01".as_slice()));
    }

    #[test]
    fn of_equal_keys_the_first_counts_also_if_its_type_is_another() {
        let bytes = dictionary([("k", Value::Bool(true)), ("k", Value::Str("x".into()))]);
        assert_eq!(lookup(&bytes, "k", "b"), Some(b"\x01".as_slice()));
        assert_eq!(lookup(&bytes, "k", "s"), None);
    }

    #[test]
    fn an_array_ends_before_what_is_malformed() {
        let count = |bytes: &[u8]| byte_arrays(bytes).count();
        // Offsets that begin outside, that go backwards, that leave the elements.
        assert_eq!(
            [count(b"\x02"), count(b"ab\xff"), count(b"abc\x02\x01\x03"), count(b"ab\x09\x02")],
            [0, 0, 1, 0]
        );
        // Asked again after its end, it still has ended.
        let mut arrays = byte_arrays(b"abcd\x03\x01\x04");
        assert_eq!([arrays.next(), arrays.next(), arrays.next()], [Some(b"abc".as_slice()), None, None]);
        // Offsets of two bytes (5, 256), and only half of the second.
        let long = |offsets: &[u8]| count(&[b"x".repeat(256).as_slice(), offsets].concat());
        assert_eq!([long(b"\x05\0\0\x01"), long(b"\x05\0\x01")], [2, 0]);
    }

    #[test]
    fn a_malformed_entry_is_absent() {
        let bytes = dictionary([("a", Value::Bool(true)), ("b", Value::Bool(false))]);
        let damaged = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            [lookup(&bytes, "a", "b").is_some(), lookup(&bytes, "b", "b").is_some()]
        };
        assert_eq!(damaged(0, b'a'), [true, true]);
        // The key's NUL, where the key ends, and the NUL before the type string.
        assert_eq!([damaged(1, b'x'), damaged(11, 0xff), damaged(9, b'x')], [[false, true]; 3]);
    }

    #[test]
    fn a_tuple_is_whole_or_none() {
        let variable = Member { alignment: 1, size: None };
        let number = Member { alignment: 8, size: Some(8) };
        let pair = |bytes: &'static [u8]| tuple(bytes, [variable, variable]);
        assert_eq!(pair(b"abc\x02"), Some([b"ab".as_slice(), b"c"]));
        assert_eq!([pair(b""), pair(b"\x01"), pair(b"abc\x04"), pair(b"abc\xff")], [None; 4]);
        let bytes = b"a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01";
        assert_eq!(tuple(bytes, [variable, number]).map(|[text, _]| text), Some(b"a".as_slice()));
        // A number that reaches into the offsets, and bytes between it and them.
        assert_eq!(tuple(&bytes[1..], [variable, number]), None);
        assert_eq!(tuple(b"a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01", [variable, number]), None);
    }

    #[test]
    fn a_string_ends_with_its_only_nul() {
        assert_eq!(string("\u{e4}\0".as_bytes()), Some("\u{e4}"));
        assert_eq!([string(b""), string(b"a"), string(b"a\0b\0"), string(b"\xff\0")], [None; 4]);
    }
}
