//! Installed, upgraded, rolled back, extended, upgraded again: with systemd-boot, whose entries we keep on the ESP,
//! and with GRUB, which reads OSTree's.

use super::{Part, Story};
use crate::console::Exchange;
use crate::expect::Expect::{self, *};
use crate::matrix::{COMPOSEFS_CONFIG, READONLY_CONFIG};
use crate::recipe::{File, Image, Recipe};
use crate::releases::Release;
use crate::scenario::{COMPOSEFS, HEALTHY, OURS, READONLY_ROOT, WRITABLE};
use crate::storage::Storage;
use crate::suite::Suite::{Forky, Trixie};
use crate::uefi::ESP;

/// The ESP, and a network in which nobody gives addresses.
pub(super) const MACHINE: [File; 3] = [
    ESP,
    (
        "etc/systemd/network/10-host.network",
        "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\n",
    ),
    ("etc/systemd/system/multi-user.target.d/50-network.conf", "[Unit]\nWants=systemd-networkd.service\n"),
];

/// An initramfs for each release, which leaves behind whose it was.
const INITRAMFS: [File; 2] = [
    (
        "etc/dracut.conf.d/50-release.conf",
        "install_items+=\" /etc/release.conf /usr/lib/systemd/system/ostree-prepare-root.service.d/50-release.conf \"\n",
    ),
    (
        "usr/lib/systemd/system/ostree-prepare-root.service.d/50-release.conf",
        "[Service]\nExecStartPost=/bin/cp /etc/release.conf /run/release-of-initramfs\n",
    ),
];

pub(super) const WITNESS: &str = "usr/lib/prepare-root-check/witness";

/// Where a release says what it wants on the kernel command line.
const KERNEL_ARGUMENTS: &str = "usr/lib/kernel/release-arguments";

/// The release that is installed.
const A: &[File] = &[
    MACHINE[0],
    MACHINE[1],
    MACHINE[2],
    INITRAMFS[0],
    INITRAMFS[1],
    (WITNESS, "A\n"),
    ("etc/release.conf", "A\n"),
    ("etc/changed-here.conf", "A\n"),
    ("etc/removed-here.conf", "A\n"),
    (KERNEL_ARGUMENTS, "release=A\n"),
];

/// The next, with another package, another configuration and another kernel command line.
const B: Release = Release {
    name: "B",
    packages: Some(&["bc", "systemd-boot-efi", "dosfstools"]),
    files: &[
        MACHINE[0],
        MACHINE[1],
        MACHINE[2],
        INITRAMFS[0],
        INITRAMFS[1],
        (WITNESS, "B\n"),
        ("etc/release.conf", "B\n"),
        ("etc/changed-here.conf", "B\n"),
        ("etc/removed-here.conf", "A\n"),
        (KERNEL_ARGUMENTS, "release=B\n"),
    ],
};

/// The one after that, with little new.
const C: Release = Release { name: "C", packages: None, files: &[(WITNESS, "C\n")] };

/// The same with GRUB.
const B_GRUB: Release = Release { packages: Some(&["bc", "grub-efi-amd64-bin"]), ..B };

/// At systemd-boot's menu: down to the second entry, and start it.
const SECOND_ENTRY: &[Exchange] = &[Exchange { wait: "(ostree:1)", say: "j\r" }];

/// Trixie with systemd-boot, and what it is upgraded to.
pub fn trixie() -> Recipe {
    Recipe::new(Trixie)
        .packages(&["ed", "systemd-boot-efi", "dosfstools"])
        .files(A)
        .config(READONLY_CONFIG)
        .karg("release=A")
        .storage(Storage::SYSTEMD_BOOT)
        .releases(&[B, C])
}

/// All of them.
pub fn stories() -> Vec<Story> {
    let forky = Recipe::new(Forky)
        .packages(&["ed", "grub-efi-amd64-bin"])
        .files(A)
        .image(Image::Plain)
        .config(COMPOSEFS_CONFIG)
        .karg("release=A")
        .storage(Storage::GRUB)
        .releases(&[B_GRUB, C]);
    let menu = Part { dialogue: SECOND_ENTRY, ..Part::new("menu", "back to A by the boot menu", FROM_A) };
    vec![
        Story {
            name: "trixie-systemd-boot",
            about: "upgraded, rolled back, extended; systemd-boot and its menu",
            recipe: trixie(),
            script: SCRIPT,
            always: vec![HEALTHY, READONLY_DISK, OURS, WRITABLE, &[StartedBy("systemd-boot")]],
            parts: parts(menu),
        },
        Story {
            name: "forky-grub",
            about: "the same with composefs; GRUB, which reads OSTree's entries",
            recipe: forky,
            script: SCRIPT,
            always: vec![COMPOSEFS, READONLY_ROOT, OURS, WRITABLE, &[StartedBy("grub")]],
            parts: parts(Part::new("set-default", "back to A by `ostree admin set-default`", FROM_A)),
        },
    ]
}

const SCRIPT: &str = include_str!("upgrade.sh");

const FROM_A: &[Expect] = &[Witness("A"), CommandLine("release=A")];
const HOTFIXED: &[Expect] =
    &[Witness("B"), CommandLine("release=B"), Writable("/usr"), MountedKind("/usr", "overlay")];
const FROM_B: &[Expect] = &[Witness("B"), CommandLine("release=B")];

const FROM_C: &[Expect] = &[Witness("C")];

/// Of the root nothing is expected: `ostree admin unlock` takes the immutable flag off the deployment, and that stays.
pub const READONLY_DISK: &[Expect] = &[NotWritable("/sysroot"), MountedReadOnly("/sysroot")];

fn locked(expectation: &Expect) -> bool {
    matches!(expectation, NotWritable("/usr") | MountedReadOnly("/usr"))
}

/// What happens, with this way back.
fn parts(back: Part) -> Vec<Part> {
    let upgrade =
        Part::new("install", "A as installed; B arrives over HTTP, as a delta, and is staged", FROM_A);
    let upgrade = Part { serves: Some("B"), asked_for: &["/summary", "/deltas/*/0"], ..upgrade };
    let next = Part::new("hotfix", "the hotfix is still there; C arrives from a second disk", HOTFIXED);
    vec![
        upgrade,
        Part::new("upgrade", "B runs; /etc is merged; system extensions; unlocked until reboot", FROM_B),
        back,
        Part::new("stays", "A runs without a hand at the keyboard", FROM_A),
        Part::new("forward", "B again, with B's /etc; a hotfix is begun", FROM_B),
        Part { carries: Some("C"), except: locked, ..next },
        Part::new("next", "C runs without the hotfix; B is chosen again, and undeployed", FROM_C),
        Part::new("undone", "C runs; the same after `systemctl soft-reboot`", FROM_C),
    ]
}
