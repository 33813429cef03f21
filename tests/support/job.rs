//! The test binary as its own child: one process, and one mount namespace, for one task.

use super::failure::{Context, Result};
use super::race::{Ends, Race};
use super::sandbox::{Outcome, Run, Sandbox};
use super::sysroots::Recipe;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

/// Set in a child; the task itself comes on standard input.
const MARK: &str = "PREPARE_ROOT_TEST_CHILD";

#[derive(Serialize, Deserialize)]
enum Job {
    Run(Box<Sandbox>),
    Scenes(Box<Sandbox>, Vec<Vec<Run>>),
    Make(Recipe),
    Race(Box<Race>),
}

/// In a child, carries its task out. In the parent, `None`.
pub fn child() -> Option<ExitCode> {
    std::env::var_os(MARK)?;
    let result =
        serde_json::from_reader(std::io::stdin()).context("read the task").and_then(|job| match job {
            Job::Run(sandbox) => sandbox.enter().and_then(|outcome| to_json(&outcome)),
            Job::Scenes(sandbox, scenes) => {
                sandbox.enter_for(&scenes).and_then(|outcomes| to_json(&outcomes))
            }
            Job::Make(recipe) => recipe.carry_out().and_then(|()| to_json(&())),
            Job::Race(race) => race.carry_out().and_then(|ends| to_json(&ends)),
        });
    match result {
        Ok(answer) => {
            println!("{answer}");
            Some(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{error}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).context("write the answer")
}

/// Runs what is to be run in `sandbox`, in a child.
pub fn run(sandbox: Sandbox) -> Result<Outcome> {
    start(&Job::Run(Box::new(sandbox)))
}

/// Plays these scenes in `sandbox`, in a child.
pub fn play(sandbox: Sandbox, scenes: Vec<Vec<Run>>) -> Result<Vec<Outcome>> {
    start(&Job::Scenes(Box::new(sandbox), scenes))
}

/// Makes a disk image, in a child.
pub fn make(recipe: Recipe) -> Result<()> {
    start(&Job::Make(recipe))
}

/// Runs a program again and again while its disk changes, in a child.
pub fn race(race: Race) -> Result<Ends> {
    start(&Job::Race(Box::new(race)))
}

fn start<T: DeserializeOwned>(job: &Job) -> Result<T> {
    let mut child = Command::new("/proc/self/exe")
        .env(MARK, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start a child")?;
    let task = to_json(job)?;
    let mut stdin = child.stdin.take().context("talk to the child")?;
    stdin.write_all(task.as_bytes()).context("talk to the child")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for the child")?;
    if !output.status.success() {
        return Err(format!("in the sandbox: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    serde_json::from_slice(&output.stdout).context("read the child's answer")
}
