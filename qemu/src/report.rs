//! What the guest tells over its report port: lines of `SECTION<tab>TEXT`, the last one `end`.

use crate::mounts::Mounts;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// The section with what a guest has judged itself; others about that begin so.
pub const CHECKS: &str = "check";

/// A guest's report.
#[derive(Debug, Default)]
pub struct Report {
    sections: BTreeMap<String, Vec<String>>,
    complete: bool,
}

impl Report {
    /// Sorts the lines into their sections.
    pub fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            if line == "end" {
                report.complete = true;
            } else if line == "again" {
                // Of a soft-reboot: what it looks like now counts, and what was checked before as well.
                report.sections.retain(|section, _| section.starts_with(CHECKS));
            } else if let Some((section, text)) = line.split_once('\t') {
                report.sections.entry(section.to_owned()).or_default().push(text.to_owned());
            }
        }
        report
    }

    /// Whether the guest said everything it wanted to say.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// A section's lines; none if the guest did not send it.
    pub fn lines(&self, section: &str) -> &[String] {
        self.sections.get(section).map_or(&[], Vec::as_slice)
    }

    /// A section's first line.
    pub fn line(&self, section: &str) -> Option<&str> {
        self.lines(section).first().map(String::as_str)
    }

    /// The guest's mounts.
    pub fn mounts(&self) -> Result<Mounts> {
        Mounts::parse(self.lines("mountinfo"))
    }

    /// `CHECKSUM.SERIAL` of the deployment that `ostree admin status` marks as booted.
    pub fn booted_deployment(&self) -> Option<&str> {
        self.booted().map(|(_, deployment)| deployment)
    }

    /// The same, after its stateroot.
    pub fn booted(&self) -> Option<(&str, &str)> {
        let mut words = self.lines("status").iter().find_map(|line| line.strip_prefix("* "))?.split(' ');
        Some((words.next()?, words.next()?))
    }

    /// `/run/ostree-booted`, from the hexadecimal dump of it.
    pub fn booted_file(&self) -> Result<BootedFile> {
        let digits = self.lines("booted").iter().flat_map(|line| line.split_whitespace());
        let bytes = digits.map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>();
        Ok(BootedFile(
            bytes.with_context(|| format!("/run/ostree-booted: {}", self.lines("booted").join(" ")))?,
        ))
    }

    /// The line with which our program ends its work, without what the kernel puts before it.
    pub fn final_line(&self) -> Option<&str> {
        let line = self.lines("log").iter().find(|line| line.contains("is the new root at"))?;
        line.split_once("] ").map(|(_, text)| text)
    }

    /// What our program says it took, from `(812 us)` at the end of its last line.
    pub fn own_time(&self) -> Option<&str> {
        let (_, time) = self.final_line()?.rsplit_once('(')?;
        time.strip_suffix(')')
    }

    /// Lines of our program in the kernel log that are a warning or worse.
    pub fn kernel_log_warnings(&self) -> Result<Vec<&str>> {
        let mut warnings = Vec::new();
        for line in self.lines("log") {
            let priority = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            let (priority, _) = priority.with_context(|| format!("no level in kernel log line '{line}'"))?;
            let priority: u32 = priority.parse().with_context(|| format!("level of '{line}'"))?;
            // The low three bits are the level, 4 is a warning; the rest tell where it came from.
            if priority & 7 <= 4 {
                warnings.push(line.as_str());
            }
        }
        Ok(warnings)
    }
}

/// The bytes of `/run/ostree-booted`, a serialised GVariant `a{sv}`.
#[derive(Debug)]
pub struct BootedFile(Vec<u8>);

impl BootedFile {
    /// Whether it has an entry of this name.
    pub fn has_key(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The value of an entry, if that is a boolean.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            // The value, then a NUL and its type.
            [value, 0, b'b', ..] => Some(*value != 0),
            _ => None,
        }
    }

    /// What follows a key and its NUL. Keys and values begin at a multiple of eight.
    fn value(&self, key: &str) -> Option<&[u8]> {
        let key = [key.as_bytes(), b"\0"].concat();
        let start = (0..self.0.len()).step_by(8).find(|at| self.0[*at..].starts_with(&key))?;
        self.0.get(start + key.len().next_multiple_of(8)..)
    }

    /// `DEVICE INODE` of the deployment's directory.
    ///
    /// It is the first entry, so that its place is fixed: the key and its NUL, then two 64-bit numbers.
    pub fn device_inode(&self) -> Option<String> {
        const KEY: &[u8] = b"backing-root-device-inode\0";
        let rest = self.0.strip_prefix(KEY)?;
        let numbers = rest.get(KEY.len().next_multiple_of(8) - KEY.len()..)?;
        let (device, numbers) = numbers.split_first_chunk()?;
        let (inode, _) = numbers.split_first_chunk()?;
        Some(format!("{} {}", u64::from_le_bytes(*device), u64::from_le_bytes(*inode)))
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    const TEXT: &str = "state\trunning\n\
        log\t<14>[    9.1] ostree-prepare-root[97]: debian 1a2b3c4d5e6f.0 is the new root at /sysroot (812 us)\n\
        log\t<12>[    9.2] ostree-prepare-root[97]: hm\n\
        status\t  debian 77.0 (rollback)\nstatus\t* debian 1a2b.0 (pending)\n";

    #[test]
    fn a_report_without_its_end_is_not_complete() {
        assert!(!Report::parse(TEXT).is_complete());
        assert!(!Report::parse(&format!("{TEXT}sta")).is_complete());
        assert!(Report::parse(&format!("{TEXT}end\n")).is_complete());
    }

    #[test]
    fn after_a_soft_reboot_it_reports_anew() {
        let text = "state\trunning\ncheck\tok\tx\nagain\nstate\tdegraded\ncheck\tok\ty\nend\n";
        let report = Report::parse(text);
        assert!(report.is_complete());
        assert_eq!(report.lines("state"), ["degraded"]);
        assert_eq!(report.lines("check"), ["ok\tx", "ok\ty"]);
    }

    #[test]
    fn the_booted_deployment_is_the_marked_one() {
        assert_eq!(Report::parse(TEXT).booted(), Some(("debian", "1a2b.0")));
    }

    #[test]
    fn the_root_is_found_in_the_booted_file() {
        let dump = "booted\t 62 61 63 6b 69 6e 67 2d 72 6f 6f 74 2d 64 65 76\n\
            booted\t 69 63 65 2d 69 6e 6f 64 65 00 00 00 00 00 00 00\n\
            booted\t 00 fe 00 00 00 00 00 00 25 00 00 00 00 00 00 00\n";
        let file = Report::parse(dump).booted_file().expect("hexadecimal");
        assert_eq!(file.device_inode().as_deref(), Some("65024 37"));
        assert!(Report::parse("booted\tod: no such file\n").booted_file().is_err());
    }

    #[test]
    fn keys_are_found_whole() {
        let text = "composefs.signed\0\0\0\0\0\0\0\0/key\0\0s\x11composefs\0\0\0\0\0\0\0\x01\0b";
        let dump = text.bytes().map(|byte| format!(" {byte:02x}")).collect::<String>();
        let file = Report::parse(&format!("booted\t{dump}\n")).booted_file().expect("hexadecimal");
        assert!(file.has_key("composefs.signed"));
        assert_eq!(file.boolean("composefs.signed"), None);
        assert_eq!(file.boolean("composefs"), Some(true));
        assert!(!file.has_key("signed"));
        assert!(!file.has_key("compose"));
    }

    #[test]
    fn the_log_is_read() {
        let report = Report::parse(TEXT);
        assert_eq!(report.own_time(), Some("812 us"));
        assert_eq!(report.kernel_log_warnings().map(|lines| lines.len()).ok(), Some(1));
    }
}
