//! The disk of the guest that runs the namespace tests: Debian's tools, modules for every kernel, our
//! program, the tests, and what the tests keep in their cache.

use crate::cache::{Cache, Key, Workplace};
use crate::kernel;
use crate::product::Product;
use crate::progress::Progress;
use crate::script;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The test binaries, in the order in which they run.
pub const TESTS: [&str; 3] = ["compare", "behaviour", "faults"];

/// A trial that needs everything there is in the cache of the tests.
const GREEDY: &str = "signed: all is well: private 7.2";

/// The guest's init, on the disk.
pub const INIT: &str = "/tests/init";

const INIT_SCRIPT: &str = include_str!("../guest/tests.sh");
const DISK_SCRIPT: &str = include_str!("../tree/testbed.sh");

/// The release of Debian with the tools, and the packages with what init and the tests call.
const RELEASE: &str = "trixie";
const PACKAGES: &str =
    "base-files,dash,coreutils,mount,util-linux,kmod,e2fsprogs,btrfs-progs,busybox-static,strace,libc-bin";

/// Makes the disk.
pub struct Builder<'a> {
    /// Where finished pieces are.
    pub cache: &'a Cache,
    /// Where steps are announced.
    pub progress: &'a Progress,
    /// What is tested.
    pub product: &'a Product,
    /// The workspace.
    pub workspace: &'a Path,
    /// Where the output of commands goes.
    pub logs: &'a Path,
}

impl Builder<'_> {
    /// Makes the disk in `place`, for these unpacked kernels. It is not kept: it is made in seconds.
    pub fn disk(&self, place: &Workplace, kernels: &[PathBuf]) -> Result<PathBuf> {
        let tests = place.join("tests");
        fs::create_dir_all(tests.join("cache")).context("create a directory")?;
        self.progress.step("building the namespace tests, static", || self.build(&tests))?;
        fs::copy(self.product.program(), tests.join("ostree-prepare-root")).context("copy our program")?;
        let init = tests.join("init");
        fs::write(&init, INIT_SCRIPT).context("write the guest's init")?;
        self.command("chmod", |command| command.arg("755").arg(&init))?;
        self.progress.step("making what the tests keep in their cache", || self.fill(place, &tests))?;
        let packages = self.packages()?;
        let disk = place.join("disk.img");
        self.progress.step("making the disk", || {
            let mut command =
                script::in_mount_namespace(DISK_SCRIPT, [&packages, &tests, &place.join("tree"), &disk]);
            script::run(command.args(kernels), &self.logs.join("disk.log"))
        })?;
        Ok(disk)
    }

    /// Builds the tests, and copies them to `folder`: static, so that they suit any Debian.
    fn build(&self, folder: &Path) -> Result<()> {
        let messages = self.logs.join("tests-build.json");
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(self.workspace);
        command.args(["test", "--no-run", "--locked", "--package", "prepare-root", "--profile", "guest"]);
        command.args(TESTS.iter().flat_map(|name| ["--test", name]));
        command.args(["--target", &format!("{}-unknown-linux-musl", std::env::consts::ARCH)]);
        command.arg("--message-format=json-render-diagnostics");
        command.arg("--target-dir").arg(self.workspace.join("target"));
        script::run(&mut command, &messages).context("build the tests")?;
        let mut found = Vec::new();
        for line in BufReader::new(File::open(&messages)?).lines() {
            // What is not JSON is for people.
            let Ok(message) = serde_json::from_str::<serde_json::Value>(&line?) else { continue };
            let target = &message["target"];
            if let (Some("test"), Some(name), Some(path)) =
                (target["kind"][0].as_str(), target["name"].as_str(), message["executable"].as_str())
            {
                fs::copy(path, folder.join(name)).with_context(|| format!("copy {path}"))?;
                found.push(name.to_owned());
            }
        }
        found.sort();
        let mut expected = TESTS;
        expected.sort_unstable();
        ensure!(found == expected, "cargo built the tests {found:?}");
        Ok(())
    }

    /// Fills the cache of the tests by a trial here: in the guest there is neither a mirror nor time.
    /// Copies what the trial used to `tests`.
    fn fill(&self, place: &Workplace, tests: &Path) -> Result<()> {
        let list = place.join("pieces");
        let mut command = Command::new(tests.join("behaviour"));
        command.args(["--exact", GREEDY]).env("PREPARE_ROOT_PIECES", &list);
        command.env("PREPARE_ROOT_BIN", self.product.program());
        let log = self.logs.join("fill.log");
        script::run(&mut command, &log)?;
        ensure!(fs::read_to_string(&log)?.contains("ok. 1 passed"), "there is no trial '{GREEDY}'");
        let list = fs::read_to_string(&list).context("read what was used")?;
        self.command("cp", |command| {
            command.args(["-a", "--sparse=always"]).args(list.lines()).arg(tests.join("cache"))
        })
    }

    /// The directory with Debian's tools.
    fn packages(&self) -> Result<PathBuf> {
        let key = Key::new("testbed").with("packages", PACKAGES).finish();
        let name = format!("testbed-{RELEASE}-{key}");
        let packages = self.cache.piece(&name);
        if packages.exists() {
            return Ok(packages);
        }
        let place = self.cache.workplace()?;
        let made = place.join("packages");
        self.progress.step("unpacking the guest's tools (mmdebstrap)", || {
            let mut command = kernel::extraction(RELEASE, PACKAGES, &place, &made);
            script::run(&mut command, &self.logs.join("packages.log"))
        })?;
        self.cache.publish(&made, &name)
    }

    fn command(&self, program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let mut command = Command::new(program);
        script::run(arguments(&mut command), &self.logs.join(format!("{program}.log")))
    }
}

/// The kernel itself, of an unpacked package.
pub fn image(kernel: &Path) -> Result<PathBuf> {
    let boot = kernel.join("boot");
    for entry in fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vmlinuz-") {
            return Ok(entry.path());
        }
    }
    bail!("there is no kernel in {}", boot.display())
}
