//! The command line.

use crate::compare::Part;
use crate::generator::Generator;
use crate::namespaces::Selection;
use crate::product::Program;
use crate::suite::Suite;
use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt};
use std::num::NonZero;
use std::time::Duration;

/// What to do.
pub enum Command {
    /// Boot once and show what came of it.
    Boot {
        /// The Debian release.
        suite: Suite,
        /// Whether the console is shown while it runs.
        console: bool,
        /// What makes its initramfs.
        generator: Generator,
        /// Kernel arguments to add.
        kargs: Vec<String>,
    },
    /// Run scenarios; the core ones if none is named.
    Test {
        /// Parts of their names, or `core`, `cells`, `others`, `all`.
        names: Vec<String>,
    },
    /// Run the cells of the matrix, show them as a table, and write that down.
    Matrix {
        /// Only those whose names have one of these texts; then nothing is written down.
        only: Vec<String>,
    },
    /// Run the stories of whole lives, show them as a table, and write that down, each in its section.
    Lifecycle {
        /// Only those whose names have one of these texts, or `core`; of those nothing is written down.
        only: Vec<String>,
    },
    /// Run the namespace tests in guests.
    Namespaces(Selection),
    /// Try the dracut module on every suite's dracut and kernel.
    Initramfs,
    /// Measure the time until init with every initramfs, and write it down.
    BootTimes,
    /// Measure our program beside libostree's, in these ways, and write it down.
    Compare(Vec<Part>),
    /// Show the scenarios.
    List,
    /// Show how to use the program.
    Help,
}

/// The command and the options all commands share.
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// Whose program is in the initramfs.
    pub program: Program,
    /// The longest a boot may take.
    pub limit: Duration,
    /// How many scenarios run at a time; as many as the machine can take if nobody said.
    pub jobs: Option<NonZero<usize>>,
}

/// How to use the program.
pub const HELP: &str = "\
usage: prepare-root-qemu boot [--suite trixie|forky] [--console] [--karg ARGUMENT]...
                              [--generator dracut|dracut-shell|initramfs-tools|solo|no-initramfs]
       prepare-root-qemu test [TEXT|core|cells|others|all]...
       prepare-root-qemu matrix [TEXT]...
       prepare-root-qemu lifecycle [core|TEXT]...
       prepare-root-qemu initramfs
       prepare-root-qemu namespaces [core|all]
       prepare-root-qemu boot-times
       prepare-root-qemu compare [boots|images|binary]...
       prepare-root-qemu list

boot boots one system and shows what became of it, test judges scenarios (by default the core ones; cells are those of the matrix, others are not), matrix judges all
cells, or those with a text in their names, and prints a table (all cells: also docs/boot-matrix.md), lifecycle has systems live through upgrades and whatever else happens, and prints a
table (but for core: docs/lifecycle.md too), initramfs runs the test.sh of dracut/, initramfs-tools/ and mkinitrd/ with the systems
of every suite, namespaces runs the tests of tests/compare, tests/behaviour and tests/faults inside Linux 6.1
and 6.12, boot-times measures how long boots take until init and writes docs/benchmarks.md, compare does the same for our program
beside libostree's (in boots, in the size of an initramfs, and what fills our program), list shows the scenarios.

  --program ours|libostree   whose ostree-prepare-root boots (default: ours)
  --timeout SECONDS          the longest a boot may take, for arm64 twice that (default: 300)
  --jobs NUMBER              how many scenarios run at a time (default: 2 if memory allows)

environment: PREPARE_ROOT_CACHE  where disks and logs are kept (default: target/qemu-cache)
             PREPARE_ROOT_BIN    a program for amd64 that is built already (default: run `make build`)
             MIRROR              the Debian mirror (default: the suite's)";

/// Reads the arguments.
pub fn read(mut parser: Parser) -> Result<Invocation> {
    let mut words: Vec<String> = Vec::new();
    let (mut suite, mut generator, mut program) = (None, None, Program::Ours);
    let (mut limit, mut jobs) = (300, None);
    let (mut console, mut kargs, mut help) = (false, Vec::new(), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("suite") => suite = Some(Suite::parse(&parser.value()?.string()?)?),
            Arg::Long("generator") => generator = Some(Generator::parse(&parser.value()?.string()?)?),
            Arg::Long("jobs") => jobs = Some(parser.value()?.parse().context("--jobs")?),
            Arg::Long("program") => program = Program::parse(&parser.value()?.string()?)?,
            Arg::Long("timeout") => limit = parser.value()?.parse().context("--timeout")?,
            Arg::Long("console") => console = true,
            Arg::Long("karg") => kargs.push(parser.value()?.string()?),
            Arg::Long("help") | Arg::Short('h') => help = true,
            Arg::Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if kargs.iter().any(|karg| karg.contains(char::is_whitespace)) {
        bail!("--karg takes one kernel argument, without spaces");
    }
    let mut words = words.into_iter();
    let verb = words.next();
    let command = match verb.as_deref() {
        _ if help => Command::Help,
        Some("boot") => Command::Boot {
            suite: suite.unwrap_or(Suite::Trixie),
            generator: generator.unwrap_or(Generator::Dracut),
            console,
            kargs,
        },
        Some(_) if suite.is_some() || generator.is_some() || console || !kargs.is_empty() => bail!("{HELP}"),
        Some("test") => Command::Test { names: words.by_ref().collect() },
        Some("matrix") => Command::Matrix { only: words.by_ref().collect() },
        Some("initramfs") => Command::Initramfs,
        Some("lifecycle") => Command::Lifecycle { only: words.by_ref().collect() },
        Some("boot-times") => Command::BootTimes,
        Some("compare") => {
            let parts = words.by_ref().map(|word| Part::parse(&word)).collect::<Result<Vec<_>>>()?;
            Command::Compare(if parts.is_empty() { Part::ALL.to_vec() } else { parts })
        }
        Some("namespaces") => Command::Namespaces(match words.next().as_deref() {
            None | Some("core") => Selection::Core,
            Some("all") => Selection::All,
            Some(word) => bail!("what is '{word}'?\n{HELP}"),
        }),
        Some("list") => Command::List,
        _ => bail!("{HELP}"),
    };
    if let Some(word) = words.next() {
        bail!("what is '{word}'?\n{HELP}");
    }
    Ok(Invocation { command, program, limit: Duration::from_secs(limit), jobs })
}
