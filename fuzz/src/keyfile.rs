//! `prepare-root.conf` of any contents: what is read comes out again when it is written.

use prepare_root::cmdline::Cmdline;
use prepare_root::config::Config;
use prepare_root::keyfile::{self, KeyFile};

/// One input.
pub fn run(bytes: &[u8]) {
    let config = Config::parse(&Cmdline::new("ostree=/ostree/boot.1/x/y/0"), "the file", bytes);
    let file = match KeyFile::parse(bytes) {
        Ok(file) => file,
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            assert!(config.is_err());
            return;
        }
    };
    let mut again = String::new();
    for entry in file.entries() {
        // Carriage returns at the end of a value are part of it, but for the one of the line's end.
        again += &format!("[{}]\r\n{}={}\r\n", entry.group, entry.key, entry.value);
        assert!(file.get(entry.group, entry.key).is_some());
        let _ = keyfile::boolean(entry.value);
    }
    let again = KeyFile::parse(again.as_bytes()).expect("what was read can be read again");
    let said = |file: &KeyFile<'_>| -> Vec<_> {
        file.entries().map(|entry| [entry.group, entry.key, entry.value].map(str::to_owned)).collect()
    };
    assert_eq!(said(&again), said(&file));
}
