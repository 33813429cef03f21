//! The fuzz targets, run on what the fuzzer found before (`fuzz/corpus`): a trial for each.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Names the target, in a child: namespaces belong to the first thread of a process.
const TARGET: &str = "PREPARE_ROOT_REPLAY";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(TARGET) {
        let target = fuzz::TARGETS.iter().find(|(its, _)| *its == name).expect("a target");
        inputs(&name).iter().for_each(|input| replay(target.1, input));
        return ExitCode::SUCCESS;
    }
    let trial =
        |(name, _): (&'static str, _)| Trial::ignorable_test(format!("replay: {name}"), move || start(name));
    libtest_mimic::run(&Arguments::from_args(), fuzz::TARGETS.into_iter().map(trial).collect()).exit_code()
}

fn start(name: &str) -> Result<Completion, Failed> {
    if name == "sysroot" && !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("only root can mount"));
    }
    if inputs(name).is_empty() {
        return Err("its corpus is empty".into());
    }
    let output = Command::new("/proc/self/exe").env(TARGET, name).output()?;
    if output.status.success() {
        return Ok(Completion::Completed);
    }
    Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

fn replay(target: fuzz::Target, input: &Path) {
    // The last one said is the one that failed, be it by a panic or by a signal.
    eprintln!("{}", input.display());
    target(&std::fs::read(input).expect("read an input"));
}

fn inputs(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
