//! Names: what `ostree=` asks for, and where a boot link leads.
//!
//! The input is the value of `ostree=`, a NUL, and the text of the link.

use prepare_root::boot_link::BootLink;
use prepare_root::cmdline::Cmdline;
use prepare_root::name::Name;
use prepare_root::selector::Selector;

/// One input.
pub fn run(bytes: &[u8]) {
    let split = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (value, text) = (&bytes[..split], bytes.get(split + 1..).unwrap_or_default());
    let cmdline = Cmdline::new([b"quiet ostree=\"", value, b"\" rw"].concat());
    if let Ok(link) = cmdline.link(true) {
        assert!(!link.path().is_empty() && !link.path().starts_with(b"/"));
        assert!(printable(&link.to_string()));
        assert!(value.contains(&b'"') || value.ends_with(link.path()));
    } else {
        // Only a value without a name is refused: what it leads to is for the disk to say.
        assert!(value.contains(&b'"') || value.iter().all(|byte| *byte == b'/'));
    }
    let _ = cmdline.generator_reading();
    for path in [value, text] {
        let Some(link) = BootLink::parse(path) else { continue };
        assert!(printable(&link.to_string()));
        assert_eq!(BootLink::parse(&link.path()), Some(link.clone()));
        for other in link.under_other_versions() {
            assert!(other.version != link.version && other.bootcsum == link.bootcsum);
        }
    }

    for path in [text, target_path(text).as_slice()] {
        let Some(name) = Name::from_path(path) else { continue };
        assert_eq!(name.path(), path);
        assert!(printable(&name.to_string()));
        assert_eq!(Name::from_path(&name.path()), Some(name.clone()));
        assert!(!name.stateroot.contains(&b'/') && !name.directory.contains(&b'/'));
        assert!(name.var_path().ends_with(b"/var"));
        let digits =
            |checksum: String| checksum.len() == 64 && checksum.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(name.checksum().is_none_or(digits));
        let selector = std::str::from_utf8(value).ok().and_then(Selector::parse);
        if let Some(selector) = selector {
            assert!(printable(&selector.to_string()), "{selector}");
            let _ = selector.means(0, &name);
        }
    }
}

/// Where a link in `ostree/boot.N/STATEROOT/BOOTCSUM` leads, if it is one of OSTree's.
fn target_path(text: &[u8]) -> Vec<u8> {
    [b"ostree/", text.strip_prefix(b"../../../").unwrap_or(text)].concat()
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}
