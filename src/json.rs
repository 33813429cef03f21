//! Output for programs: JSON (RFC 8259) on one line.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

/// An object of members that are JSON already.
pub fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", string(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// An array of items that are JSON already.
pub fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// A string, or null.
pub fn optional(text: Option<&str>) -> String {
    text.map_or("null".into(), string)
}

/// A string (section 7).
pub fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// A string of bytes from outside: what is not printable ASCII is escaped as in Rust (`\xNN`).
pub fn bytes(bytes: &[u8]) -> String {
    string(&bytes.escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a\"b\\c\n\u{e9}"), "\"a\\\"b\\\\c\\u000a\u{e9}\"");
        assert_eq!(bytes(b"a\n\xff"), "\"a\\\\n\\\\xff\"");
        assert_eq!(optional(None), "null");
    }

    #[test]
    fn objects_and_arrays() {
        let array = array(["1".to_owned(), "2".to_owned()]);
        assert_eq!(object(&[("a", array), ("b", "{}".into())]), "{\"a\":[1,2],\"b\":{}}");
    }
}
