//! The `GKeyFile` syntax of `prepare-root.conf` and `ostree/repo/config`.
//!
//! As in GLib: `[group]` lines, `key=value` lines with optional space around the `=`, `#` comments
//! and empty lines; anything else is an error. The last of several equal keys counts.
//! <https://docs.gtk.org/glib/struct.KeyFile.html>

use alloc::vec::Vec;

/// The entries of a key file, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyFile<'a>(Vec<Entry<'a>>);

/// One `key=value` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The group the line stands in.
    pub group: &'a str,
    /// The key, without white space around it.
    pub key: &'a str,
    /// The value, without leading white space.
    pub value: &'a str,
    /// The number of the line, from 1.
    pub line: usize,
}

/// Why a file is not a key file.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not UTF-8.
    NotUtf8,
    /// The line with this number (from 1) is neither group, entry, comment nor empty, or is an
    /// entry before the first group.
    Line(usize),
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Malformed::NotUtf8 => f.write_str("it is not UTF-8 text"),
            Malformed::Line(line) => {
                write!(f, "line {line} is not a [group], a key=value in a group, or a # comment")
            }
        }
    }
}

impl<'a> KeyFile<'a> {
    /// Parses the bytes of a key file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let text = core::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        let mut entries = Vec::new();
        let mut group = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start_matches(is_space);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.trim_end_matches(is_space).strip_suffix(']');
                let valid = |name: &&str| {
                    !name.is_empty() && !name.contains(['[', ']']) && !name.contains(char::is_control)
                };
                group = Some(name.filter(valid).ok_or(Malformed::Line(number))?);
                continue;
            }
            let (Some(group), Some((key, value))) = (group, line.split_once('=')) else {
                return Err(Malformed::Line(number));
            };
            let key = key.trim_end_matches(is_space);
            if key.is_empty() {
                return Err(Malformed::Line(number));
            }
            entries.push(Entry { group, key, value: value.trim_start_matches(is_space), line: number });
        }
        Ok(KeyFile(entries))
    }

    /// The value that counts for `key` in `group`.
    pub fn get(&self, group: &str, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|entry| entry.group == group && entry.key == key).map(|entry| entry.value)
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        self.0.iter().copied()
    }
}

/// A boolean as GLib reads it: `true`, `1`, `false`, `0` and nothing else, white space after it ignored.
pub fn boolean(value: &str) -> Option<bool> {
    match value.trim_end_matches(is_space) {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// GLib's `g_ascii_isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keys_comments_and_the_last_of_equal_keys() {
        let file = KeyFile::parse(
            b"# c\n\n[sysroot]\nreadonly = false \n [etc]\r\ntransient=true\n[sysroot]\nreadonly=1\n",
        )
        .unwrap();
        assert_eq!(file.get("sysroot", "readonly"), Some("1"));
        assert_eq!(file.get("etc", "transient"), Some("true"));
        assert_eq!(file.get("etc", "readonly"), None);
        assert_eq!(file.entries().count(), 3);
    }

    #[test]
    fn what_glib_refuses() {
        for (text, line) in
            [("key=1\n", 1), ("[a]\nword\n", 2), ("[a\n", 1), ("[a]\n=1\n", 2), ("[]\n", 1), ("[a]b]\n", 1)]
        {
            assert_eq!(KeyFile::parse(text.as_bytes()), Err(Malformed::Line(line)), "{text}");
        }
        assert_eq!(KeyFile::parse(b"[a]\nk=\xff\n"), Err(Malformed::NotUtf8));
    }

    #[test]
    fn booleans_are_case_sensitive() {
        assert_eq!(
            ["true", "1 ", "false", "0\t"].map(boolean),
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(["True", "yes", "", "01", "true x"].map(boolean), [None; 5]);
    }
}
