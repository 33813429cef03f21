//! What the kernel command line says about the root device.
//!
//! The arguments are the kernel's own (`init/do_mounts.c`, `block/early-lookup.c`,
//! `Documentation/admin-guide/kernel-parameters.txt`), and as there the last one wins; `LABEL=` and `UUID=`
//! are what every initramfs knows. What only another initramfs can do is refused, by name.

use super::bytes::{decimal, number};
use crate::cmdline::Cmdline;
use crate::error::{Class, Error, Result, printable};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Which device is the root, and how it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootArgument {
    /// `root=`
    pub root: Root,
    /// `rootfstype=`: types of file systems, in order; empty if not given.
    pub kinds: Vec<Vec<u8>>,
    /// `rootflags=`; empty if not given.
    pub flags: Vec<u8>,
    /// The last one of `ro` and `rw`; without, read-only.
    pub readonly: bool,
    /// `rootwait`
    pub wait: Wait,
    /// `rootdelay=`
    pub delay: Duration,
    /// What was asked for and is not done, for the log.
    pub notes: Vec<String>,
}

/// What the root device is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// What kind of name it is.
    pub by: By,
    /// The name; a UUID in lower case, never empty.
    pub value: Vec<u8>,
    /// `/PARTNROFF=`: the root is that many partitions further on the same disk.
    pub offset: i32,
}

/// What kinds of names devices have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The label of the file system.
    Label,
    /// The UUID of the file system.
    Uuid,
    /// The label of the partition.
    PartLabel,
    /// The UUID of the partition.
    PartUuid,
    /// The kernel's name, below `/dev`.
    Name,
    /// `MAJOR:MINOR`
    Number,
}

/// How long to wait for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not told.
    Limited,
    /// `rootwait=SECONDS`
    Seconds(u32),
    /// `rootwait`
    Forever,
}

const FIND: &str = "find the root device on the kernel command line";
pub(super) const ELSEWHERE: &str = "boot with an initramfs made by dracut or initramfs-tools";

const LUKS: &str = "nothing is decrypted here, not LUKS either";
const LVM: &str = "logical volumes of LVM are not activated here";
const RAID: &str = "RAID arrays are not assembled here";
const MULTIPATH: &str = "multipath devices are not set up here";
const ZFS: &str = "ZFS pools are not imported here";
const NFS: &str = "NFS needs the network, which is not set up here";
const CIFS: &str = "CIFS needs the network, which is not set up here";
const NBD: &str = "NBD needs the network, which is not set up here";
const ISCSI: &str = "iSCSI needs the network, which is not set up here";
const NETWORK: &str = "the network is not set up here";
const FSCK: &str = "file systems are not checked here";

/// How `root=` begins for others.
const ROOTS: [(&str, &str); 18] = [
    ("/dev/mapper/ /dev/dm-", "the device mapper (LUKS, LVM, multipath) is not set up here"),
    ("/dev/md", RAID),
    ("/dev/ram", "a RAM disk is empty: nothing is loaded into it here"),
    ("/dev/nfs nfs", NFS),
    ("/dev/cifs cifs: //", CIFS),
    ("/dev/nbd nbd:", NBD),
    ("iscsi:", ISCSI),
    ("/dev/etherd/", "ATA over Ethernet needs the network, which is not set up here"),
    ("dhcp http", NETWORK),
    ("ZFS= zfs", ZFS),
    ("live:", "a live image is not unpacked here"),
    ("tmpfs", "a root in memory is not made here"),
    ("virtiofs: 9p", "a directory of the host cannot be the root here"),
    ("mtd ubi /dev/mtd /dev/ubi", "raw flash cannot be the root here"),
    ("gpt-auto dissect", "the root partition is not guessed from its type here"),
    ("fstab", "there is no /etc/fstab to look into here"),
    (
        "/dev/disk/",
        "of the links in /dev/disk only by-label, by-uuid, by-partlabel and by-partuuid are known here",
    ),
    ("/dev/bcache", "bcache is not set up here"),
];

/// Arguments for others, by name or by what comes before a dot in it.
const ARGUMENTS: [(&str, &str); 11] = [
    ("rd.luks luks cryptdevice cryptopts", LUKS),
    ("rd.lvm", LVM),
    ("rd.md rd.dm", RAID),
    ("rd.multipath", MULTIPATH),
    ("rd.zfs", ZFS),
    ("nfsroot", NFS),
    ("cifsroot", CIFS),
    ("nbdroot rd.nbd", NBD),
    ("iscsi rd.iscsi", ISCSI),
    ("rd.nvmf", "NVMe over fabrics needs the network, which is not set up here"),
    ("netroot rd.fcoe fcoe", NETWORK),
];

/// Arguments without which it works as well, but not as somebody wanted it.
const NOTES: [(&str, &str); 3] = [
    ("fsck.mode fsck.repair forcefsck", FSCK),
    ("resume", "no hibernated system is resumed here"),
    ("ip", NETWORK),
];

impl RootArgument {
    /// Finds all of it on the kernel command line.
    ///
    /// # Errors
    /// [`Class::Cmdline`] without `root=`, or with one that names no device; [`Class::Unsupported`] with what
    /// another initramfs would understand.
    pub fn parse(cmdline: &Cmdline) -> Result<RootArgument> {
        let mut root = None;
        let mut argument = RootArgument {
            root: Root::of(By::Name, b""),
            kinds: Vec::new(),
            flags: Vec::new(),
            readonly: true,
            wait: Wait::Limited,
            delay: Duration::ZERO,
            notes: Vec::new(),
        };
        for (name, value) in cmdline.of_the_kernel() {
            if let Some(why) = refused(name, value) {
                let operation = format!("find the root device with {}", spelled(name, value));
                return Err(Error::found(Class::Unsupported, operation, why).hint(ELSEWHERE));
            }
            if let Some(what) = noted(name, value) {
                argument.notes.push(format!("{} has no effect: {what}", spelled(name, value)));
            }
            match (name, value) {
                (b"root", Some(value)) => root = Some(value),
                (b"rootfstype", Some(value)) => {
                    let kinds = value.split(|&byte| byte == b',');
                    let kinds = kinds.filter(|kind| !kind.is_empty() && *kind != b"auto");
                    argument.kinds = kinds.map(<[u8]>::to_vec).collect();
                }
                (b"rootflags", Some(value)) => argument.flags = value.to_vec(),
                (b"ro", None) => argument.readonly = true,
                (b"rw", None) => argument.readonly = false,
                (b"rootwait", None) => argument.wait = Wait::Forever,
                (b"rootwait" | b"rootdelay", Some(digits)) => {
                    let seconds = decimal(digits);
                    if seconds.is_none() {
                        argument.notes.push(format!("{} is no number of seconds", spelled(name, value)));
                    }
                    if name == b"rootdelay" {
                        argument.delay = Duration::from_secs(seconds.unwrap_or(0).into());
                    } else {
                        // The kernel too waits for ever then; and without a wait it still lets drivers finish, for
                        // which there is only the usual limit here.
                        argument.wait = match seconds {
                            None => Wait::Forever,
                            Some(0) => Wait::Limited,
                            Some(seconds) => Wait::Seconds(seconds),
                        };
                    }
                }
                _ => {}
            }
        }
        let root = root.ok_or_else(|| {
            let hint = "boot with root=UUID=... or root=LABEL=... of the file system";
            Error::found(Class::Cmdline, FIND, "there is no root= argument").hint(hint)
        })?;
        argument.root = Root::parse(root)?;
        Ok(argument)
    }
}

/// Why an argument is refused.
fn refused(name: &[u8], value: Option<&[u8]>) -> Option<&'static str> {
    match (name, value) {
        (_, Some(b"0" | b"no" | b"off" | b"false")) => None,
        // initramfs-tools
        (b"boot", Some(value)) => {
            (value != b"local").then_some("only a disk of this machine can be the root here")
        }
        _ => among(&ARGUMENTS, |known| {
            name.strip_prefix(known).is_some_and(|rest| matches!(rest, [] | [b'.' | b'_', ..]))
        }),
    }
}

/// What is not done for an argument.
fn noted(name: &[u8], value: Option<&[u8]>) -> Option<&'static str> {
    let is_off = matches!(value, Some(b"0" | b"no" | b"none" | b"off" | b"auto" | b"skip"));
    if is_off { None } else { among(&NOTES, |known| name == known) }
}

/// What is said of the first of these words that is wanted.
fn among(table: &[(&str, &'static str)], wanted: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    let mut found =
        table.iter().filter(|(words, _)| words.as_bytes().split(|&byte| byte == b' ').any(&wanted));
    found.next().map(|(_, what)| *what)
}

fn spelled(name: &[u8], value: Option<&[u8]>) -> String {
    let equals = if value.is_some() { "=" } else { "" };
    format!("{}{equals}{}", name.escape_ascii(), value.unwrap_or_default().escape_ascii())
}

impl Root {
    fn of(by: By, value: &[u8]) -> Root {
        let value =
            if let By::Uuid | By::PartUuid = by { value.to_ascii_lowercase() } else { value.to_vec() };
        Root { by, value, offset: 0 }
    }

    fn parse(value: &[u8]) -> Result<Root> {
        // dracut's way to say that it is a device.
        let value = value.strip_prefix(b"block:").unwrap_or(value);
        let fail = |class, what, hint| {
            Err(Error::found(class, format!("find the root device {}", printable(value)), what).hint(hint))
        };
        let root = match tagged(value) {
            Some(root) => root,
            None => {
                if let Some(why) = among(&ROOTS, |start| value.starts_with(start)) {
                    return fail(Class::Unsupported, why, ELSEWHERE);
                }
                match value.strip_prefix(b"/dev/") {
                    Some(name) if name.contains(&b'/') => {
                        let what = "a device in a directory of /dev is a logical volume of LVM or a link that udev \
                                    makes; neither is made here";
                        return fail(Class::Unsupported, what, ELSEWHERE);
                    }
                    Some(name) => Root::of(By::Name, name),
                    None => numbered(value).unwrap_or(Root::of(By::Number, b"")),
                }
            }
        };
        if root.value.is_empty() {
            let hint = "root= takes UUID=, LABEL=, PARTUUID=, PARTLABEL=, /dev/NAME or MAJOR:MINOR";
            return fail(Class::Cmdline, "this names no device", hint);
        }
        Ok(root)
    }
}

impl By {
    fn prefix(self) -> &'static str {
        match self {
            By::Label => "LABEL=",
            By::Uuid => "UUID=",
            By::PartLabel => "PARTLABEL=",
            By::PartUuid => "PARTUUID=",
            By::Name => "/dev/",
            By::Number => "",
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.by.prefix(), self.value.escape_ascii())?;
        if self.offset == 0 { Ok(()) } else { write!(f, "/PARTNROFF={}", self.offset) }
    }
}

/// `TAG=VALUE`, with or without quotes around the value; or a link of udev's that is named after it.
fn tagged(value: &[u8]) -> Option<Root> {
    for by in [By::Label, By::Uuid, By::PartLabel, By::PartUuid] {
        let tag = by.prefix().as_bytes();
        if let Some(value) = value.strip_prefix(tag) {
            let value = match value {
                [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
                _ => value,
            };
            return Some(if by == By::PartUuid { part_uuid(value) } else { Root::of(by, value) });
        }
    }
    let link = value.strip_prefix(b"/dev/disk/by-")?;
    let slash = link.iter().position(|&byte| byte == b'/')?;
    let (name, value) = link.split_at(slash + 1);
    let by = match name {
        b"label/" => By::Label,
        b"uuid/" => By::Uuid,
        b"partlabel/" => By::PartLabel,
        b"partuuid/" => By::PartUuid,
        _ => return None,
    };
    Some(Root::of(by, &unescape(value)))
}

/// `UUID[/PARTNROFF=N]`
fn part_uuid(value: &[u8]) -> Root {
    let mut root = Root::of(By::PartUuid, value);
    if let Some(slash) = value.iter().position(|&byte| byte == b'/') {
        let (_, offset) = value.split_at(slash);
        let offset = offset.strip_prefix(b"/PARTNROFF=").and_then(|offset| {
            let digits = offset.strip_prefix(b"-");
            let number = i32::try_from(decimal(digits.unwrap_or(offset))?).ok()?;
            Some(if digits.is_some() { -number } else { number })
        });
        // Not understood, it is no UUID.
        root.value.truncate(if offset.is_some() { slash } else { 0 });
        root.offset = offset.unwrap_or(0);
    }
    root
}

/// `MAJOR:MINOR`, which boot loaders may have made longer (`MAJOR:MINOR:OFFSET:`); or both as one number in
/// hexadecimal, as `new_decode_dev` of `include/linux/kdev_t.h` takes it apart.
fn numbered(value: &[u8]) -> Option<Root> {
    let mut parts = value.split(|&byte| byte == b':');
    let (first, second) = (parts.next()?, parts.next());
    let (major, minor) = match second {
        Some(minor) if matches!(parts.count(), 0 | 2) => (decimal(first)?, decimal(minor)?),
        Some(_) => return None,
        None => {
            let number = u32::try_from(number(first, 16)?).ok()?;
            ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
        }
    };
    Some(Root::of(By::Number, format!("{major}:{minor}").as_bytes()))
}

/// The name of a link in `/dev/disk`: udev writes what is not safe in a name as `\xNN`.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', high, low, after @ ..] => {
                number(&[*high, *low], 16).map(|byte| (byte as u8, after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(cmdline: &str) -> Result<RootArgument> {
        RootArgument::parse(&Cmdline::new(cmdline))
    }

    fn root(cmdline: &str) -> Root {
        parse(cmdline).unwrap().root
    }

    #[test]
    fn all_ways_to_name_a_device() {
        for (argument, by, value) in [
            ("LABEL=root", By::Label, "root"),
            ("LABEL=\"a b\"", By::Label, "a b"),
            ("LABEL='ab'", By::Label, "ab"),
            ("LABEL=\"", By::Label, "\""),
            ("LABEL=a=b", By::Label, "a=b"),
            ("block:LABEL=root", By::Label, "root"),
            ("UUID=0AbC", By::Uuid, "0abc"),
            ("PARTLABEL=Root", By::PartLabel, "Root"),
            ("PARTUUID=1234ABCD-02", By::PartUuid, "1234abcd-02"),
            ("/dev/disk/by-label/a\\x20b\\x2fc", By::Label, "a b/c"),
            ("/dev/disk/by-label/a\\x2\\xgg", By::Label, "a\\x2\\xgg"),
            ("/dev/disk/by-uuid/ABC", By::Uuid, "abc"),
            ("/dev/disk/by-partlabel/x", By::PartLabel, "x"),
            ("/dev/disk/by-partuuid/1234ABCD-02", By::PartUuid, "1234abcd-02"),
            ("/dev/vda1", By::Name, "vda1"),
            ("8:1", By::Number, "8:1"),
            ("8:1:0:", By::Number, "8:1"),
            ("b302", By::Number, "179:2"),
            ("10210302", By::Number, "259:66050"),
        ] {
            let expected = Root { by, value: value.into(), offset: 0 };
            assert_eq!(root(&format!("root={argument}")), expected, "{argument}");
        }
        assert_eq!(root("\"root=LABEL=a b\""), Root::of(By::Label, b"a b"));
    }

    #[test]
    fn partitions_after_one_that_is_known() {
        for (argument, offset) in [("1", 1), ("-2", -2), ("0", 0)] {
            let found = root(&format!("root=PARTUUID=ab-01/PARTNROFF={argument}"));
            assert_eq!(found, Root { offset, ..Root::of(By::PartUuid, b"ab-01") });
        }
        assert_eq!(root("root=PARTUUID=ab-01/PARTNROFF=1").to_string(), "PARTUUID=ab-01/PARTNROFF=1");
        for wrong in
            ["/PARTNROFF=", "/PARTNROFF=x", "/PARTNROFF=1x", "/PARTNROFF=--1", "/x", "/PARTNROFF=4294967295"]
        {
            parse(&format!("root=PARTUUID=ab-01{wrong}")).unwrap_err();
        }
    }

    #[test]
    fn what_names_no_device_is_the_command_lines_fault() {
        let empty = ["", "root=", "root", "root=LABEL=", "root=/dev/", "root=/dev/disk/by-uuid/"];
        let wrong = [
            "root=sda1",
            "root=8:",
            "root=8:x",
            "root=8:1:2",
            "root=1:2:3:4:5",
            "root=PARTUUID=/PARTNROFF=1",
        ];
        for line in empty.into_iter().chain(wrong) {
            let error = parse(line).unwrap_err();
            assert_eq!(error.class(), Class::Cmdline, "{line}: {error}");
            assert!(error.what_to_do().unwrap().contains("UUID="), "{error}");
        }
    }

    #[test]
    fn what_others_can_do_is_refused_by_name() {
        for (line, word) in [
            ("root=/dev/mapper/root", "device mapper"),
            ("root=/dev/dm-0", "device mapper"),
            ("root=/dev/vg/root", "logical volume"),
            ("root=/dev/md0", "RAID"),
            ("root=/dev/md/root", "RAID"),
            ("root=/dev/nfs", "NFS"),
            ("root=nfs:server:/root", "NFS"),
            ("root=nfs4:server:/root", "NFS"),
            ("root=iscsi:server::::iqn", "iSCSI"),
            ("root=nbd:server:10809", "NBD"),
            ("root=/dev/nbd0", "NBD"),
            ("root=ZFS=rpool/root", "ZFS"),
            ("root=zfs:AUTO", "ZFS"),
            ("root=/dev/ram0", "RAM disk"),
            ("root=gpt-auto", "guessed"),
            ("root=fstab", "/etc/fstab"),
            ("root=live:CDLABEL=x", "live"),
            ("root=/dev/disk/by-id/nvme-x", "/dev/disk"),
            ("root=/dev/disk/by-path/x", "/dev/disk"),
            ("root=/dev/sda1 rd.luks.uuid=x", "LUKS"),
            ("root=/dev/sda1 rd.luks=1", "LUKS"),
            ("root=/dev/sda1 luks.name=x=y", "LUKS"),
            ("cryptdevice=/dev/sda2:root root=/dev/sda1", "LUKS"),
            ("root=/dev/sda1 rd.lvm.lv=vg/root", "LVM"),
            ("root=/dev/sda1 rd.md.uuid=x", "RAID"),
            ("nfsroot=server:/root", "NFS"),
            ("root=/dev/sda1 netroot=x", "network"),
            ("root=/dev/sda1 rd.iscsi.firmware", "iSCSI"),
            ("root=/dev/sda1 iscsi_initiator=x", "iSCSI"),
            ("root=/dev/sda1 boot=nfs", "disk of this machine"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.class(), Class::Unsupported, "{line}: {error}");
            assert!(error.cause().contains(word), "{line}: {error}");
            assert_eq!(error.what_to_do(), Some(ELSEWHERE));
        }
    }

    #[test]
    fn what_is_switched_off_or_only_resembles_is_not_refused() {
        parse("rd.luks=0 rd.lvm=0 rd.md=no luks=off boot=local luksy=1 rd.lvmx=1 root=/dev/sda1 -- nfsroot=x root=8:")
            .unwrap();
    }

    #[test]
    fn the_last_one_wins() {
        let line = "rw root=/dev/a rootfstype=xfs rootflags=x ro rootdelay=1 rootwait=5 \
                    root=/dev/b rootfstype=ext4,,btrfs rootflags=subvol=a,b rootdelay=3 rootwait";
        let found = parse(line).unwrap();
        let expected = RootArgument {
            root: Root::of(By::Name, b"b"),
            kinds: vec![b"ext4".to_vec(), b"btrfs".to_vec()],
            flags: b"subvol=a,b".to_vec(),
            readonly: true,
            wait: Wait::Forever,
            delay: Duration::from_secs(3),
            notes: Vec::new(),
        };
        assert_eq!(found, expected);
        assert!(parse("root=/dev/a").unwrap().readonly);
        assert!(!parse("root=/dev/a ro rw").unwrap().readonly);
        // For the kernel that is another argument.
        assert!(parse("root=/dev/a rw=1").unwrap().readonly);
        assert_eq!(parse("root=/dev/a rootfstype=auto").unwrap().kinds, Vec::<Vec<u8>>::new());
    }

    #[test]
    fn how_long_to_wait() {
        for (argument, wait) in [
            ("", Wait::Limited),
            ("rootwait", Wait::Forever),
            ("rootwait=7", Wait::Seconds(7)),
            ("rootwait=0", Wait::Limited),
            ("rootwait=x", Wait::Forever),
        ] {
            assert_eq!(parse(&format!("root=/dev/a {argument}")).unwrap().wait, wait, "{argument}");
        }
        let found = parse("root=/dev/a rootdelay=1x rootwait=-1").unwrap();
        assert_eq!((found.delay, found.wait), (Duration::ZERO, Wait::Forever));
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let notes = |line: &str| parse(&format!("root=/dev/a {line}")).unwrap().notes;
        assert_eq!(
            notes("fsck.mode=force forcefsck"),
            [
                "fsck.mode=force has no effect: file systems are not checked here",
                "forcefsck has no effect: file systems are not checked here"
            ]
        );
        assert_eq!(notes("resume=UUID=x ip=dhcp").len(), 2);
        assert_eq!(notes("fsck.mode=skip fsck.mode=auto ip=off ipv6.disable=1 quiet"), Vec::<String>::new());
        assert_eq!(
            notes("resume=\x1b[2J"),
            ["resume=\\x1b[2J has no effect: no hibernated system is resumed here"]
        );
    }

    #[test]
    fn it_is_printed_as_it_is_written() {
        for line in ["LABEL=a", "UUID=a", "PARTLABEL=a", "PARTUUID=a", "/dev/a", "8:1"] {
            assert_eq!(root(&format!("root={line}")).to_string(), line);
        }
        assert_eq!(Root::of(By::Label, b"\x1b[2J").to_string(), r"LABEL=\x1b[2J");
    }
}
