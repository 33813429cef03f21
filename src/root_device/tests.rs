//! Disks made of files, and events made by hand.

use super::*;
use crate::cmdline::Cmdline;
use std::cell::RefCell;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// `/sys/class/block` and `/dev`.
struct Machine {
    class: PathBuf,
    nodes: PathBuf,
    folder: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let (class, nodes) = (folder.path().join("class"), folder.path().join("dev"));
        fs::create_dir_all(&class).unwrap();
        fs::create_dir_all(&nodes).unwrap();
        Machine { class, nodes, folder }
    }

    fn places(&self) -> Places<'_> {
        Places { class: self.class.as_os_str().as_bytes(), nodes: self.nodes.as_os_str().as_bytes() }
    }

    /// A device whose directory is there, with a link to it as in `/sys`.
    fn add(&self, path: &str, minor: u32, uevent: &str, contents: &[u8]) {
        let name = Path::new(path).file_name().unwrap();
        let directory = self.folder.path().join("devices").join(path);
        fs::create_dir_all(directory.join("queue")).unwrap();
        fs::write(directory.join("queue/logical_block_size"), "512\n").unwrap();
        fs::write(directory.join("uevent"), format!("MAJOR=254\nMINOR={minor}\n{uevent}")).unwrap();
        fs::write(directory.join("size"), format!("{}\n", contents.len() / 512)).unwrap();
        fs::write(self.nodes.join(name), contents).unwrap();
        symlink(Path::new("../devices").join(path), self.class.join(name)).unwrap();
    }

    fn disk(&self, name: &str, minor: u32, contents: &[u8]) {
        self.add(name, minor, "DEVTYPE=disk\n", contents);
    }

    fn part(&self, disk: &str, number: u32, uuid: &str, contents: &[u8]) {
        let uevent = format!("DEVTYPE=partition\nPARTN={number}\nPARTNAME=p{number}\nPARTUUID={uuid}\n");
        self.add(&format!("{disk}/{disk}{number}"), number, &uevent, contents);
    }

    /// What happens is done, and then told, one thing after another; then there is silence.
    fn search(&self, cmdline: &str, events: Vec<(&dyn Fn(), Event)>) -> (Result<Found>, Vec<Error>) {
        let argument = RootArgument::parse(&Cmdline::new(cmdline)).unwrap();
        let events = RefCell::new(events.into_iter());
        let mut next = |_| {
            Ok(match events.borrow_mut().next() {
                Some((happen, event)) => {
                    happen();
                    event
                }
                None => {
                    // Time goes by.
                    std::thread::sleep(LIMIT);
                    Event::Nothing
                }
            })
        };
        let mut told = Vec::new();
        let mut search = Search { places: self.places(), argument: &argument, next: &mut next };
        let found = search.find(LIMIT, &mut |error| told.push(error.clone()));
        (found, told)
    }

    fn find(&self, cmdline: &str) -> Result<Found> {
        self.search(cmdline, Vec::new()).0
    }

    /// The name of the device that is found.
    fn name(&self, cmdline: &str) -> String {
        let path = self.find(cmdline).unwrap().path.into_string().unwrap();
        Path::new(&path).file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn error(&self, cmdline: &str) -> String {
        let text = self.find(cmdline).unwrap_err().to_string();
        text.replace(self.folder.path().to_str().unwrap(), "")
    }
}

const LIMIT: Duration = Duration::from_millis(10);

/// An ext4 of so many bytes with this label, and a UUID of this byte.
fn ext4(label: &str, byte: u8) -> Vec<u8> {
    let mut contents = vec![0; 128 << 10];
    contents[1024] = 1;
    contents[1024 + 0x38..][..2].copy_from_slice(b"\x53\xef");
    contents[1024 + 0x68..][..16].fill(byte);
    contents[1024 + 0x78..][..label.len()].copy_from_slice(label.as_bytes());
    contents
}

fn luks() -> Vec<u8> {
    let mut contents = vec![0; 128 << 10];
    contents[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    contents[168..172].copy_from_slice(b"abcd");
    contents
}

const UUID: &str = "abababab-abab-abab-abab-abababababab";

/// A machine with one disk of three partitions.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.disk("vda", 0, &[0; 4096]);
    machine.part("vda", 1, "0b-01", &[0; 4096]);
    machine.part("vda", 2, "0b-02", &ext4("root", 0xab));
    machine.part("vda", 10, "0b-0a", &luks());
    machine
}

#[test]
fn by_every_name() {
    let machine = machine();
    for root in [
        "LABEL=root",
        &format!("UUID={}", UUID.to_uppercase()),
        "PARTLABEL=p2",
        "PARTUUID=0B-02",
        "PARTUUID=0b-01/PARTNROFF=1",
        "PARTUUID=0b-0a/PARTNROFF=-8",
        "/dev/vda2",
        "254:2",
        "fe02",
    ] {
        assert_eq!(machine.name(&format!("root={root}")), "vda2", "{root}");
    }
    let found = machine.find("root=LABEL=root").unwrap();
    assert_eq!((found.number, found.kind, found.kinds), ((254, 2), Some(Kind::Ext4), vec![c"ext4".into()]));
    let kinds = machine.find("root=LABEL=root rootfstype=ext3,ext2").unwrap().kinds;
    assert_eq!(kinds, [CString::from(c"ext3"), c"ext2".into()]);
}

#[test]
fn the_first_of_two() {
    let machine = machine();
    machine.disk("vdb", 16, &ext4("root", 0xab));
    machine.disk("vdaa", 17, &ext4("root", 0xab));
    assert_eq!(machine.name("root=LABEL=root"), "vda2");
    // One that cannot be the root does not stand in the way of one that can.
    let machine = Machine::new();
    let mut damaged = ext4("root", 1);
    damaged[1024 + 0x65] = 4;
    machine.disk("vda", 0, &damaged);
    machine.disk("vdb", 1, &ext4("root", 2));
    assert_eq!(machine.name("root=LABEL=root"), "vdb");
}

#[test]
fn a_warning_names_two() {
    let machine = Machine::new();
    let found = ["/dev/vda", "/dev/vdb", "/dev/vdc"].map(|path| Found {
        path: CString::new(path).unwrap(),
        number: (254, 0),
        kind: None,
        kinds: Vec::new(),
    });
    let warning = |cmdline: &str, found: &[Found]| {
        let argument = RootArgument::parse(&Cmdline::new(cmdline)).unwrap();
        let mut next = |_| Ok(Event::Nothing);
        Search { places: machine.places(), argument: &argument, next: &mut next }.ambiguity(found)
    };
    let expected = Some("LABEL=root is /dev/vda and /dev/vdb: taking /dev/vda".to_owned());
    assert_eq!(warning("root=LABEL=root", &found), expected);
    assert_eq!(warning("root=LABEL=root", &found[..1]), None);
    assert_eq!(warning("root=LABEL=root rootflags=ro,device=/dev/vdb", &found), None);
}

#[test]
fn a_disk_with_partitions_has_no_label() {
    let machine = Machine::new();
    machine.disk("vda", 0, &ext4("root", 1));
    assert_eq!(machine.name("root=LABEL=root"), "vda");
    machine.part("vda", 1, "x", &[0; 4096]);
    assert!(machine.error("root=LABEL=root").contains("no such device"));
}

#[test]
fn as_soon_as_the_kernel_reports_it() {
    let machine = Machine::new();
    let add = || machine.disk("vda", 0, &ext4("root", 1));
    let nothing = || ();
    let other = Event::Block(b"vdb".to_vec());
    let events: Vec<(&dyn Fn(), Event)> = vec![(&nothing, other), (&add, Event::Block(b"vda".to_vec()))];
    let (found, told) = machine.search("root=LABEL=root", events);
    assert!(found.unwrap().path.to_bytes().ends_with(b"/vda") && told.is_empty());
}

#[test]
fn after_lost_events_everything_is_looked_at_again() {
    let machine = Machine::new();
    let add = || machine.disk("vda", 0, &ext4("root", 1));
    let (found, _) = machine.search("root=/dev/vda", vec![(&add, Event::Lost)]);
    found.unwrap();
}

#[test]
fn a_device_that_changes_is_read_again() {
    let machine = Machine::new();
    machine.disk("vda", 0, &[0; 4096]);
    let change = || fs::write(machine.nodes.join("vda"), ext4("root", 1)).unwrap();
    let (found, _) = machine.search("root=LABEL=root", vec![(&change, Event::Block(b"vda".to_vec()))]);
    found.unwrap();
}

#[test]
fn a_node_that_comes_after_its_device_is_waited_for() {
    let machine = machine();
    let node = machine.nodes.join("vda2");
    let contents = fs::read(&node).unwrap();
    fs::remove_file(&node).unwrap();
    let make = || fs::write(&node, &contents).unwrap();
    let event = Event::Block(b"vda2".to_vec());
    let (found, _) = machine.search("root=/dev/vda2", vec![(&make, event)]);
    found.unwrap();
    fs::remove_file(&node).unwrap();
    let error = machine.error("root=/dev/vda2");
    assert!(error.contains("/dev/vda2 cannot be read: No such file or directory (ENOENT)"), "{error}");
}

#[test]
fn how_long_it_waits() {
    let machine = Machine::new();
    let (found, told) = machine.search("root=LABEL=root", Vec::new());
    assert!(found.unwrap_err().to_string().contains("no such device within 0 s") && told.is_empty());

    let start = Instant::now();
    let (found, told) = machine.search("root=LABEL=root rootwait=1", Vec::new());
    assert!(found.unwrap_err().to_string().contains("within 1 s") && told.is_empty());
    assert!(start.elapsed() >= Duration::from_secs(1));

    // For ever: told once, and found at last.
    let pause = || std::thread::sleep(2 * LIMIT);
    let add = || machine.disk("vda", 0, &ext4("root", 1));
    let events: Vec<(&dyn Fn(), Event)> =
        vec![(&pause, Event::Nothing), (&pause, Event::Nothing), (&add, Event::Block(b"vda".to_vec()))];
    let (found, told) = machine.search("root=LABEL=root rootwait", events);
    found.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn what_cannot_be_the_root_is_refused_at_once() {
    let machine = machine();
    let mut several = vec![0; superblock::LENGTH];
    several[(64 << 10) + 48..][..8].copy_from_slice(&(64_u64 << 10).to_le_bytes());
    several[(64 << 10) + 64..][..8].copy_from_slice(b"_BHRfS_M");
    several[(64 << 10) + 0x88] = 2;
    several[(64 << 10) + 0xc4] = 1;
    machine.disk("vdb", 20, &several);
    let mut damaged = ext4("damaged", 1);
    damaged[1024 + 0x65] = 4;
    machine.disk("vdc", 21, &damaged);
    let mut raid = ext4("mirror", 2);
    let end = raid.len() - 16 * 512;
    raid[end..end + 8].copy_from_slice(b"\xfc\x4e\x2b\xa9\x01\0\0\0");
    raid[end + 144] = 240;
    machine.disk("vdd", 22, &raid);
    let mut gpt = vec![0; 4096];
    gpt[446 + 4] = 0x83;
    gpt[510..512].copy_from_slice(b"\x55\xaa");
    machine.disk("vde", 23, &gpt);
    for (cmdline, expected) in [
        ("root=/dev/vda1", "/dev/vda1 is damaged, or holds a file system that is not known here"),
        ("root=PARTUUID=0b-0a", "/dev/vda10 is encrypted with LUKS"),
        ("root=UUID=abcd", "/dev/vda10 is encrypted with LUKS"),
        ("root=/dev/vdb", "/dev/vdb is one of the 2 devices of a btrfs"),
        ("root=LABEL=damaged", "/dev/vdc is damaged: the checksum of its superblock is wrong"),
        ("root=/dev/vdd", "/dev/vdd is a member of a RAID array"),
        ("root=/dev/vde", "/dev/vde is a disk with partitions"),
    ] {
        let (found, told) = machine.search(&format!("{cmdline} rootwait"), Vec::new());
        let error = found.unwrap_err();
        let text = error.to_string().replace(machine.folder.path().to_str().unwrap(), "");
        assert!(text.contains(expected) && told.is_empty(), "{text}");
        assert!(error.what_to_do().is_some());
    }
    assert_eq!(machine.name("root=/dev/vdb rootflags=device=/dev/vdc"), "vdb");
    let found = machine.find("root=/dev/vda1 rootfstype=bcachefs").unwrap();
    assert_eq!((found.kind, found.kinds), (None, vec![c"bcachefs".into()]));
    assert!(machine.error("root=LABEL=mirror").contains("no such device"));
}

#[test]
fn only_what_is_asked_for_is_read() {
    let machine = machine();
    // Not even there.
    fs::remove_file(machine.nodes.join("vda")).unwrap();
    fs::remove_file(machine.nodes.join("vda1")).unwrap();
    assert_eq!(machine.name("root=PARTUUID=0b-02"), "vda2");
    let argument = RootArgument::parse(&Cmdline::new("root=/dev/vda2")).unwrap();
    let mut devices = machine.places().devices().unwrap();
    let mut next = |_| Ok(Event::Nothing);
    let search = Search { places: machine.places(), argument: &argument, next: &mut next };
    search.choose(&mut devices).unwrap().unwrap();
    let read: Vec<_> = devices.iter().filter(|device| device.content.is_some()).collect();
    assert_eq!(read.len(), 1);
}

#[test]
fn the_list_of_devices() {
    let machine = machine();
    machine.disk("sr0", 30, &[0; 4096]);
    machine.disk("loop0", 31, &[]);
    machine.disk("vdb", 32, &ext4("a\x1b[2J", 1));
    assert_eq!(
        machine.error("root=LABEL=other"),
        "find the root device LABEL=other: no such device within 0 s\n\
         /dev/vda10 is encrypted with LUKS: if the root is in it, boot with an initramfs made by dracut or \
         initramfs-tools\n\
         \x20 name   size  kind         label     UUID                                  PARTUUID\n\
         \x20 vda    4K    unknown\n\
         \x20 vda1   4K    unknown                                                      0b-01\n\
         \x20 vda2   128K  ext4         root      abababab-abab-abab-abab-abababababab  0b-02\n\
         \x20 vda10  128K  crypto_LUKS            abcd                                  0b-0a\n\
         \x20 vdb    128K  ext4         a\\x1b[2J  01010101-0101-0101-0101-010101010101"
    );
    let by_part = machine.error("root=PARTLABEL=other");
    assert!(by_part.contains("PARTLABEL") && by_part.contains("  p10  "), "{by_part}");
}

#[test]
fn what_to_do() {
    let machine = Machine::new();
    let error = machine.error("root=LABEL=x");
    assert!(
        error.ends_with("the driver (virtio_blk, nvme, ahci and sd_mod, ...), or the disk is not connected"),
        "{error}"
    );
    machine.disk("vda", 0, &ext4("root", 0xab));
    let error = machine.error("root=LABEL=x");
    assert!(error.contains(&format!("is on /dev/vda: boot with root=UUID={UUID}\n")), "{error}");
    // Nothing is in the other columns.
    assert!(error.contains("\n  name  size  kind  label  UUID\n"), "{error}");
    machine.disk("vdb", 1, &ext4("home", 1));
    assert!(machine.error("root=LABEL=x").contains("a device in the list"));
    // A label that takes more room than there is.
    let mut long = vec![0; superblock::LENGTH];
    long[(64 << 10) + 64..][..8].copy_from_slice(b"_BHRfS_M");
    long[(64 << 10) + 0x12b..][..200].fill(b'x');
    machine.disk("vdc", 2, &long);
    assert!(machine.error("root=LABEL=x").contains(&format!("btrfs, damaged  {}..  0000", "x".repeat(34))));
}

#[test]
fn a_long_list_is_cut() {
    let machine = Machine::new();
    for number in 0..60 {
        machine.disk(&format!("nvme{number}n1"), number, &[0; 4096]);
    }
    let error = machine.error("root=LABEL=x");
    // The message, what to do, and the table.
    assert_eq!(error.lines().count(), 2 + 24, "{error}");
    assert!(error.ends_with("\n  (38 more)"), "{error}");
    assert!(error.contains("nvme21n1") && !error.contains("nvme22n1"), "{error}");
}

#[test]
fn a_hostile_sysfs() {
    let machine = machine();
    for (name, file, contents) in [
        ("vdx", "uevent", "MAJOR=x\nMINOR=1\n"),
        ("vdy", "size", "-1\n"),
        ("vdz", "uevent", "MAJOR=1\nMINOR=1\nPARTN=1\n"),
    ] {
        machine.disk(name, 40, &[0; 512]);
        fs::write(machine.class.join(name).join(file), contents).unwrap();
    }
    fs::write(machine.class.join("file"), "").unwrap();
    symlink("nowhere", machine.class.join("dangling")).unwrap();
    fs::remove_file(machine.nodes.join("vda1")).unwrap();
    fs::create_dir(machine.nodes.join("vda1")).unwrap();
    assert_eq!(machine.name("root=LABEL=root"), "vda2");
    let error = machine.error("root=LABEL=x");
    assert!(error.contains("Block device required"), "{error}");
}

#[test]
fn nodes_in_directories() {
    assert_eq!(PLACES.node(b"cciss!c0d0").as_c_str(), c"/dev/cciss/c0d0");
}
