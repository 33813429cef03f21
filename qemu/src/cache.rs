//! Finished pieces, kept under the hash of what they were made from.

use anyhow::{Context, Result};
use rustix::fs::{CWD, RenameFlags};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Disks kept; a sparse disk with one Debian on it is some 700 MB.
const DISKS_KEPT: usize = 28;

/// Collects what a piece is made from. Two pieces with the same key are the same.
pub struct Key(Sha256);

impl Key {
    /// A key for one kind of piece.
    pub fn new(kind: &str) -> Self {
        Self(Sha256::new()).with("kind", kind)
    }

    /// Adds one named ingredient.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        // Lengths keep ("a", "bc") apart from ("ab", "c").
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds every file below `dir`: path, mode and contents.
    pub fn with_files(mut self, dir: &Path) -> Result<Self> {
        for path in files_below(dir)? {
            let name = path.strip_prefix(dir)?.to_string_lossy().into_owned();
            let mode = fs::symlink_metadata(&path)?.permissions().mode();
            let contents = if path.is_symlink() {
                fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).with_context(|| format!("read {}", path.display()))?
            };
            self = self.with(&name, mode.to_le_bytes()).with("contents", contents);
        }
        Ok(self)
    }

    /// The key as 16 hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The directory that holds finished pieces, logs, and work under way.
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `$PREPARE_ROOT_CACHE`, or `target/qemu-cache` of the workspace.
    pub fn open(workspace: &Path) -> Result<Self> {
        let root = std::env::var_os("PREPARE_ROOT_CACHE")
            .map_or_else(|| workspace.join("target/qemu-cache"), PathBuf::from);
        fs::create_dir_all(root.join("logs")).with_context(|| format!("create {}", root.display()))?;
        let root = root.canonicalize()?;
        let cache = Self { root };
        cache.remove_abandoned_work()?;
        Ok(cache)
    }

    /// Where the finished piece `name` is, whether or not it exists.
    pub fn piece(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The empty log directory of one run. That of the run before is kept as `RUN.previous`.
    ///
    /// Once there is one, there always is: what two processes both build, both write a log of.
    pub fn logs(&self, run: &str) -> Result<PathBuf> {
        let _turn = self.turn("logs")?;
        let of = |suffix: &str| self.root.join("logs").join(format!("{run}{suffix}"));
        let (logs, new, previous) = (of(""), of(".new"), of(".previous"));
        fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
        if logs.exists() {
            rustix::fs::renameat_with(CWD, &new, CWD, &logs, RenameFlags::EXCHANGE)
                .with_context(|| format!("exchange {} and {}", new.display(), logs.display()))?;
            if previous.exists() {
                fs::remove_dir_all(&previous).with_context(|| format!("remove {}", previous.display()))?;
            }
            fs::rename(&new, &previous).with_context(|| format!("rename to {}", previous.display()))?;
        } else {
            fs::rename(&new, &logs).with_context(|| format!("rename to {}", logs.display()))?;
        }
        Ok(logs)
    }

    /// A new directory to work in; it goes when the value is dropped.
    pub fn workplace(&self) -> Result<Workplace> {
        let number = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let path = self.root.join(format!("work-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Workplace { path })
    }

    /// Gives a finished piece its name, in one step: what has its name is whole.
    pub fn publish(&self, made: &Path, name: &str) -> Result<PathBuf> {
        let piece = self.piece(name);
        match fs::rename(made, &piece) {
            Ok(()) => Ok(piece),
            // Another process was faster. What it made has the same key, so it is as good.
            Err(_) if piece.exists() => Ok(piece),
            Err(error) => Err(error).with_context(|| format!("rename to {}", piece.display())),
        }
    }

    /// Waits until nobody else makes the piece of this name, in this process or another, and keeps others
    /// from it until the value is dropped.
    pub fn turn(&self, name: &str) -> Result<File> {
        let file = self.lock(name)?;
        file.lock().with_context(|| format!("lock {name}"))?;
        Ok(file)
    }

    /// Keeps the piece of this name from being removed until the value is dropped.
    pub fn hold(&self, name: &str) -> Result<File> {
        let file = self.lock(name)?;
        file.lock_shared().with_context(|| format!("lock {name}"))?;
        Ok(file)
    }

    fn lock(&self, name: &str) -> Result<File> {
        let locks = self.root.join("locks");
        fs::create_dir_all(&locks).with_context(|| format!("create {}", locks.display()))?;
        let path = locks.join(name);
        File::create(&path).with_context(|| format!("create {}", path.display()))
    }

    /// Removes the disks that were not used for longest.
    pub fn remove_old_disks(&self) -> Result<()> {
        let _turn = self.turn("disks")?;
        let mut disks = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("disk-") {
                disks.push((fs::metadata(entry.path().join("used"))?.modified()?, entry.path()));
            }
        }
        disks.sort();
        let surplus = disks.len().saturating_sub(DISKS_KEPT);
        for (_, path) in disks.into_iter().take(surplus) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lock = self.lock(&name)?;
            if lock.try_lock().is_err() {
                continue;
            }
            // Away in one step: what has its name is whole.
            let place = self.workplace()?;
            fs::rename(&path, place.join("old")).with_context(|| format!("rename {}", path.display()))?;
        }
        Ok(())
    }

    fn remove_abandoned_work(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(process) = name.strip_prefix("work-").and_then(|rest| rest.split('-').next()) else {
                continue;
            };
            if !Path::new("/proc").join(process).exists() {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// A directory for work under way.
pub struct Workplace {
    path: PathBuf,
}

impl Workplace {
    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Not worth failing for: the next run removes what is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}
