//! The table of mounts, `proc_pid_mountinfo(5)`. A normal boot does not read it.

use crate::lookup;
use alloc::vec::Vec;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, as `STATX_MNT_ID` has it.
    pub number: u64,
    /// The number of the mount it is mounted on.
    pub parent: u64,
    /// Where it is.
    pub place: Vec<u8>,
    /// Its own options and those of the file system.
    pub options: Vec<u8>,
    /// The number of its peer group, if it is shared.
    pub group: Option<u64>,
    /// The type of the file system.
    pub kind: Vec<u8>,
    /// The device, or what stands for one.
    pub source: Vec<u8>,
}

/// The mounts of our namespace; those that cannot be read are left out.
///
/// # Errors
/// As [`lookup::read`].
pub fn read() -> rustix::io::Result<Vec<Mount>> {
    let table = lookup::read(c"/proc/self/mountinfo")?.unwrap_or_default();
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// `NUMBER PARENT DEVICE ROOT PLACE OPTIONS [TAG]... - TYPE SOURCE OPTIONS`
fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let (own, rest) = fields.split_at(separator);
    let [number, parent, _, _, place, options, tags @ ..] = own else { return None };
    let [_, kind, source, of_the_file_system] = rest else { return None };
    // Both lists begin with ro or rw; a mount of a read-only file system is read-only.
    let readonly = options.starts_with(b"ro") || of_the_file_system.starts_with(b"ro");
    let own = options.split(|&byte| byte == b',').skip(1).collect::<Vec<_>>().join(&b',');
    let access = if readonly { &b"ro"[..] } else { b"rw" };
    let parse = |number: &[u8]| str::from_utf8(number).ok()?.parse().ok();
    Some(Mount {
        number: parse(number)?,
        parent: parse(parent)?,
        place: unescape(place),
        group: tags.iter().find_map(|tag| parse(tag.strip_prefix(b"shared:")?)),
        options: if own.is_empty() { access.to_vec() } else { [access, &own].join(&b',') },
        kind: unescape(kind),
        source: unescape(source),
    })
}

/// White space and backslashes are three octal digits after a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        rest = after;
        let digits = after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        match digits {
            Some(digits) => {
                bytes.push(digits.iter().fold(0, |byte: u8, digit| (byte << 3) | (digit & 7)));
                rest = &after[3..];
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:1 master:2 - ext3 /dev/root ro,errors=continue";
        let mount = Mount {
            number: 36,
            parent: 35,
            place: b"/mnt 2".to_vec(),
            group: Some(1),
            options: b"ro,noatime".to_vec(),
            kind: b"ext3".to_vec(),
            source: b"/dev/root".to_vec(),
        };
        assert_eq!(parse(line), Some(mount));
        for line in ["", "1 2 3", "x 35 98:0 / / rw - a b c", "36 35 98:0 / / rw - a b"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(read().unwrap().iter().any(|mount| mount.place == b"/"));
    }
}
