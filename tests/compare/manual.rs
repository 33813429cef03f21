//! The manual page, as far as it tells about differences.

use crate::support::failure::{Context, Result};

const PAGE: &str = include_str!("../../docs/ostree-prepare-root.8");

/// Whether the manual page has that sentence among the differences.
pub fn explains(reason: &str) -> Result<()> {
    let section =
        PAGE.split("\n.Sh ").find_map(|section| section.strip_prefix("DIFFERENCES FROM LIBOSTREE\n"));
    let section = section.context("find the section of the manual page")?;
    if letters(&plain(section)).contains(&letters(reason)) {
        return Ok(());
    }
    Err(format!("docs/ostree-prepare-root.8 does not say: {reason}"))
}

/// The text without the markup of mdoc(7): on lines that are macros, the words that are macros.
fn plain(section: &str) -> String {
    let is_macro = |word: &&str| {
        let mut letters = word.chars();
        let two =
            letters.next().is_some_and(char::is_uppercase) && letters.next().is_some_and(char::is_lowercase);
        two && letters.next().is_none()
    };
    let line = |line: &str| match line.strip_prefix('.') {
        None => line.to_owned(),
        Some(line) => line.split(' ').filter(|word| !is_macro(word)).collect::<Vec<_>>().join(" "),
    };
    section.lines().map(line).collect::<Vec<_>>().join(" ").replace("\\&", "").replace("\\-", "-")
}

/// How a sentence is broken into lines, and where markup needs a space, does not matter.
fn letters(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace()).collect()
}
