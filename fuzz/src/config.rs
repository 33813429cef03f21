//! A kernel command line and a configuration file together: what the file locks stays locked.
//!
//! The input is the command line, a NUL, and the file.

use prepare_root::cmdline::{Cmdline, Target};
use prepare_root::config::{BootLinks, Config, Fallback, Overrides};

/// One input.
pub fn run(bytes: &[u8]) {
    let split = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (cmdline, file) = (&bytes[..split], bytes.get(split + 1..).unwrap_or_default());
    let config = match Config::parse(&Cmdline::new(cmdline), "the file", file) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.bytes().all(|byte| byte == b'\n' || byte == b' ' || byte.is_ascii_graphic()),
                "{text}"
            );
            return;
        }
    };
    // The same file, and nobody who asks for anything else.
    let Ok(alone) = Config::parse(&Cmdline::new("ostree=/x"), "the file", file) else {
        assert!(config.overrides == Overrides::All, "an argument mended what it must not change");
        return;
    };
    assert!(config.keypath.starts_with('/') && config.keypath == alone.keypath);
    assert_eq!(config.overrides, alone.overrides);
    if config.overrides == Overrides::Safe {
        let (found, least) = (config.composefs, alone.composefs);
        assert!(
            found.enabled >= least.enabled && found.verity >= least.verity && found.signed >= least.signed
        );
        assert!(alone.sysroot_readonly != Some(true) || config.sysroot_readonly == Some(true));
    }
    // What is asked for is not for the file to say.
    let asked = Config {
        target: alone.target.clone(),
        generator: alone.generator.clone(),
        booted: alone.booted.clone(),
        ..config.clone()
    };
    match config.overrides {
        Overrides::All => {}
        Overrides::None => assert_eq!(asked, alone),
        // Nor what no value makes safer.
        Overrides::Safe => {
            let (composefs, sysroot_readonly) = (alone.composefs, alone.sysroot_readonly);
            let (boot_links, fallback) = (alone.boot_links, alone.fallback);
            assert_eq!(Config { composefs, sysroot_readonly, boot_links, fallback, ..asked }, alone);
            assert!(alone.boot_links != BootLinks::Strict || config.boot_links == BootLinks::Strict);
            assert!(alone.fallback != Fallback::None || config.fallback == Fallback::None);
            assert!(matches!(config.target, Target::Link(_)), "another deployment was chosen");
        }
    }
}
