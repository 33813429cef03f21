//! The logger: every record goes to the kernel log, warnings and errors to standard error as well.
//!
//! Two things about `/dev/kmsg` shape this module:
//!
//! - The kernel passes ten lines in five seconds *per open file* and drops the rest
//!   (`devkmsg_write` in `kernel/printk/printk.c`), so each line gets an open file of its own.
//! - A write longer than `PRINTKRB_RECORD_MAX` (1024 bytes with prefix) is EINVAL, so long messages
//!   are cut into pieces.

use crate::lookup;
use crate::syscall;
use alloc::string::ToString;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{CWD, Mode, OFlags};

/// The name in front of every line.
const NAME: &str = "ostree-prepare-root";

/// The most bytes of a message that go into one line of the kernel log.
const LINE: usize = 900;

struct Logger;

/// Starts logging; `level` is what `ostree.prepare-root.log=` asks for.
pub fn start(level: LevelFilter) {
    // It fails only if there is a logger already, as in tests.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}

/// The value of `ostree.prepare-root.log=`.
pub fn level(value: &[u8]) -> Option<LevelFilter> {
    match value {
        b"debug" => Some(LevelFilter::Debug),
        b"info" => Some(LevelFilter::Info),
        b"warn" => Some(LevelFilter::Warn),
        b"error" => Some(LevelFilter::Error),
        _ => None,
    }
}

/// The target of what is said when nothing more can be done: for whoever stands before the console.
pub const LAST_WORDS: &str = "last words";

/// The level up to which the kernel prints its log on the console; 0 if that is not the business of this program.
static CONSOLE: AtomicU8 = AtomicU8::new(0);

/// Standard error is the console too: what the kernel prints there is not said a second time.
/// (`/proc/sys/kernel/printk`, whose first number is the first level that is not printed.)
pub fn standard_error_is_the_console() {
    let levels = lookup::read(c"/proc/sys/kernel/printk").ok().flatten().unwrap_or_default();
    let first = levels.split(u8::is_ascii_whitespace).next().and_then(|level| str::from_utf8(level).ok());
    CONSOLE.store(first.and_then(|level| level.parse().ok()).unwrap_or(0), Ordering::Relaxed);
}

/// Whether the kernel log is left alone.
static KEPT_OUT: AtomicBool = AtomicBool::new(false);

/// Nothing goes to the kernel log any more: what is said is an answer, and no event of this boot.
pub fn keep_out() {
    KEPT_OUT.store(true, Ordering::Relaxed);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let console = CONSOLE.load(Ordering::Relaxed);
        let last_words = console > 0 && record.target() == LAST_WORDS;
        // KERN_ERR and KERN_WARNING are 3 and 4.
        let printed = if record.level() == Level::Error { console > 3 } else { console > 4 };
        if record.level() <= Level::Warn && (last_words || !printed) {
            syscall::say(syscall::stderr(), format!("{NAME}: {text}\n").as_bytes());
        }
        if KEPT_OUT.load(Ordering::Relaxed) {
            return;
        }
        for line in lines(&text) {
            // A process without the right to log (a dry run by a user) has standard error and its
            // exit status.
            // Last words are said on the console without a time in front of each line; here they are kept.
            let level = if last_words { DEBUG } else { priority(record.level()) };
            if write(level, line).is_err() {
                return;
            }
        }
    }

    fn flush(&self) {}
}

/// KERN_DEBUG
const DEBUG: u8 = 7;

/// KERN_ERR, KERN_WARNING, KERN_INFO, KERN_DEBUG
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => DEBUG,
    }
}

/// Whether a line was written.
static WRITTEN: AtomicBool = AtomicBool::new(false);

/// Writes one line to the kernel log, by a single `write(2)` (`Documentation/ABI/testing/dev-kmsg`).
///
/// # Errors
/// As `open(2)`: there is no kernel log for us.
fn write(priority: u8, line: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, c"/dev/kmsg", flags, Mode::empty())?;
    let number = syscall::process();
    // What the kernel does not take, nobody else would.
    let _ = rustix::io::write(&file, format!("<{priority}>{NAME}[{number}]: {line}\n").as_bytes());
    // Most runs write one line.
    if !WRITTEN.swap(true, Ordering::Relaxed) {
        lookup::leave_open(file);
    }
    Ok(())
}

/// The lines of a message, none longer than [`LINE`] bytes, cut between characters.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut rest = line;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = (0..=LINE.min(rest.len()))
                .rev()
                .find(|&end| rest.is_char_boundary(end))
                .unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            rest = after;
            Some(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_lost_and_no_line_too_long() {
        let text = format!("{}\n\nshort\n{}", "é".repeat(1000), "x".repeat(901));
        let pieces: Vec<&str> = lines(&text).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= LINE && !piece.is_empty()));
        assert_eq!(pieces.concat(), text.replace('\n', ""));
        assert_eq!(pieces.len(), 3 + 1 + 2);
    }
}
