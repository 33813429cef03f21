//! Cells that UEFI boots: from a disk with a boot loader, as Garden Linux and clouds have them.

use crate::expect::Expect::{self, *};
use crate::matrix::Mode;
use crate::recipe::{Delivery, File, Recipe};
use crate::scenario::Scenario;
use crate::storage::Storage;
use crate::suite::Suite::{Forky, Trixie};

/// What Garden Linux's platforms have in a fragment of their own, and an end after a panic.
const GARDEN_LINUX_CONSOLE: File =
    ("etc/kernel/cmdline.d/10-console.cfg", "CMDLINE_LINUX=\"$CMDLINE_LINUX console=ttyS0 panic=-1\"\n");

const GARDEN_LINUX: &[Expect] = &[
    StartedBy("systemd-boot"),
    CommandLine("root=LABEL=ROOT"),
    CommandLine("rw"),
    CommandLine("efi=runtime"),
    Home("gardener", "/var/home/gardener"),
    Has("/usr/bin/dpkg"),
    HasNot("/usr/bin/apt"),
    MountedKind("/efi", "vfat"),
];

/// Without it, systemd would have the EFI system partition automounted at `/boot`, over OSTree's.
pub const ESP: File = ("etc/fstab", "LABEL=ESP /efi vfat umask=0077,nofail 0 2\n");

/// What a cloud tells a machine of itself.
const USER_DATA: &str = "\
#cloud-config
hostname: larger
users:
  - name: alice
ssh_genkeytypes: [ed25519]
";

/// What a system on a composefs image has to say to cloud-init, which looks for the disk at `/`: see README.
const GROW_BELOW_IMAGE: &[File] = &[
    ESP,
    ("etc/cloud/cloud.cfg.d/50-ostree.cfg", "growpart:\n  devices: [/sysroot]\nresize_rootfs: false\n"),
    (
        "etc/systemd/system/cloud-init-network.service.d/50-ostree.conf",
        "[Unit]\nRequiresMountsFor=/var\n[Service]\nExecStartPost=/usr/lib/systemd/systemd-growfs /var\n",
    ),
];

const CLOUD: &[Expect] = &[
    CloudInitDone,
    RootGrown,
    Hostname("larger"),
    Home("alice", "/var/home/alice"),
    MountedKind("/efi", "vfat"),
];

/// All of them.
pub fn cells() -> Vec<Scenario> {
    let garden_linux = Recipe::new(Trixie)
        .delivery(Delivery::GardenLinux)
        .packages(&["systemd-boot-efi", "mtools", "dosfstools", "fdisk"])
        .files(&[GARDEN_LINUX_CONSOLE])
        .storage(Storage::SYSTEMD_BOOT);
    let cloud = |recipe: Recipe, storage| {
        let storage = Storage { enlarged: true, ..storage };
        recipe.storage(storage).seed(USER_DATA)
    };
    let bind = cloud(Recipe::new(Trixie), Storage::SYSTEMD_BOOT)
        .packages(&[
            "cloud-init",
            "cloud-guest-utils",
            "fdisk",
            "iproute2",
            "openssh-server",
            "systemd-boot-efi",
        ])
        .files(&[ESP]);
    let composefs = cloud(Recipe::new(Forky), Storage::GRUB)
        .packages(&[
            "cloud-init",
            "cloud-guest-utils",
            "fdisk",
            "iproute2",
            "openssh-server",
            "grub-efi-amd64-bin",
        ])
        .files(GROW_BELOW_IMAGE);
    vec![
        cell(
            Mode::Readonly,
            &["UEFI, systemd-boot", "Garden Linux"],
            "trixie-garden-linux",
            "a disk as Garden Linux lays it out, made by our feature",
            garden_linux,
            &[GARDEN_LINUX],
        ),
        Scenario {
            core: false,
            ..cell(
                Mode::Bind,
                &["UEFI, systemd-boot", "cloud image"],
                "trixie-cloud",
                "cloud-init makes a user and grows the root",
                bind,
                &[CLOUD, &[StartedBy("systemd-boot")]],
            )
        },
        cell(
            Mode::Composefs,
            &["UEFI, GRUB", "cloud image"],
            "forky-cloud",
            "the same on an image, started by GRUB",
            composefs,
            &[CLOUD, &[StartedBy("grub")]],
        ),
    ]
}

fn cell(
    mode: Mode,
    rows: &[&str],
    name: &str,
    about: &str,
    recipe: Recipe,
    expect: &[&'static [Expect]],
) -> Scenario {
    let mut scenario = mode.scenario(name, about, recipe);
    scenario.expect.extend(expect);
    // The initramfs is the one on the disk, with the configuration that is in the system.
    Scenario { core: true, cells: rows.iter().map(|row| mode.of(row)).collect(), archive: &[], ..scenario }
}

#[cfg(test)]
mod tests {
    use crate::machine::Firmware;
    use crate::scenario::{self, Boots};

    #[test]
    fn nobody_changes_what_a_boot_loader_reads() {
        let mut loaders = 0;
        for scenario in scenario::all() {
            if scenario.recipe.firmware() == Firmware::Uefi {
                let suggested = scenario.boots == Boots::AsSuggested;
                let changed = scenario.edit.is_some() || !scenario.archive.is_empty() || suggested;
                assert!(!changed, "{}", scenario.name);
                loaders += 1;
            }
        }
        assert!(loaders >= super::cells().len());
    }
}
