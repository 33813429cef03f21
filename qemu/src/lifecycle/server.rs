//! A web server on the host's loopback.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The host, for a guest.
const HOST: &str = "10.0.2.2";

/// One that runs until the value is dropped.
pub struct Server {
    process: Child,
    url: String,
    log: PathBuf,
}

impl Server {
    /// Starts one that serves a directory.
    pub fn start(directory: &Path, logs: &Path) -> Result<Self> {
        let log = logs.join("server.log");
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // Should we be killed, it does not stay behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "python3", "-u", "-m", "http.server"]);
        command.args(["--bind", "127.0.0.1", "--directory"]).arg(directory).arg("0");
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .context("start python3 -m http.server")?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line).context("ask the web server for its port")?;
        }
        // "Serving HTTP on 127.0.0.1 port 40123 (http://...". It has chosen one that is free.
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next());
        let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) else {
            let _ = process.kill();
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("the web server did not start: {} {}", line.trim(), said.trim());
        };
        Ok(Self { process, url: format!("http://{HOST}:{port}/"), log })
    }

    /// Where a guest finds it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked for, and had: paths.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(log.lines().filter_map(requested).map(str::to_owned).collect())
    }
}

/// Whether a path is like a pattern, in which one `*` stands for anything.
pub fn is_like(path: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => path.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => path == pattern,
    }
}

/// The path in a line of its log, if that was there: `... "GET /config HTTP/1.1" 200 -`.
fn requested(line: &str) -> Option<&str> {
    let (path, rest) = line.split_once("\"GET ")?.1.split_once(' ')?;
    rest.contains("\" 200 ").then_some(path)
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to lose, and there is nobody left to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::{is_like, requested};

    #[test]
    fn a_star_is_anything() {
        assert!(is_like("/deltas/Jf/x/0", "/deltas/*/0"));
        assert!(!is_like("/deltas/Jf/x/superblock", "/deltas/*/0"));
        assert!(!is_like("/deltas/0", "/deltas/*/0"));
        assert!(is_like("/summary", "/summary") && !is_like("/summary.sig", "/summary"));
    }

    #[test]
    fn the_log_is_read() {
        let line = "127.0.0.1 - - [21/Nov/2026 12:00:00] \"GET /deltas/Jf/x/0 HTTP/1.1\" 200 -";
        assert_eq!(requested(line), Some("/deltas/Jf/x/0"));
        assert_eq!(requested(&line.replace("200", "404")), None);
        assert_eq!(requested("127.0.0.1 - - code 404, message File not found"), None);
    }
}
