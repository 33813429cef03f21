//! Where the disk is built and the program runs: a mount namespace of the fuzzing process, in which
//! `/run`, `/dev` and `/mnt` are its own.

use super::description::{Below, Change, Description, Edit, ordinary};
use log::{LevelFilter, Log, Metadata, Record};
use prepare_root::lookup;
use prepare_root::syscall::{self, Attributes, Propagation};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::mount::{MountFlags, UnmountFlags};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where the disk is mounted.
pub const SYSROOT: &str = "/mnt/sysroot";

/// A directory beside the disk, which links on the disk lead to.
const OUTSIDE: &str = "/mnt/outside";

/// What no new root may have in it.
const CANARY: &str = "canary";

/// More than the program reads of any file.
const LARGE: u64 = (16 << 20) + 1;

/// The namespace.
pub struct World {
    /// Ways of the program leave the process in `/`; libFuzzer's folders are relative.
    folder: PathBuf,
    idle: State,
}

/// The physical root of one run.
pub struct Disk {
    handle: OwnedFd,
    outside: Vec<Stat>,
}

impl World {
    /// Entered at the first call, by the only thread that ever makes one.
    pub fn get() -> &'static World {
        static WORLD: LazyLock<World> = LazyLock::new(World::enter);
        &WORLD
    }

    fn enter() -> World {
        assert!(rustix::process::geteuid().is_root(), "only root can mount");
        let folder = std::env::current_dir().expect("find the current directory");
        syscall::unshare_mounts().expect("make a mount namespace");
        propagate("/", Propagation::Private);
        // Without /dev no image becomes a loop device: what the kernel makes of it is not our matter.
        for place in ["/run", "/mnt", "/dev"] {
            mount_tmpfs(place);
        }
        // As complete as a deployment: nothing but the way to it speaks against it.
        for name in ["usr", "etc", "var", "boot", "sysroot", "deploy", "usr/etc"] {
            std::fs::create_dir_all(Path::new(OUTSIDE).join(name)).expect("make the outside");
            std::fs::write(Path::new(OUTSIDE).join(name).join(CANARY), "outside").expect("make a canary");
        }
        std::fs::write(Path::new(OUTSIDE).join(CANARY), "outside").expect("make a canary");
        std::fs::create_dir(SYSROOT).expect("make the place for disks");
        log::set_logger(&Reader).expect("read what is logged");
        log::set_max_level(LevelFilter::Trace);
        World { folder, idle: State::now() }
    }

    /// Builds and mounts the disk.
    pub fn build(&self, description: &Description) -> Disk {
        mount_tmpfs("/run");
        mount_tmpfs(SYSROOT);
        let disk = Disk { handle: open(SYSROOT), outside: outside() };
        let run = open("/run");
        for edit in ordinary().iter().chain(&description.edits) {
            let root = if edit.below == Below::Sysroot { &disk.handle } else { &run };
            // An edit that cannot be made is none.
            let _ = carry_out(edit, root.as_fd());
        }
        if description.shared {
            for place in ["/mnt", "/run"] {
                propagate(place, Propagation::Shared);
            }
        }
        if description.readonly {
            let readonly = Attributes { readonly: Some(true), propagation: None };
            syscall::mount_setattr(&disk.handle, false, readonly).expect("make the disk read-only");
        }
        disk
    }

    /// Takes everything off again.
    pub fn clear(&self) {
        for place in ["/mnt", "/run"] {
            propagate(place, Propagation::Private);
        }
        // Edits mount as well.
        for place in [SYSROOT, "/run"] {
            while State::now().mounted(place) > self.idle.mounted(place) {
                rustix::mount::unmount(place, UnmountFlags::DETACH).expect("unmount what was made");
            }
        }
        State::now().assert_same(&self.idle);
        std::env::set_current_dir(&self.folder).expect("go back");
    }
}

impl Disk {
    /// Not even an access counts: the times of the last change are the same.
    pub fn assert_outside_untouched(&self) {
        let times = |stats: &[Stat]| -> Vec<_> {
            stats.iter().map(|stat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec)).collect()
        };
        assert_eq!(times(&self.outside), times(&outside()), "something outside the disk was changed");
    }

    fn device(&self) -> String {
        let stat = rustix::fs::fstat(&self.handle).expect("look at the disk");
        format!("{}:{}", rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev))
    }
}

fn outside() -> Vec<Stat> {
    let look = |name| rustix::fs::stat(Path::new(OUTSIDE).join(name)).expect("look at the outside");
    ["", "usr", "etc", "var", "boot", "sysroot", "deploy", "usr/etc", CANARY, "usr/canary"].map(look).to_vec()
}

fn carry_out(edit: &Edit, root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let (folder, name) = match edit.at.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&edit.at[..slash], &edit.at[slash + 1..]),
        None => (&b""[..], &edit.at[..]),
    };
    if name == CANARY.as_bytes() {
        return Ok(());
    }
    // Never through a link to the machine that all this happens on.
    let open = |path: &[u8]| lookup::open_beneath(root, path, OFlags::PATH | OFlags::DIRECTORY);
    let slashes = edit.at.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut parent = open(b"")?;
    if open(folder).is_err() {
        for end in slashes {
            if let Some(name) = edit.at[..end].split(|byte| *byte == b'/').next_back() {
                let _ = rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755));
            }
            parent = open(&edit.at[..end])?;
        }
    } else {
        parent = open(folder)?;
    }
    let mode = Mode::from_raw_mode(0o755);
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !matches!(edit.change, Change::Tmpfs | Change::Mode(_) | Change::Exchange(_)) {
        put_away(root, &parent, name)?;
    }
    match &edit.change {
        Change::Link(text) => rustix::fs::symlinkat(&text[..], &parent, name),
        Change::File(contents) => {
            let file = rustix::fs::openat(&parent, name, create, mode)?;
            lookup::write_all(&file, contents)
        }
        Change::Directory => rustix::fs::mkdirat(&parent, name, mode),
        Change::Fifo => rustix::fs::mknodat(&parent, name, FileType::Fifo, mode, 0),
        Change::Device => {
            let zero = rustix::fs::makedev(1, 5);
            rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, mode, zero)
        }
        Change::Large => {
            let file = rustix::fs::openat(&parent, name, create, mode)?;
            rustix::fs::ftruncate(&file, LARGE)
        }
        Change::Remove => Ok(()),
        Change::Tmpfs => {
            let place =
                lookup::open_beneath(root, &edit.at, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
            mount_tmpfs(lookup::descriptor_path(place.as_fd()).as_c_str());
            Ok(())
        }
        Change::Mode(bits) => {
            let mode = Mode::from_raw_mode(u32::from(*bits));
            rustix::fs::chmodat(&parent, name, mode, AtFlags::SYMLINK_NOFOLLOW)
        }
        Change::Exchange(other) => {
            let slash = other.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let (folder, other) = other.split_at(slash);
            rustix::fs::renameat_with(&parent, name, open(folder)?, other, RenameFlags::EXCHANGE)
        }
    }
}

/// What is at the place goes to another where nobody looks.
fn put_away(root: BorrowedFd<'_>, parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    for number in 0..100 {
        match rustix::fs::renameat_with(
            parent,
            name,
            root,
            format!(".removed.{number}"),
            RenameFlags::NOREPLACE,
        ) {
            Err(Errno::EXIST) => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

/// The mount table, and everything in `/run`.
#[derive(Debug)]
pub struct State {
    mounts: Vec<Mount>,
    run: Vec<String>,
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mount {
    point: String,
    device: String,
    root: String,
    options: String,
    /// Without the number of the peer group.
    propagation: String,
    file_system: String,
}

impl State {
    /// What is there.
    pub fn now() -> State {
        let table = std::fs::read("/proc/self/mountinfo").expect("read the mount table");
        let table = String::from_utf8_lossy(&table);
        let mut mounts: Vec<_> = table.lines().filter_map(Mount::parse).collect();
        mounts.sort();
        let mut run = Vec::new();
        list(Path::new("/run"), &mut run);
        run.sort();
        State { mounts, run }
    }

    /// How many mounts there are at the place and below it.
    fn mounted(&self, place: &str) -> usize {
        self.mounts.iter().filter(|mount| mount.is_at(place)).count()
    }

    /// Nothing changed.
    pub fn assert_same(&self, before: &State) {
        assert_eq!(before.mounts, self.mounts, "the mounts are not as before");
        assert_eq!(before.run, self.run, "/run is not as before");
    }

    /// All the parts of a new root are there, and the disk is within.
    pub fn assert_complete(&self) {
        for part in ["", "/usr", "/sysroot"] {
            let point = format!("{SYSROOT}{part}");
            assert!(
                self.mounts.iter().any(|mount| mount.point == point),
                "{point} is no mount: {:#?}",
                self.mounts
            );
        }
    }

    /// What is mounted at SYSROOT is of the disk, or it was already, or it is new; and nothing else
    /// was changed but that layers in memory may have come.
    pub fn assert_only_of(&self, disk: &Disk, before: &State) {
        let inside = |mount: &&Mount| mount.is_at(SYSROOT);
        let own = disk.device();
        let known_outside: Vec<_> =
            before.mounts.iter().filter(|mount| !inside(mount)).map(|mount| &mount.device).collect();
        for mount in self.mounts.iter().filter(inside) {
            assert!(
                mount.device == own || !known_outside.contains(&&mount.device),
                "from outside the disk: {mount:?}"
            );
            let place = Path::new(SYSROOT).join(unescape(&mount.point));
            assert!(!place.join(CANARY).exists(), "{} is the outside", place.display());
        }
        let outside = |state: &State| -> Vec<Mount> {
            let kept = |mount: &&Mount| !inside(mount) && !mount.point.starts_with("/run/ostree/");
            state.mounts.iter().filter(kept).cloned().collect()
        };
        assert_eq!(outside(before), outside(self), "mounts elsewhere were changed");
    }
}

impl Mount {
    /// At the place, or below it.
    fn is_at(&self, place: &str) -> bool {
        self.point.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// `ID PARENT DEVICE ROOT POINT OPTIONS [PROPAGATION]... - TYPE SOURCE OPTIONS`
    fn parse(line: &str) -> Option<Mount> {
        let (front, file_system) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(2).map(str::to_owned);
        Some(Mount {
            device: fields.next()?,
            root: fields.next()?,
            point: fields.next()?,
            options: fields.next()?,
            propagation: fields
                .map(|field| field.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned())
                .collect(),
            file_system: file_system.to_owned(),
        })
    }
}

/// `\NNN` stands for white space and backslashes.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let code =
            after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        rest = match code {
            Some(code) if *byte == b'\\' => {
                bytes.push(code);
                &after[3..]
            }
            _ => {
                bytes.push(*byte);
                after
            }
        };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

fn list(path: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        let kind = meta.file_type();
        let contents = if kind.is_symlink() {
            std::fs::read_link(&path).unwrap_or_default().into_os_string()
        } else if kind.is_file() && meta.len() < LARGE {
            std::ffi::OsStr::from_bytes(&std::fs::read(&path).unwrap_or_default()).to_owned()
        } else {
            Default::default()
        };
        let special = kind.is_fifo() || kind.is_char_device();
        out.push(format!(
            "{} {:o} {special} {}",
            path.display(),
            meta.permissions().mode(),
            contents.display()
        ));
        if kind.is_dir() {
            list(&path, out);
        }
    }
}

fn open(path: &str) -> OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .expect("open a directory")
}

fn mount_tmpfs(place: impl rustix::path::Arg) {
    rustix::mount::mount("tmpfs", place, "tmpfs", MountFlags::empty(), c"mode=0755").expect("mount a tmpfs");
}

fn propagate(place: &str, propagation: Propagation) {
    let attributes = Attributes { propagation: Some(propagation), readonly: None };
    syscall::mount_setattr(open(place), true, attributes).expect("set the propagation");
}

/// Nothing that a disk says reaches a console as it is.
pub fn assert_printable(text: &str) {
    let printable = |byte: u8| byte == b'\n' || byte == b' ' || byte.is_ascii_graphic();
    assert!(text.bytes().all(printable), "not printable: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("FORGED")), "a line from the disk: {text:?}");
}

/// The log is read, by nobody else.
struct Reader;

impl Log for Reader {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        assert_printable(&record.args().to_string());
    }

    fn flush(&self) {}
}
