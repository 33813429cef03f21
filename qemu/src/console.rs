//! The serial console of a guest, watched and typed to while it runs.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What our program as process 1 says when it has failed, and nobody said what the machine is to do then.
pub const KEY_TO_REBOOT: &str = "Press Enter to reboot.";

/// The key, as a terminal sends it.
const ENTER: &str = "\r";

/// What shows on the console that no more can come of a boot. A kernel panic is not among
/// them: with `panic=-1` and `-no-reboot` it ends QEMU.
const DEAD_ENDS: [&str; 9] = [
    "Freezing execution",
    "Entering emergency mode",
    "You are in emergency mode",
    "Cannot open access to console, the root account is locked",
    "Dropping to debug shell.",
    "(initramfs) ",
    KEY_TO_REBOOT,
    // A boot loader without an entry, UEFI without a boot loader.
    "grub> ",
    "Shell> ",
];

/// How long a guest at a dead end may stay silent when nobody has anything more to type: what it still says is
/// the explanation.
const SILENCE: Duration = Duration::from_secs(5);

/// The same of one that is to boot again by itself.
const LONG_SILENCE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_mins(2) };

/// What a kernel says first.
const KERNEL_STARTS: &str = "] Linux version ";

/// How long Enter alone may stay without its answer before it is typed again: sulogin discards what was typed between
/// its prompt and its reading (`TCSAFLUSH` in `getpasswd` of util-linux's sulogin.c), and people press the key again.
const ANOTHER_ENTER: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };

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
    /// Whether it boots again by itself from where another would be at a dead end.
    pub reboots: bool,
    /// What is typed.
    pub dialogue: &'static [Exchange],
}

impl Watch<'_> {
    /// Watches `console`, and types on `keyboard`, until it ends, the guest is at a dead end, or time is up.
    pub fn run(&self, console: impl Read + Send + 'static, keyboard: &mut dyn Write) -> Result<End> {
        let mut log = File::create(self.log).with_context(|| format!("create {}", self.log.display()))?;
        let pieces = read(console);
        let deadline = Instant::now() + self.limit;
        let mut seen = Seen::default();
        let mut dead_end = None;
        let mut dialogue = self.dialogue;
        let mut another_enter: Option<Instant> = None;
        let silence = if self.reboots { LONG_SILENCE } else { SILENCE };
        let end = loop {
            let now = Instant::now();
            if another_enter.is_some_and(|at| at <= now) {
                keyboard.write_all(ENTER.as_bytes()).and_then(|()| keyboard.flush()).context("type")?;
                another_enter = Some(now + ANOTHER_ENTER);
            }
            let left = another_enter.map_or(deadline, |at| at.min(deadline)).saturating_duration_since(now);
            let patience = if dead_end.is_some() && dialogue.is_empty() { left.min(silence) } else { left };
            let piece = match (pieces.recv_timeout(patience), dead_end) {
                (Ok(piece), _) => piece,
                (Err(RecvTimeoutError::Disconnected), _) => break End::PowerOff,
                (Err(RecvTimeoutError::Timeout), Some(text)) if dialogue.is_empty() => {
                    break End::Stuck(text);
                }
                (Err(RecvTimeoutError::Timeout), _) if another_enter.is_some_and(|at| at < deadline) => {
                    continue;
                }
                (Err(RecvTimeoutError::Timeout), _) => break End::TimeLimit,
            };
            log.write_all(&piece).context("write the console log")?;
            if self.live {
                let mut terminal = std::io::stdout().lock();
                terminal.write_all(&piece).and_then(|()| terminal.flush()).context("show the console")?;
            }
            seen.add(&String::from_utf8_lossy(&piece));
            while let Some((Exchange { wait, say }, rest)) = dialogue.split_first()
                && seen.take(wait)
            {
                keyboard.write_all(say.as_bytes()).and_then(|()| keyboard.flush()).context("type")?;
                dialogue = rest;
                another_enter = (*say == ENTER && !rest.is_empty()).then(|| Instant::now() + ANOTHER_ENTER);
                // Somebody was there to type.
                dead_end = None;
            }
            dead_end = dead_end.or_else(|| DEAD_ENDS.into_iter().find(|text| seen.contains(text)));
            if self.reboots && seen.contains(KERNEL_STARTS) {
                dead_end = None;
            }
            seen.forget_lines();
        };
        match (end, dialogue.first()) {
            (End::PowerOff | End::TimeLimit, Some(Exchange { wait, .. })) => Ok(End::Unheard(wait)),
            _ => Ok(end),
        }
    }
}

/// What shows on the console since the last text that was waited for.
#[derive(Default)]
struct Seen {
    all: String,
    /// The same without the kernel's messages, which come in the midst of what programs write.
    programs: String,
}

impl Seen {
    fn add(&mut self, text: &str) {
        self.all.push_str(text);
        self.programs.push_str(text);
        remove_kernel_messages(&mut self.programs);
    }

    fn contains(&self, text: &str) -> bool {
        self.all.contains(text) || self.programs.contains(text)
    }

    /// Whether a text shows; if so, it and what is before it are done with.
    fn take(&mut self, text: &str) -> bool {
        if let Some(at) = self.all.find(text) {
            self.all.drain(..at + text.len());
            self.programs.clone_from(&self.all);
            true
        } else if let Some(at) = self.programs.find(text) {
            self.programs.drain(..at + text.len());
            self.all.clone_from(&self.programs);
            true
        } else {
            false
        }
    }

    /// Keeps the unfinished line only: a text is never split over two.
    fn forget_lines(&mut self) {
        for text in [&mut self.all, &mut self.programs] {
            if let Some(newline) = text.rfind('\n') {
                text.drain(..=newline);
            }
        }
    }
}

/// Whether a console shows this text, of the kernel or of a program that the kernel may have interrupted.
pub fn shows(console: &str, text: &str) -> bool {
    console.contains(text) || of_programs(console).contains(text)
}

/// What programs write on a console, without the kernel's messages in their midst.
pub fn of_programs(console: &str) -> String {
    let mut text = console.to_owned();
    remove_kernel_messages(&mut text);
    text
}

fn remove_kernel_messages(text: &mut String) {
    while let Some(message) = kernel_message(text) {
        text.replace_range(message, "");
    }
}

/// Where the first message of the kernel is that is complete: from its time, `[   12.345678] `, to the end of the line.
fn kernel_message(text: &str) -> Option<Range<usize>> {
    text.match_indices('[').find_map(|(start, _)| {
        let (time, _) = text[start + 1..].split_once("] ")?;
        let (seconds, fraction) = time.trim_start_matches(' ').split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(seconds) || !digits(fraction) || fraction.len() != 6 {
            return None;
        }
        Some(start..start + text[start..].find('\n')? + 1)
    })
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
    use super::{End, Exchange, LONG_SILENCE, Watch};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    const DIALOGUE: &[Exchange] =
        &[Exchange { wait: "login: ", say: "root\r" }, Exchange { wait: "# ", say: "exit\r" }];

    /// How it ends when a console shows this, and what is typed.
    fn watched(text: &'static str, dialogue: &'static [Exchange]) -> (End, String) {
        let log = tempfile(text);
        let mut typed = Vec::new();
        let watch = Watch { log: &log, live: false, limit: Duration::from_secs(9), reboots: false, dialogue };
        let end = watch.run(text.as_bytes(), &mut typed);
        assert_eq!(std::fs::read_to_string(&log).ok().as_deref(), Some(text));
        std::fs::remove_file(&log).ok();
        (end.unwrap_or(End::TimeLimit), String::from_utf8_lossy(&typed).into_owned())
    }

    fn tempfile(text: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("console-{}-{}", std::process::id(), text.len()))
    }

    #[test]
    fn the_kernel_interrupts() {
        let text = "log[   12.345678] input: Power Button [x]\r\n[   13.000001] ata1: y\r\nin: \r\n#[1] [ 2.5] no\r\n# ";
        assert_eq!(watched(text, DIALOGUE), (End::PowerOff, "root\rexit\r".into()));
        // Messages can be waited for as well.
        let message: &[Exchange] =
            &[Exchange { wait: "Power Button", say: "1" }, Exchange { wait: "in: ", say: "2" }];
        assert_eq!(watched(text, message), (End::PowerOff, "12".into()));
        // One that is not complete may be a text.
        assert_eq!(watched("log[   12.345678] in: ", DIALOGUE).1, "");
    }

    #[test]
    fn enter_that_was_discarded_is_typed_again() {
        let (mut guest, mut keyboard) = UnixStream::pair().unwrap();
        let console = keyboard.try_clone().unwrap();
        let sulogin = thread::spawn(move || {
            let mut key = [0];
            guest.write_all(b"Press Enter: ").unwrap();
            // The first is discarded.
            guest.read_exact(&mut key).unwrap();
            guest.read_exact(&mut key).unwrap();
            guest.write_all(b"# ").unwrap();
            String::from_utf8_lossy(&key).into_owned()
        });
        let log = tempfile("enter");
        let dialogue = &[Exchange { wait: "Enter: ", say: "\r" }, Exchange { wait: "# ", say: "" }];
        let watch = Watch { log: &log, live: false, limit: Duration::from_secs(9), reboots: false, dialogue };
        let end = watch.run(console, &mut keyboard);
        std::fs::remove_file(&log).ok();
        assert_eq!(end.unwrap(), End::PowerOff);
        assert_eq!(sulogin.join().unwrap(), "\r");
    }

    /// How a guest that reboots ends, if it is silent for a while after it has said this.
    fn silent_after(said: &[u8]) -> End {
        let (mut guest, mut keyboard) = UnixStream::pair().unwrap();
        let console = keyboard.try_clone().unwrap();
        guest.write_all(said).unwrap();
        let log = tempfile(&String::from_utf8_lossy(said));
        let watch = Watch { log: &log, live: false, limit: 6 * LONG_SILENCE, reboots: true, dialogue: &[] };
        let end = watch.run(console, &mut keyboard).unwrap();
        std::fs::remove_file(&log).ok();
        end
    }

    #[test]
    fn a_dead_end_is_over_when_the_kernel_starts_again() {
        assert_eq!(silent_after(b"Entering emergency mode\n"), End::Stuck("Entering emergency mode"));
        assert_eq!(
            silent_after(b"Entering emergency mode\n[    0.000000] Linux version 6.12\n"),
            End::TimeLimit
        );
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
