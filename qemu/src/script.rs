//! Runs the commands that build things, each with its output in a log.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Lines of a log that are shown when its command fails.
const TAIL: usize = 30;

/// Runs `command` with everything it prints in `log`; shows the log's end if it fails.
pub fn run(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program}: {status}; {} ends with:\n{}", log.display(), tail(log)?);
    }
    Ok(())
}

/// A shell script, from its text, in a mount namespace of its own: whatever it mounts is gone
/// when it ends, however it ends.
pub fn in_mount_namespace<S: AsRef<OsStr>>(text: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "--", "sh", "-c", text, "sh"]).args(arguments);
    command
}

/// The last lines of a file.
pub fn tail(path: &Path) -> Result<String> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("    {line}\n")).collect())
}
