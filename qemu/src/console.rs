//! The serial console of a guest, watched while it runs.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What shows on the console that no more can come of a boot. A kernel panic is not among
/// them: with `panic=-1` and `-no-reboot` it ends QEMU.
const DEAD_ENDS: [&str; 4] = [
    "Freezing execution",
    "Entering emergency mode",
    "You are in emergency mode",
    "Cannot open access to console, the root account is locked",
];

/// How long a guest at a dead end may stay silent: what it still says is the explanation.
const SILENCE: Duration = Duration::from_secs(5);

/// How watching a console ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself.
    PowerOff,
    /// The guest showed this, and then nothing more.
    Stuck(&'static str),
    /// Time was up.
    TimeLimit,
}

/// Copies `console` to `log`, and to standard output when `live`, until it ends, the guest is
/// at a dead end, or `limit` has passed.
pub fn watch(console: impl Read + Send + 'static, log: &Path, live: bool, limit: Duration) -> Result<End> {
    let mut log = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let pieces = read(console);
    let deadline = Instant::now() + limit;
    let mut seen = String::new();
    let mut dead_end = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = if dead_end.is_some() { left.min(SILENCE) } else { left };
        match (pieces.recv_timeout(patience), dead_end) {
            (Ok(piece), _) => {
                log.write_all(&piece).context("write the console log")?;
                if live {
                    let mut terminal = std::io::stdout().lock();
                    terminal.write_all(&piece).and_then(|()| terminal.flush()).context("show the console")?;
                }
                seen.push_str(&String::from_utf8_lossy(&piece));
                dead_end = dead_end.or_else(|| DEAD_ENDS.into_iter().find(|text| seen.contains(text)));
                // Keep the unfinished line only: a text is never split over two lines.
                if let Some(newline) = seen.rfind('\n') {
                    seen.drain(..=newline);
                }
            }
            (Err(RecvTimeoutError::Disconnected), _) => return Ok(End::PowerOff),
            (Err(RecvTimeoutError::Timeout), Some(text)) => return Ok(End::Stuck(text)),
            (Err(RecvTimeoutError::Timeout), None) => return Ok(End::TimeLimit),
        }
    }
}

fn read(mut console: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = console.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::{End, watch};
    use std::time::Duration;

    fn end_of(text: &'static str) -> End {
        let log = std::env::temp_dir().join(format!("console-{}-{}", std::process::id(), text.len()));
        let end = watch(text.as_bytes(), &log, false, Duration::from_secs(9));
        assert_eq!(std::fs::read_to_string(&log).ok().as_deref(), Some(text));
        std::fs::remove_file(&log).ok();
        end.unwrap_or(End::TimeLimit)
    }

    #[test]
    fn a_console_that_closes_is_a_power_off() {
        assert_eq!(end_of("Linux version\nsystemd[1]: Freezing\n execution\n"), End::PowerOff);
    }
}
