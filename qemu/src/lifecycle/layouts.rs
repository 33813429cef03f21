//! Sysroots laid out as other distributions do, made of Debian's files.

use super::{Part, Story};
use crate::expect::Expect::{self, *};
use crate::matrix::READONLY;
use crate::recipe::{File, Image, Recipe};
use crate::scenario::{COMPOSEFS, HEALTHY, OURS, READONLY_ROOT, WRITABLE};
use crate::storage::{self, Filesystem, Storage};
use crate::suite::Suite::{Forky, Trixie};

/// As Fedora CoreOS, Silverblue and RHEL for Edge have it; the image has it in `/usr`.
const FEDORA_CONFIG: File =
    ("usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = yes\n[sysroot]\nreadonly = true\n");

/// `/boot` is a file system of its own there.
const FEDORA: Storage = Storage {
    filesystem: Filesystem::Xfs,
    partitions: &[storage::Partition::Boot, storage::Partition::Root],
    ..Storage::PLAIN
};

const FEDORA_BOOT: &[Expect] = &[
    MountedKind("/sysroot", "xfs"),
    Expect::Partition("/boot", storage::Partition::Boot),
    BootedTrue("composefs"),
];

/// All of them.
pub fn stories() -> Vec<Story> {
    let fedora = Recipe::new(Forky)
        .packages(&["xfsprogs"])
        .image(Image::Plain)
        .storage(FEDORA)
        .files(&[FEDORA_CONFIG, ("etc/fstab", "LABEL=boot /boot ext4 defaults 0 2\n")])
        .links(&[("media", "run/media")]);
    // The physical root has the homes, and everything that is not /usr can be written.
    let endless = Recipe::new(Trixie).links(&[
        ("home", "sysroot/home"),
        ("media", "run/media"),
        ("usr/local", "../var/local"),
    ]);
    let story = |name, about, recipe, always, part| Story {
        name,
        about,
        recipe,
        script: include_str!("layouts.sh"),
        always,
        parts: vec![part],
    };
    vec![
        story(
            "fedora-layout",
            "a root laid out as Fedora's image-based systems do",
            fedora,
            vec![COMPOSEFS, READONLY_ROOT, READONLY, OURS, WRITABLE],
            Part::new("fedora", "composefs, sysroot.readonly, /boot apart, links into /var", FEDORA_BOOT),
        ),
        story(
            "endless-layout",
            "a root laid out as Endless OS does",
            endless,
            vec![HEALTHY, OURS, WRITABLE],
            Part::new(
                "endless",
                "no composefs, / read-write, homes on the disk's own root",
                &[Writable("/sysroot")],
            ),
        ),
    ]
}
