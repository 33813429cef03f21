//! The serial console of a guest, watched and typed to while it runs.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What shows on the console that no more can come of a boot. A kernel panic is not among
/// them: with `panic=-1` and `-no-reboot` it ends QEMU.
const DEAD_ENDS: [&str; 8] = [
    "Freezing execution",
    "Entering emergency mode",
    "You are in emergency mode",
    "Cannot open access to console, the root account is locked",
    "Dropping to debug shell.",
    "(initramfs) ",
    // A boot loader without an entry, UEFI without a boot loader.
    "grub> ",
    "Shell> ",
];

/// How long a guest at a dead end may stay silent when nobody has anything more to type: what it still says is
/// the explanation.
const SILENCE: Duration = Duration::from_secs(5);

/// What somebody at the console waits for, and types then.
///
/// The terminal shows what is typed: the next one must not wait for a part of that.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// A text that shows, all of it in one line.
    pub wait: &'static str,
    /// What is typed; a carriage return is the key.
    pub say: &'static str,
}

/// How watching a console ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself.
    PowerOff,
    /// The guest showed this, and then nothing more.
    Stuck(&'static str),
    /// Somebody waited for this text until the guest ended or time was up.
    Unheard(&'static str),
    /// Time was up.
    TimeLimit,
}

/// How a console is watched.
pub struct Watch<'a> {
    /// Where all it shows is kept.
    pub log: &'a Path,
    /// Whether that is shown on standard output too.
    pub live: bool,
    /// How long it may take.
    pub limit: Duration,
    /// What is typed.
    pub dialogue: &'static [Exchange],
}

impl Watch<'_> {
    /// Watches `console`, and types on `keyboard`, until it ends, the guest is at a dead end, or time is up.
    pub fn run(&self, console: impl Read + Send + 'static, keyboard: &mut dyn Write) -> Result<End> {
        let mut log = File::create(self.log).with_context(|| format!("create {}", self.log.display()))?;
        let pieces = read(console);
        let deadline = Instant::now() + self.limit;
        let mut seen = String::new();
        let mut dead_end = None;
        let mut dialogue = self.dialogue;
        let end = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if dead_end.is_some() && dialogue.is_empty() { left.min(SILENCE) } else { left };
            let piece = match (pieces.recv_timeout(patience), dead_end) {
                (Ok(piece), _) => piece,
                (Err(RecvTimeoutError::Disconnected), _) => break End::PowerOff,
                (Err(RecvTimeoutError::Timeout), Some(text)) if dialogue.is_empty() => {
                    break End::Stuck(text);
                }
                (Err(RecvTimeoutError::Timeout), _) => break End::TimeLimit,
            };
            log.write_all(&piece).context("write the console log")?;
            if self.live {
                let mut terminal = std::io::stdout().lock();
                terminal.write_all(&piece).and_then(|()| terminal.flush()).context("show the console")?;
            }
            seen.push_str(&String::from_utf8_lossy(&piece));
            while let Some((Exchange { wait, say }, rest)) = dialogue.split_first()
                && let Some(at) = seen.find(wait)
            {
                seen.drain(..at + wait.len());
                keyboard.write_all(say.as_bytes()).and_then(|()| keyboard.flush()).context("type")?;
                dialogue = rest;
                // Somebody was there to type.
                dead_end = None;
            }
            dead_end = dead_end.or_else(|| DEAD_ENDS.into_iter().find(|text| seen.contains(text)));
            // Keep the unfinished line only: a text is never split over two lines.
            if let Some(newline) = seen.rfind('\n') {
                seen.drain(..=newline);
            }
        };
        match (end, dialogue.first()) {
            (End::PowerOff | End::TimeLimit, Some(Exchange { wait, .. })) => Ok(End::Unheard(wait)),
            _ => Ok(end),
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
    use super::{End, Exchange, Watch};
    use std::time::Duration;

    const DIALOGUE: &[Exchange] =
        &[Exchange { wait: "login: ", say: "root\r" }, Exchange { wait: "# ", say: "exit\r" }];

    /// How it ends when a console shows this, and what is typed.
    fn watched(text: &'static str, dialogue: &'static [Exchange]) -> (End, String) {
        let log = tempfile(text);
        let mut typed = Vec::new();
        let watch = Watch { log: &log, live: false, limit: Duration::from_secs(9), dialogue };
        let end = watch.run(text.as_bytes(), &mut typed);
        assert_eq!(std::fs::read_to_string(&log).ok().as_deref(), Some(text));
        std::fs::remove_file(&log).ok();
        (end.unwrap_or(End::TimeLimit), String::from_utf8_lossy(&typed).into_owned())
    }

    fn tempfile(text: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("console-{}-{}", std::process::id(), text.len()))
    }

    #[test]
    fn a_console_that_closes_is_a_power_off() {
        let (end, _) = watched("Linux version\nsystemd[1]: Freezing\n execution\n", &[]);
        assert_eq!(end, End::PowerOff);
    }

    #[test]
    fn what_is_waited_for_is_answered_in_its_order() {
        let (end, typed) = watched("# 1\nlogin: root\n/# exit\n", DIALOGUE);
        assert_eq!((end, typed.as_str()), (End::PowerOff, "root\rexit\r"));
    }

    #[test]
    fn nothing_is_answered_before_its_turn() {
        let (end, typed) = watched("# login: \nover #", DIALOGUE);
        assert_eq!((end, typed.as_str()), (End::Unheard("# "), "root\r"));
    }
}
