//! A kernel command line of any contents.

use prepare_root::cmdline::Cmdline;
use prepare_root::config::Config;

/// One input.
pub fn run(bytes: &[u8]) {
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
    match cmdline.link(true) {
        Ok(link) => {
            assert!(!link.path().is_empty() && !link.path().starts_with(b"/"));
            assert!(link.to_string().is_ascii());
        }
        Err(error) => {
            // A deployment can be asked for without a link.
            let chosen = cmdline.value("ostree.prepare-root.deployment").is_some();
            assert!(chosen || Config::parse(&cmdline, "the file", b"").is_err(), "{error}");
        }
    }
    let _ = cmdline.booted();
    let _ = cmdline.generator_reading();
}
