//! Things that take long to make and do not change: kept from one run of the tests to the next.

use super::failure::{Context, Result};
use super::product;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `$PREPARE_ROOT_CACHE`, or a folder in the workspace's `target`.
pub fn folder() -> PathBuf {
    std::env::var_os("PREPARE_ROOT_CACHE")
        .map_or_else(|| product::workspace().join("target/test-cache"), PathBuf::from)
}

/// The piece called `name` and made from `ingredients`, made now if it is not there yet.
///
/// `make` gets a path that does not exist, in the cache folder. What has its final name is whole:
/// it was renamed at the end.
pub fn piece(name: &str, ingredients: &[&[u8]], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = folder();
    fs::create_dir_all(&folder).context(format!("create the cache folder {}", folder.display()))?;
    let piece = folder.join(format!("{name}-{}", key(ingredients)));
    note(&piece)?;
    if piece.exists() {
        return Ok(piece);
    }
    let unfinished = folder.join(format!("unfinished-{}-{name}", std::process::id()));
    if let Err(error) = make(&unfinished) {
        let _ = fs::remove_dir_all(&unfinished).or_else(|_| fs::remove_file(&unfinished));
        return Err(format!("make {}: {error}", piece.display()));
    }
    match fs::rename(&unfinished, &piece) {
        // Another process was faster; what it made has the same key, so it is as good.
        Err(_) if piece.exists() => Ok(piece),
        result => result.map(|()| piece).context(format!("rename {}", unfinished.display())),
    }
}

/// Adds the path of a piece to the file `$PREPARE_ROOT_PIECES`: who runs the tests on another machine
/// has to bring what they use.
fn note(piece: &Path) -> Result<()> {
    let Some(list) = std::env::var_os("PREPARE_ROOT_PIECES") else { return Ok(()) };
    let file = fs::File::options().create(true).append(true).open(list);
    file.and_then(|mut file| writeln!(file, "{}", piece.display())).context("note what is used")
}

/// Sixteen hexadecimal digits that stand for the ingredients.
fn key(ingredients: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for ingredient in ingredients {
        // Lengths keep ("a", "bc") apart from ("ab", "c").
        hash.update((ingredient.len() as u64).to_le_bytes());
        hash.update(ingredient);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
