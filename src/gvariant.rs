//! Writing the one GVariant we leave behind: a dictionary `a{sv}` of simple values.
//!
//! Little-endian normal form, after the specification
//! (<https://docs.gtk.org/glib/gvariant-specification-1.0.html>): an `{sv}` is the string with its
//! NUL, padding to 8, the variant (value, NUL, type string), and a framing offset for the string's end;
//! the array is the entries, each aligned to 8, followed by the offset of each entry's end.

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

/// Offsets are as narrow as the whole container, offsets included, allows: 1, 2, 4 or 8 bytes.
fn append_offsets(container: &mut Vec<u8>, offsets: &[usize]) {
    let fits = |width: &usize| container.len() + offsets.len() * width < 1 << (8 * width);
    let width = [1, 2, 4].into_iter().find(fits).unwrap_or(8);
    for offset in offsets {
        container.extend_from_slice(&offset.to_le_bytes()[..width]);
    }
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
}
