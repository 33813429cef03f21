//! Disks as the tools of the distribution make them, and what `blkid` says of them.

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use prepare_root::root_device::device::{Content, Device, Places};
use prepare_root::root_device::superblock::{self, Superblock};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use tempfile::TempDir;

type Result<T> = std::result::Result<T, String>;

/// A program that makes something, and what there should be then.
struct Case {
    name: &'static str,
    /// With its arguments; the name of the file is added.
    program: &'static [&'static str],
    /// The Debian package that it is from.
    package: &'static str,
    /// Our name for it, and that of `blkid` if it has another.
    kind: &'static str,
    blkid: &'static str,
    label: &'static str,
    /// A byte that a checksum is over.
    summed: Option<u64>,
}

const PLAIN: Case =
    Case { name: "", program: &[], package: "", kind: "", blkid: "", label: "", summed: None };
const EXT4: Case = Case { package: "e2fsprogs", kind: "ext4", blkid: "ext4", ..PLAIN };
const BTRFS: Case = Case { package: "btrfs-progs", kind: "btrfs", blkid: "btrfs", ..PLAIN };

const CASES: [Case; 15] = [
    Case {
        name: "ext4",
        program: &["mkfs.ext4", "-q", "-L", "root", "-O", "metadata_csum"],
        label: "root",
        summed: Some(1024 + 0x78),
        ..EXT4
    },
    Case { name: "ext4 without checksums", program: &["mkfs.ext4", "-q", "-O", "^metadata_csum"], ..EXT4 },
    Case {
        name: "ext4 with the longest label and small blocks",
        program: &["mkfs.ext4", "-q", "-b", "1024", "-L", "sixteen_letters_"],
        label: "sixteen_letters_",
        ..EXT4
    },
    Case { name: "ext3", program: &["mkfs.ext3", "-q", "-L", "a b"], blkid: "ext3", label: "a b", ..EXT4 },
    Case { name: "ext2", program: &["mkfs.ext2", "-q"], blkid: "ext2", ..EXT4 },
    Case {
        name: "journal",
        program: &["mke2fs", "-q", "-O", "journal_dev"],
        kind: "jbd",
        blkid: "jbd",
        ..EXT4
    },
    Case {
        name: "xfs",
        program: &["mkfs.xfs", "-q", "-L", "root"],
        package: "xfsprogs",
        kind: "xfs",
        blkid: "xfs",
        label: "root",
        summed: Some(108),
    },
    Case {
        name: "xfs version 4, large sectors",
        program: &["mkfs.xfs", "-q", "-m", "crc=0", "-s", "size=4096", "-L", "twelveletter"],
        package: "xfsprogs",
        kind: "xfs",
        blkid: "xfs",
        label: "twelveletter",
        summed: None,
    },
    Case {
        name: "btrfs",
        program: &["mkfs.btrfs", "-q", "-L", "root é"],
        label: "root é",
        summed: Some(65536 + 0x12b),
        ..BTRFS
    },
    Case { name: "btrfs with other checksums", program: &["mkfs.btrfs", "-q", "--csum", "xxhash"], ..BTRFS },
    Case {
        name: "f2fs",
        program: &["mkfs.f2fs", "-q", "-l", "Größe"],
        package: "f2fs-tools",
        kind: "f2fs",
        blkid: "f2fs",
        label: "Größe",
        summed: None,
    },
    Case {
        name: "erofs",
        program: &[
            "sh",
            "-c",
            "mkdir \"$0.d\" && mkfs.erofs --quiet \"$0\" \"$0.d\" && truncate -s 1M \"$0\"",
        ],
        package: "erofs-utils",
        kind: "erofs",
        blkid: "erofs",
        label: "",
        summed: Some(1024 + 64),
    },
    Case {
        name: "swap",
        program: &["mkswap", "-q", "-L", "swap"],
        package: "util-linux",
        kind: "swap",
        blkid: "swap",
        label: "swap",
        summed: None,
    },
    Case {
        name: "LUKS 1",
        program: &[
            "sh",
            "-c",
            "echo x | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 \"$0\"",
        ],
        package: "cryptsetup-bin",
        kind: "crypto_LUKS",
        blkid: "crypto_LUKS",
        label: "",
        summed: None,
    },
    Case {
        name: "LUKS 2",
        program: &[
            "sh",
            "-c",
            "echo x | cryptsetup luksFormat -q --type luks2 --label secret --pbkdf pbkdf2 \
             --pbkdf-force-iterations 1000 \"$0\"",
        ],
        package: "cryptsetup-bin",
        kind: "crypto_LUKS",
        blkid: "crypto_LUKS",
        label: "secret",
        summed: None,
    },
];

fn main() -> ExitCode {
    let case = |case: &'static Case| {
        Trial::ignorable_test(format!("disk: {}", case.name), move || {
            if let Some(missing) = missing(case) {
                return Ok(Completion::ignored_with(missing));
            }
            check(case).map(|()| Completion::Completed).map_err(Failed::from)
        })
    };
    let mut trials: Vec<Trial> = CASES.iter().map(case).collect();
    for (name, label) in [("GPT", "gpt"), ("MBR", "dos")] {
        let name = format!("disk: partitions of a {name}");
        trials.push(Trial::test(name, move || partitions(label).map_err(Failed::from)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What has to be installed for it.
fn missing(case: &Case) -> Option<String> {
    let script = case.program.join(" ");
    let tools = script.split([' ', '"', '|']).filter(|word| word.starts_with("mk") || *word == "cryptsetup");
    let found = |tool: &str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(tool).exists())
    };
    let tool = tools.into_iter().find(|tool| !found(tool))?;
    Some(format!("{tool} is not there (Debian package {})", case.package))
}

fn check(case: &Case) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let image = folder.path().join("image");
    let file = File::create_new(&image).and_then(|file| file.set_len(512 << 20));
    file.map_err(|error| format!("make {}: {error}", image.display()))?;
    run(Command::new(case.program[0]).args(&case.program[1..]).arg(&image))?;

    let found = superblock_of(&image)?.ok_or("nothing was found")?;
    let [kind, label, uuid] = blkid(&image)?;
    same("kind", found.kind.name(), case.kind)?;
    same("blkid's type", &kind, case.blkid)?;
    same("label", &String::from_utf8_lossy(&found.label), case.label)?;
    same("UUID", &String::from_utf8_lossy(&found.uuid), &uuid)?;
    // What blkid does not know is not in the case either.
    if !label.is_empty() || case.label.is_empty() {
        same("blkid's label", &label, case.label)?;
    }
    if found.damaged || found.devices != 1 {
        return Err(format!("it is {found:?}"));
    }
    if let Some(at) = case.summed {
        change(&image, at)?;
        if !superblock_of(&image)?.is_some_and(|found| found.damaged) {
            return Err("a change was not noticed".into());
        }
    }
    Ok(())
}

fn superblock_of(image: &Path) -> Result<Option<Superblock>> {
    let mut start = Vec::new();
    let file = File::open(image).map_err(|error| error.to_string())?;
    file.take(superblock::LENGTH as u64).read_to_end(&mut start).map_err(|error| error.to_string())?;
    Ok(Superblock::find(&start))
}

fn change(image: &Path, at: u64) -> Result<()> {
    let change = || {
        let file = File::options().read(true).write(true).open(image)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 1], at)
    };
    change().map_err(|error: std::io::Error| error.to_string())
}

/// Type, label and UUID.
fn blkid(image: &Path) -> Result<[String; 3]> {
    let output = run(Command::new("blkid").args(["-p", "-o", "udev"]).arg(image))?;
    let value = |key: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        unescape(line)
    };
    Ok([value("ID_FS_TYPE="), value("ID_FS_LABEL_ENC="), value("ID_FS_UUID=")])
}

/// Characters that are not safe in a file name are `\xNN`.
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut unescaped = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        unescaped.extend(u8::from_str_radix(digits, 16));
        unescaped.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&unescaped).into_owned()
}

/// What `sfdisk` wrote is found for the partitions of which a kernel tells only the number.
fn partitions(label: &str) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let image = folder.path().join("image");
    File::create_new(&image).and_then(|file| file.set_len(64 << 20)).map_err(|error| error.to_string())?;
    let script = match label {
        "gpt" => "label: gpt\nsize=1M, name=\"EFI system\"\n3: size=2M, name=\"Wurzel ä\"\n128: size=1M\n",
        _ => "label: dos\nlabel-id: 0x00abcdef\nsize=1M\nsize=8M, type=5\nsize=1M\n5: size=1M\n",
    };
    let mut sfdisk = Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel"])
        .arg(&image)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("sfdisk: {error}"))?;
    sfdisk.stdin.take().ok_or("no pipe")?.write_all(script.as_bytes()).map_err(|error| error.to_string())?;
    if !sfdisk.wait().map_err(|error| error.to_string())?.success() {
        return Err("sfdisk failed".into());
    }
    let machine = Machine::new(&folder, &image)?;
    let expected: &[(u32, &str)] = match label {
        "gpt" => &[(1, "EFI system"), (2, ""), (3, "Wurzel ä"), (127, ""), (128, ""), (129, "")],
        _ => &[(1, ""), (2, ""), (3, ""), (5, "")],
    };
    for (number, name) in expected {
        let device = machine.partition(*number)?;
        let identity = device.identity.unwrap_or_default();
        let uuid = match (label, number) {
            ("gpt", 1 | 3 | 128) => {
                run(Command::new("sfdisk").arg("--part-uuid").arg(&image).arg(number.to_string()))?
            }
            ("gpt", _) => String::new(),
            _ => format!("00abcdef-{number:02x}"),
        };
        same("PARTUUID", &String::from_utf8_lossy(&identity.uuid), &uuid.trim().to_lowercase())?;
        same("PARTLABEL", &String::from_utf8_lossy(&identity.label), name)?;
    }
    if label == "gpt" {
        let content = machine.content()?;
        if !matches!(content, Content::Table(_)) {
            return Err(format!("the disk is {content:?}"));
        }
        change(&image, 512 + 72)?;
        let identity = machine.partition(1)?.identity.unwrap_or_default();
        same("PARTUUID in a damaged table", &String::from_utf8_lossy(&identity.uuid), "")?;
    }
    Ok(())
}

/// A kernel that knows only numbers.
struct Machine {
    class: PathBuf,
    nodes: PathBuf,
}

impl Machine {
    fn new(folder: &TempDir, image: &Path) -> Result<Machine> {
        let (class, nodes) = (folder.path().join("class"), folder.path().join("dev"));
        let make = || {
            std::fs::create_dir(&class)?;
            std::fs::create_dir(&nodes)?;
            std::os::unix::fs::symlink(image, nodes.join("vda"))?;
            device(&class, "vda", "MAJOR=254\nMINOR=0\n")
        };
        make().map_err(|error: std::io::Error| format!("make a machine: {error}"))?;
        Ok(Machine { class, nodes })
    }

    fn places(&self) -> Places<'_> {
        Places { class: self.class.as_os_str().as_bytes(), nodes: self.nodes.as_os_str().as_bytes() }
    }

    fn partition(&self, number: u32) -> Result<Device> {
        let name = format!("vda{number}");
        let uevent =
            format!("MAJOR=254\nMINOR={number}\nPARTN={number}\nPARTNAME=x!\nPARTUUID=of an old kernel\n");
        let _ = std::fs::remove_file(self.class.join(&name));
        device(&self.class, &format!("vda/{name}"), &uevent).map_err(|error| error.to_string())?;
        let mut devices = Vec::new();
        self.places().update(&mut devices, name.as_bytes());
        let mut device = devices.pop().ok_or("the partition is not there")?;
        self.places().identify(&mut device);
        Ok(device)
    }

    fn content(&self) -> Result<Content> {
        let mut devices = Vec::new();
        self.places().update(&mut devices, b"vda");
        let mut device = devices.pop().ok_or("the disk is not there")?;
        self.places().examine(&mut device);
        device.content.ok_or_else(|| "it was not looked at".into())
    }
}

fn device(class: &Path, path: &str, uevent: &str) -> std::io::Result<()> {
    let directory = class.with_file_name("devices").join(path);
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("uevent"), uevent)?;
    std::fs::write(directory.join("size"), "131072\n")?;
    let name = path.rsplit('/').next().unwrap_or(path);
    std::os::unix::fs::symlink(Path::new("../devices").join(path), class.join(name))
}

fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn run(command: &mut Command) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
