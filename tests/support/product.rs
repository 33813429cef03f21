//! The program under test.

use super::failure::{Context, Result};
use std::path::{Path, PathBuf};

/// The folder of the whole workspace: packages below it share these modules.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("Cargo.lock").exists()).unwrap_or(package)
}

/// `$PREPARE_ROOT_BIN`, or where `make build` puts it.
pub fn path() -> Result<PathBuf> {
    let target = format!("target/{}-unknown-linux-musl/release/ostree-prepare-root", std::env::consts::ARCH);
    let path = std::env::var_os("PREPARE_ROOT_BIN").map_or_else(|| workspace().join(target), PathBuf::from);
    path.canonicalize().context(format!("find {}; `make build` makes it", path.display()))
}
