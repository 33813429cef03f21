//! A small initramfs in a mount namespace of its own, a program run in it, and what it did to
//! mounts and `/run`.
//!
//! The initramfs is the root of its namespace, as a real one is, not just a `chroot`: programs that
//! enter a mount namespace (`setns(2)`) are put at its root.

use super::failure::{Context, Result};
use super::mounts::Mounts;
use super::product;
use super::sysroots::Disks;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Longer than any run takes on a busy machine. A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test, in the sandbox.
pub const PRODUCT: &str = "/ostree-prepare-root";

/// Where the physical root is mounted.
pub const SYSROOT: &str = "/sysroot";

/// The `/usr` of the machine that runs the tests, in the sandbox.
pub const HOST_USR: &str = "/host/usr";

/// `nobody` of Debian.
const NOBODY: u32 = 65534;

/// What is in the sandbox, and what is run in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// An empty directory where the sandbox is built.
    pub base: PathBuf,
    /// The `/usr` of the initramfs.
    pub usr: PathBuf,
    /// The program under test.
    pub product: PathBuf,
    /// The physical root.
    pub ground: Ground,
    /// All mounts are shared, as systemd makes them.
    pub shared: bool,
    /// Changes before the first run; in this order.
    pub edits: Vec<Edit>,
    /// There are loop devices.
    pub loop_devices: bool,
    /// There is a `/dev/kmsg`.
    pub kernel_log: bool,
    /// There is a [`HOST_USR`].
    pub host: bool,
    /// What else is brought from outside, read-only, and where it is then.
    pub brought: Vec<(PathBuf, String)>,
    /// What is run.
    pub runs: Vec<Run>,
    /// Files to bring back after every run.
    pub collect: Vec<String>,
}

/// The physical root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ground {
    /// A file system that is mounted already, and not modified: others use it at the same time.
    Disk {
        /// Where it is mounted.
        mounted: PathBuf,
        /// The mount that the program finds is read-only.
        readonly: bool,
        /// It is also `nosuid,nodev,noexec`.
        hardened: bool,
    },
    /// A copy in a tmpfs, for tests that modify it.
    Copy(PathBuf),
    /// A directory that is no mount point.
    Directory,
}

/// One change. Paths are those of the sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Edit {
    /// Writes a file, and the directories above it.
    File(String, Vec<u8>),
    /// Makes a symbolic link to the second path, in place of whatever is there, and the directories
    /// above it.
    Link(String, String),
    /// Makes a directory, in place of whatever is there.
    Directory(String),
    /// Makes a FIFO, in place of whatever is there.
    Fifo(String),
    /// Removes a file or a whole directory.
    Remove(String),
    /// Makes a node of `/dev/zero`, in place of whatever is there.
    Endless(String),
    /// Makes a file of that many bytes, all of them holes, in place of whatever is there.
    Sparse(String, u64),
    /// Makes as many links to the text, called by numbers, in a directory of a file system of its own.
    Links(String, u32, String),
    /// Mounts an empty tmpfs.
    Tmpfs(String),
    /// Mounts a `/proc`.
    Proc(String),
    /// Makes `/proc/cmdline` say that.
    Cmdline(String),
}

/// One run of a program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Without privileges.
    pub nobody: bool,
}

impl Run {
    /// A run as root.
    pub fn of(arguments: Vec<String>) -> Run {
        Run { arguments, nobody: false }
    }
}

/// What was seen in the sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Before the first run.
    pub before: State,
    /// For every run.
    pub runs: Vec<Ran>,
}

/// One run, and the state after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ran {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// How long it took.
    pub time: Duration,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The state after it.
    pub after: State,
    /// What the kernel log got meanwhile, from everybody: priority and text.
    pub kernel_log: Vec<(u8, String)>,
    /// [`Sandbox::collect`], as far as the files exist.
    pub files: BTreeMap<String, String>,
}

/// Mounts and files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The mounts the program sees.
    pub mounts: Mounts,
    /// The mounts in a namespace that was copied from this one before the first run: in the same
    /// peer groups.
    pub peer: Mounts,
    /// Everything in `/run`: path, type, mode, owner, contents.
    pub run: Vec<String>,
}

impl Sandbox {
    /// A sandbox in which nothing is run yet.
    pub fn new(disks: &Disks, ground: Ground) -> Result<Sandbox> {
        Ok(Sandbox {
            base: disks.base.clone(),
            usr: disks.reference.join("usr"),
            product: product::path()?,
            ground,
            shared: false,
            edits: Vec::new(),
            loop_devices: false,
            kernel_log: false,
            host: false,
            brought: Vec::new(),
            runs: Vec::new(),
            collect: Vec::new(),
        })
    }

    /// Builds the sandbox around this process, which must have a single thread, and runs what is to
    /// be run.
    pub fn enter(&self) -> Result<Outcome> {
        self.construct()?;
        self.play(&self.runs)
    }

    /// Builds the sandbox once for many scenes, each with its own runs. Every scene has its mounts
    /// and its `/run` for itself; the rest, such as a [`Ground::Copy`], is the same for all.
    pub fn enter_for(&self, scenes: &[Vec<Run>]) -> Result<Vec<Outcome>> {
        self.construct()?;
        scenes.iter().map(|runs| self.scene(runs)).collect()
    }

    /// A thread can have a mount namespace of its own, which is made, and goes, much faster than a
    /// sandbox.
    fn scene(&self, runs: &[Run]) -> Result<Outcome> {
        let play = || {
            unshare(CloneFlags::CLONE_NEWNS).context("make the scene's mount namespace")?;
            umount2("/run", MntFlags::MNT_DETACH).context("unmount /run")?;
            mount_new("tmpfs", Path::new("/run"), "mode=0755")?;
            self.play(runs)
        };
        let played = std::thread::scope(|scope| scope.spawn(play).join());
        played.unwrap_or_else(|_| Err("the scene panicked".into()))
    }

    /// Builds the sandbox around this process; nothing in it is shared yet.
    pub fn build(&self) -> Result<()> {
        self.construct()?;
        self.edits.iter().try_for_each(Edit::carry_out)
    }

    fn construct(&self) -> Result<()> {
        initramfs(&self.base, &self.usr)?;
        bind(&self.product, &self.base.join(PRODUCT.trim_start_matches('/')), true)?;
        self.mount_ground()?;
        if self.loop_devices {
            make_loop_devices(&self.base.join("dev"))?;
        }
        if self.kernel_log {
            bind(Path::new("/dev/kmsg"), &self.base.join("dev/kmsg"), false)?;
        }
        if self.host {
            bind(Path::new("/usr"), &self.base.join(HOST_USR.trim_start_matches('/')), false)?;
        }
        for (from, to) in &self.brought {
            bind(from, &self.base.join(to.trim_start_matches('/')), true)?;
        }
        pivot(&self.base)
    }

    fn play(&self, runs: &[Run]) -> Result<Outcome> {
        for edit in &self.edits {
            edit.carry_out()?;
        }
        if self.shared {
            set_propagation("/", MsFlags::MS_SHARED)?;
        }
        let peer = Peer::start()?;
        let before = State::now(&peer)?;
        let runs = runs.iter().map(|run| self.run(run, &peer)).collect::<Result<_>>()?;
        Ok(Outcome { before, runs })
    }

    fn mount_ground(&self) -> Result<()> {
        let place = self.base.join(SYSROOT.trim_start_matches('/'));
        match &self.ground {
            Ground::Directory => fs::create_dir_all(&place).context("make the directory"),
            Ground::Copy(from) => {
                mount_new("tmpfs", &place, "mode=0755")?;
                tool(Command::new("cp").arg("-a").arg(from.join(".")).arg(&place))
            }
            Ground::Disk { mounted, readonly, hardened } => {
                bind(mounted, &place, false)?;
                let mut flags = MsFlags::empty();
                flags.set(MsFlags::MS_RDONLY, *readonly);
                flags.set(MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, *hardened);
                if flags.is_empty() { Ok(()) } else { remount(&place, flags) }
            }
        }
    }

    fn run(&self, run: &Run, peer: &Peer) -> Result<Ran> {
        let [program, arguments @ ..] = &run.arguments[..] else { return Err("nothing to run".into()) };
        let mut kernel_log = if self.kernel_log { Some(KernelLog::open()?) } else { None };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin");
        if run.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        let start = Instant::now();
        let (status, stdout, stderr) = finish(&mut command)?;
        let time = start.elapsed();
        let files =
            self.collect.iter().filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)));
        Ok(Ran {
            status,
            time,
            stdout,
            stderr,
            after: State::now(peer)?,
            kernel_log: kernel_log.as_mut().map_or(Ok(Vec::new()), KernelLog::records)?,
            files: files.collect(),
        })
    }
}

/// Runs a program to its end, or as long as [`PATIENCE`] lasts.
pub fn finish(command: &mut Command) -> Result<(Option<i32>, String, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(format!("run {command:?}"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    // Both ends close when it ends.
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(PATIENCE), stderr.recv_timeout(PATIENCE)) else {
        child.kill().context("end a program that hangs")?;
        return Err(format!("{command:?} did not end within {PATIENCE:?}"));
    };
    let status = child.wait().context("wait for the program")?;
    Ok((status.code(), stdout, stderr))
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Runs a tool of the machine that runs the tests.
pub fn tool(command: &mut Command) -> Result<()> {
    let output = command.output().context(format!("run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// Gives this process a mount namespace of its own with an initramfs at `base`, not entered yet.
pub fn initramfs(base: &Path, usr: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    set_propagation("/", MsFlags::MS_PRIVATE)?;
    mount_new("tmpfs", base, "mode=0755")?;
    bind(usr, &base.join("usr"), true)?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), base.join(name)).context(format!("link /{name}"))?;
    }
    for name in ["etc/ostree", "tmp", "var/tmp"] {
        fs::create_dir_all(base.join(name)).context(format!("make /{name}"))?;
    }
    mount_new("proc", &base.join("proc"), "")?;
    mount_new("tmpfs", &base.join("run"), "mode=0755")?;
    bind(Path::new("/dev/null"), &base.join("dev/null"), false)
}

/// The control device, and more loop devices than are ever in use: the kernel makes them when asked
/// for a free one, and in the sandbox nobody makes their nodes then.
fn make_loop_devices(folder: &Path) -> Result<()> {
    const MISC: u64 = 10;
    const LOOP_CONTROL: u64 = 237;
    const LOOP: u64 = 7;
    let make = |name: &str, kind, device| {
        mknod(&folder.join(name), kind, Mode::S_IRUSR | Mode::S_IWUSR, device).context(format!("make {name}"))
    };
    make("loop-control", SFlag::S_IFCHR, makedev(MISC, LOOP_CONTROL))?;
    (0..128).try_for_each(|minor| make(&format!("loop{minor}"), SFlag::S_IFBLK, makedev(LOOP, minor)))
}

/// Makes `base` the root of this namespace; everything else is gone.
pub fn pivot(base: &Path) -> Result<()> {
    std::env::set_current_dir(base).context("enter the new root")?;
    nix::unistd::pivot_root(".", ".").context("change the root")?;
    // The old root is on top of the new one now: pivot_root(2), "pivot_root(".", ".")".
    umount2(".", MntFlags::MNT_DETACH).context("detach the old root")?;
    std::env::set_current_dir("/").context("enter /")
}

/// Sets it for the mount and all below it.
pub fn set_propagation(place: &str, propagation: MsFlags) -> Result<()> {
    mount(None::<&str>, place, None::<&str>, propagation | MsFlags::MS_REC, None::<&str>)
        .context(format!("set the propagation of {place}"))
}

/// Mounts a new file system.
pub fn mount_new(kind: &str, place: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(place).context(format!("make {}", place.display()))?;
    mount(Some(kind), place, Some(kind), MsFlags::empty(), Some(options))
        .context(format!("mount {kind} on {}", place.display()))
}

/// Binds `from`, a file or a directory, to `place`, which is made.
pub fn bind(from: &Path, place: &Path, readonly: bool) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(place).context(format!("make {}", place.display()))?;
    } else {
        fs::create_dir_all(place.parent().unwrap_or(place)).context(format!("make {}", place.display()))?;
        fs::File::create(place).context(format!("make {}", place.display()))?;
    }
    mount(Some(from), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).context(format!(
        "bind {} to {}",
        from.display(),
        place.display()
    ))?;
    if readonly { remount(place, MsFlags::MS_RDONLY) } else { Ok(()) }
}

fn remount(place: &Path, flags: MsFlags) -> Result<()> {
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
        .context(format!("remount {}", place.display()))
}

impl Edit {
    fn carry_out(&self) -> Result<()> {
        match self {
            Edit::File(path, bytes) => {
                let folder = Path::new(path).parent().context(path)?;
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(path, bytes))
                    .context(format!("write {path}"))
            }
            Edit::Link(path, text) => {
                if let Some(parent) = Path::new(path).parent() {
                    fs::create_dir_all(parent).context(format!("make {}", parent.display()))?;
                }
                remove(path)?;
                symlink(text, path).context(format!("link {path}"))
            }
            Edit::Directory(path) => {
                remove(path)?;
                fs::create_dir_all(path).context(format!("make {path}"))
            }
            Edit::Fifo(path) => {
                remove(path)?;
                nix::unistd::mkfifo(path.as_str(), Mode::S_IRWXU).context(format!("make the FIFO {path}"))
            }
            Edit::Endless(path) => {
                remove(path)?;
                mknod(path.as_str(), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5))
                    .context(format!("make the device {path}"))
            }
            Edit::Sparse(path, size) => {
                Edit::File(path.clone(), Vec::new()).carry_out()?;
                let file = fs::File::options().write(true).open(path);
                file.and_then(|file| file.set_len(*size)).context(format!("make {path} large"))
            }
            Edit::Links(folder, count, text) => {
                mount_new("tmpfs", Path::new(folder), "nr_inodes=0")?;
                let path = |number| format!("{folder}/{number}");
                symlink(text, path(0)).context(format!("link {folder}/0"))?;
                // More names of the same link: a tenth of the memory.
                (1..*count)
                    .try_for_each(|number| fs::hard_link(path(0), path(number)))
                    .context(format!("make links in {folder}"))
            }
            Edit::Tmpfs(path) => mount_new("tmpfs", Path::new(path), ""),
            Edit::Proc(path) => mount_new("proc", Path::new(path), ""),
            Edit::Cmdline(text) => {
                const FILE: &str = "/tmp/cmdline";
                fs::write(FILE, text).context(format!("write {FILE}"))?;
                mount(Some(FILE), "/proc/cmdline", None::<&str>, MsFlags::MS_BIND, None::<&str>)
                    .context("bind /proc/cmdline")
            }
            Edit::Remove(path) => {
                fs::symlink_metadata(path).context(format!("find {path}"))?;
                remove(path)
            }
        }
    }
}

fn remove(path: &str) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("look at {path}: {error}")),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).context(format!("remove {path}")),
        Ok(_) => fs::remove_file(path).context(format!("remove {path}")),
    }
}

impl State {
    fn now(peer: &Peer) -> Result<State> {
        Ok(State {
            mounts: Mounts::read("/proc/thread-self/mountinfo")?,
            peer: peer.mounts()?,
            run: run_files()?,
        })
    }
}

/// Everything in `/run`: path, type, mode, owner, contents.
pub fn run_files() -> Result<Vec<String>> {
    let mut run = Vec::new();
    list(Path::new("/run"), &mut run)?;
    run.sort();
    Ok(run)
}

fn list(path: &Path, out: &mut Vec<String>) -> Result<()> {
    let name = path.display();
    let meta = fs::symlink_metadata(path).context(format!("look at {name}"))?;
    let (kind, contents) = if meta.is_dir() {
        for entry in fs::read_dir(path).context(format!("list {name}"))? {
            list(&entry.context(format!("list {name}"))?.path(), out)?;
        }
        ("directory", String::new())
    } else if meta.is_symlink() {
        ("link", fs::read_link(path).context(format!("read {name}"))?.display().to_string())
    } else if meta.is_file() {
        ("file", fs::read(path).context(format!("read {name}"))?.escape_ascii().to_string())
    } else {
        ("special", String::new())
    };
    let (mode, uid, gid) = (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid());
    out.push(format!("{name} {kind} {mode:04o} {uid}:{gid} {contents}"));
    Ok(())
}

/// A thread in a copy of the mount namespace.
struct Peer {
    ask: Sender<()>,
    answers: Receiver<Result<Mounts>>,
}

impl Peer {
    fn start() -> Result<Peer> {
        let (ask, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        std::thread::spawn(move || {
            let unshared = unshare(CloneFlags::CLONE_NEWNS).context("make the peer's mount namespace");
            for () in asked {
                let mounts = unshared.clone().and_then(|()| Mounts::read("/proc/thread-self/mountinfo"));
                if answer.send(mounts).is_err() {
                    return;
                }
            }
        });
        let peer = Peer { ask, answers };
        // Only an answer tells that the copy was made before anything else happens here.
        peer.mounts()?;
        Ok(peer)
    }

    fn mounts(&self) -> Result<Mounts> {
        self.ask.send(()).context("ask the peer")?;
        self.answers.recv().context("hear from the peer")?
    }
}

/// The kernel's log, from now on.
struct KernelLog(fs::File);

impl KernelLog {
    fn open() -> Result<KernelLog> {
        let mut file = fs::File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open("/dev/kmsg")
            .context("open /dev/kmsg")?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).context("seek in /dev/kmsg")?;
        Ok(KernelLog(file))
    }

    /// `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT`, one record a read: `Documentation/ABI/testing/dev-kmsg`.
    fn records(&mut self) -> Result<Vec<(u8, String)>> {
        let mut records = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let length = match self.0.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(records),
                result => result.context("read /dev/kmsg")?,
            };
            let record = String::from_utf8_lossy(&buffer[..length]);
            let (prefix, text) = record.split_once(';').context("parse a record of /dev/kmsg")?;
            let number = prefix.split(',').next().and_then(|number| number.parse::<u32>().ok());
            let number = number.context("parse the priority of a record of /dev/kmsg")?;
            // The higher bits are the facility. Lines after the first are metadata.
            records.push(((number & 7) as u8, text.lines().next().unwrap_or_default().to_owned()));
        }
    }
}
