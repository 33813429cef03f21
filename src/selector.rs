//! `ostree.prepare-root.deployment=`: a deployment chosen by the person at the boot prompt.

use crate::name::Name;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The number that `--explain` shows in front.
    Index(usize),
    /// `[STATEROOT/]CHECKSUM[.SERIAL]`; the checksum may be cut off.
    Name {
        /// The stateroot.
        stateroot: Option<String>,
        /// What the checksum begins with.
        checksum: String,
        /// The serial number.
        serial: Option<String>,
    },
}

/// For messages: what a selector looks like.
pub const FORMS: &str = "an index, the start of a checksum (4 digits or more), STATEROOT/CHECKSUM.SERIAL";

impl Selector {
    /// Takes the value apart. Up to three decimal digits are an index, since nobody abbreviates a
    /// checksum to fewer than four.
    pub fn parse(value: &str) -> Option<Selector> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if value.len() <= 3 && digits(value) {
            return value.parse().ok().map(Selector::Index);
        }
        let (stateroot, name) = match value.rsplit_once('/') {
            Some((stateroot, name)) => (Some(stateroot.trim_start_matches('/')), name),
            None => (None, value),
        };
        let (checksum, serial) = match name.split_once('.') {
            Some((checksum, serial)) => (checksum, Some(serial)),
            None => (name, None),
        };
        let hexadecimal = checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hexadecimal || !(4..=64).contains(&checksum.len()) || serial.is_some_and(|serial| !digits(serial))
        {
            return None;
        }
        if stateroot.is_some_and(|stateroot| stateroot.is_empty() || stateroot.contains('/')) {
            return None;
        }
        Some(Selector::Name {
            stateroot: stateroot.map(str::to_owned),
            checksum: checksum.to_ascii_lowercase(),
            serial: serial.map(str::to_owned),
        })
    }

    /// Whether it means the deployment with this index and name.
    pub fn means(&self, index: usize, name: &Name) -> bool {
        match self {
            Selector::Index(number) => *number == index,
            Selector::Name { stateroot, checksum, serial } => {
                let directory = &name.directory[..];
                let dot = directory.iter().rposition(|&byte| byte == b'.').unwrap_or(directory.len());
                let (its_checksum, its_serial) = directory.split_at(dot);
                stateroot.as_ref().is_none_or(|stateroot| stateroot.as_bytes() == name.stateroot)
                    && its_checksum.starts_with(checksum.as_bytes())
                    && serial.as_ref().is_none_or(|serial| its_serial.get(1..) == Some(serial.as_bytes()))
            }
        }
    }
}

impl fmt::Display for Selector {
    /// As it was written, more or less.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Index(index) => write!(f, "{index}"),
            Selector::Name { stateroot, checksum, serial } => {
                if let Some(stateroot) = stateroot {
                    write!(f, "{}/", stateroot.as_bytes().escape_ascii())?;
                }
                f.write_str(checksum)?;
                serial.as_ref().map_or(Ok(()), |serial| write!(f, ".{serial}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(directory: &str) -> Name {
        Name { stateroot: b"debian".to_vec(), directory: directory.as_bytes().to_vec() }
    }

    #[test]
    fn an_index_or_a_name() {
        assert_eq!(Selector::parse("0"), Some(Selector::Index(0)));
        assert_eq!(Selector::parse("012"), Some(Selector::Index(12)));
        for (value, means, others) in [
            ("1234", &["12345.0", "1234.7"][..], &["4123.0"][..]),
            ("C0FFee.1", &["c0ffee.1", "c0ffee11.1"], &["c0ffee.0", "c0ffee.11"]),
            ("debian/c0ff", &["c0ff.0"], &["c0fe.0"]),
            ("/debian/c0ff.0", &["c0ff.0"], &["c0ff.1"]),
            ("other/c0ff.0", &[], &["c0ff.0"]),
        ] {
            let selector = Selector::parse(value).unwrap();
            assert!(means.iter().all(|directory| selector.means(9, &name(directory))), "{value}");
            assert!(!others.iter().any(|directory| selector.means(9, &name(directory))), "{value}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for value in ["", "c0f", "xyzw", "/c0ff", "a/b/c0ff", "c0ff.", "c0ff.x", "-1", "0x1", "c0ff.1.2"] {
            assert_eq!(Selector::parse(value), None, "{value}");
        }
    }

    #[test]
    fn is_shown_as_it_was_written() {
        for value in ["7", "c0ff", "debian/c0ffee.3"] {
            assert_eq!(Selector::parse(value).unwrap().to_string(), value);
        }
    }
}
