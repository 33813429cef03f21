//! A kernel command line of any contents.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prepare_root::cmdline::Cmdline;
use prepare_root::config::Config;

fuzz_target!(|bytes: &[u8]| {
    let cmdline = Cmdline::new(bytes);
    let arguments: Vec<_> = cmdline.arguments().collect();
    if !bytes.contains(&b'"') {
        // Without quotes it is words, and names end at the first equals sign.
        let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let expected = words.map(|word| match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        });
        assert!(arguments.iter().copied().eq(expected));
    }
    match cmdline.target(true) {
        Ok(target) => {
            assert!(!target.path().is_empty() && !target.path().starts_with(b"/"));
            assert!(target.to_string().is_ascii());
        }
        Err(error) => assert!(Config::parse(&cmdline, "the file", b"").is_err(), "{error}"),
    }
    let _ = cmdline.generator_reading();
});
