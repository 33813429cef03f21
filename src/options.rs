//! The program's own command line.

use crate::config::{Break, Origin};
use crate::error::{Class, Error, Result, printable};
use crate::kernel::{Ability, Kernel};
use alloc::string::String;
use alloc::vec::Vec;
use getargs::Arg::{Long, Positional, Short};

/// One line, shown with every usage error.
pub const USAGE: &str =
    "usage: ostree-prepare-root [--dry-run|--explain [--json]] [--without FEATURE] SYSROOT [KERNEL_CMDLINE]";

/// The answer to `--help`.
pub const HELP: &str = "\
usage: ostree-prepare-root [OPTION]... SYSROOT [KERNEL_CMDLINE]

Makes the OSTree deployment that ostree= names the root directory of the system
about to boot. SYSROOT is where the initramfs mounted the physical root, usually
/sysroot. KERNEL_CMDLINE is used in place of /proc/cmdline.

  --dry-run           print what would be mounted, change nothing
  --explain           print what is asked for, what there is and what to do, change nothing
  --json              with --dry-run or --explain: print it for programs
  --without FEATURE   do without a kernel feature: detached-tree (6.15),
                      layer-handles (6.13), file-backed-erofs (6.12), appended-layers
                      (6.7), data-only-layers, beneath (6.5); may be given more than once
  --unless-booted     do nothing if an earlier run made a deployment the root, whichever
  --break-at POINT    only say, by exit status 0, that ostree.prepare-root.break= asks for a
                      shell at POINT: before or after; takes KERNEL_CMDLINE only
  --check-config FILE only read FILE as the configuration, and say what is wrong with it
  --help, --version   print this, or the version

Configuration:   /etc/ostree/prepare-root.conf, else /usr/lib/ostree/prepare-root.conf
Kernel arguments: ostree=  androidboot.slot_suffix=  ostree.prepare-root.composefs=
                  ostree.prepare-root.GROUP.KEY=  as in the configuration
                  ostree.prepare-root.deployment=INDEX|CHECKSUM|STATEROOT/CHECKSUM.SERIAL
                  ostree.prepare-root.break=before|after  ostree.prepare-root.debug
                  ostree.prepare-root.log=debug|info|warn|error
Exit status: 0 done; 2 usage; 3 not permitted; 4 kernel command line; 5 configuration;
             6 SYSROOT; 7 no such deployment; 8 deployment incomplete; 9 not supported;
             10 mount failed; 11 /run; 12 a failure could not be undone;
             13 a signature or digest is wrong or missing
";

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
    /// Read this configuration file and say what is wrong with it.
    CheckConfig(Vec<u8>),
    /// Say whether a shell is asked for at that point, on this command line or the kernel's.
    BreakAt(Break, Option<Vec<u8>>),
    /// Explain.
    Explain(Options),
    /// Prepare the root.
    Prepare(Options),
}

/// The arguments of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the physical root is mounted.
    pub sysroot: Vec<u8>,
    /// Replaces the contents of `/proc/cmdline`.
    pub cmdline: Option<Vec<u8>>,
    /// Print the plan and change nothing.
    pub dry_run: bool,
    /// Do nothing if some deployment is the root already.
    pub unless_booted: bool,
    /// Print as JSON.
    pub json: bool,
    /// Where the configuration is.
    pub origin: Origin,
    /// Kernel features that may be used.
    pub kernel: Kernel,
}

impl Options {
    /// Everything as usual.
    pub fn of(sysroot: impl Into<Vec<u8>>) -> Options {
        Options {
            sysroot: sysroot.into(),
            cmdline: None,
            dry_run: false,
            unless_booted: false,
            json: false,
            origin: Origin::Initramfs,
            kernel: Kernel::NEWEST,
        }
    }
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// [`Class::Usage`], with the right form.
pub fn parse(arguments: &[Vec<u8>]) -> Result<Invocation> {
    parse_arguments(arguments)
        .map_err(|wrong| Error::found(Class::Usage, "read the command line", wrong).hint(USAGE))
}

fn parse_arguments(arguments: &[Vec<u8>]) -> Result<Invocation, String> {
    let mut parser = getargs::Options::new(arguments.iter().map(Vec::as_slice));
    let mut positional = Vec::new();
    let (mut dry_run, mut explain, mut json, mut kernel) = (false, false, false, Kernel::NEWEST);
    let (mut unless_booted, mut break_at) = (false, None);
    while let Some(argument) = parser.next_arg().map_err(wrong)? {
        match argument {
            Long(b"help") | Short(b'h') => return Ok(Invocation::Help),
            Long(b"version") => return Ok(Invocation::Version),
            Long(b"check-config") => {
                return Ok(Invocation::CheckConfig(parser.value().map_err(wrong)?.to_vec()));
            }
            Long(b"break-at") => {
                let point = parser.value().map_err(wrong)?;
                let point = Break::parse(point).ok_or("--break-at takes before or after")?;
                break_at = Some(point);
            }
            Long(b"unless-booted") => unless_booted = true,
            Long(b"dry-run") => dry_run = true,
            Long(b"explain") => explain = true,
            Long(b"json") => json = true,
            Long(b"without") => {
                match str::from_utf8(parser.value().map_err(wrong)?).ok().and_then(Ability::named) {
                    Some(ability) => kernel.forget(ability),
                    None => return Err("--without takes a feature that --help lists".into()),
                }
            }
            Positional(value) => positional.push(value.to_vec()),
            Long(name) => return Err(format!("unknown option --{}", printable(name))),
            Short(name) => return Err(format!("unknown option -{}", printable(&[name]))),
        }
    }
    if json && !dry_run && !explain {
        return Err("--json goes with --dry-run or --explain".into());
    }
    if dry_run && explain {
        return Err("--dry-run and --explain exclude each other".into());
    }
    let mut positional = positional.into_iter();
    if let Some(point) = break_at {
        return match (positional.next(), positional.next()) {
            (cmdline, None) => Ok(Invocation::BreakAt(point, cmdline)),
            _ => Err("more than one argument".into()),
        };
    }
    let (sysroot, cmdline) = match (positional.next(), positional.next(), positional.next()) {
        (Some(sysroot), cmdline, None) => (sysroot, cmdline),
        (None, ..) => return Err("SYSROOT is missing".into()),
        _ => return Err("more than two arguments".into()),
    };
    let options = Options { cmdline, dry_run, unless_booted, json, kernel, ..Options::of(sysroot) };
    Ok(if explain { Invocation::Explain(options) } else { Invocation::Prepare(options) })
}

/// What is wrong with the value of an option.
fn wrong(error: getargs::Error<&[u8]>) -> String {
    let (option, what) = match error {
        getargs::Error::RequiresValue(option) => (option, "needs a value"),
        getargs::Error::DoesNotRequireValue(option) => (option, "takes no value"),
        _ => return "an argument is not understood".into(),
    };
    match option {
        getargs::Opt::Long(name) => format!("--{} {what}", printable(name)),
        getargs::Opt::Short(name) => format!("-{} {what}", printable(&[name])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(arguments: &[&str]) -> Result<Invocation> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|&argument| argument.into()).collect();
        parse(&arguments)
    }

    #[test]
    fn libostree_s_two_forms() {
        let options = |cmdline: Option<&str>| {
            Invocation::Prepare(Options {
                cmdline: cmdline.map(|c| c.as_bytes().to_vec()),
                ..Options::of("/sysroot")
            })
        };
        assert_eq!(parse_all(&["/sysroot"]), Ok(options(None)));
        assert_eq!(parse_all(&["/sysroot", "quiet ostree=/x"]), Ok(options(Some("quiet ostree=/x"))));
    }

    #[test]
    fn wrong_use_is_a_usage_error_that_says_the_right_form() {
        for wrong in [
            &[][..],
            &["a", "b", "c"],
            &["--frob", "a"],
            &["--json", "a"],
            &["--without", "x", "a"],
            &["--explain", "--dry-run", "a"],
            &["--break-at", "never"],
            &["--break-at", "after", "a", "b"],
        ] {
            let error = parse_all(wrong).expect_err("accepted");
            assert_eq!(error.class(), Class::Usage);
            assert!(error.to_string().ends_with(USAGE), "{error}");
        }
    }
}
