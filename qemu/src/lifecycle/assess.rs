//! A release that panics and whose health check fails, and one that ends in emergency mode: three boots later the one before it runs, without a hand at the keyboard.

use super::upgrade::{MACHINE, WITNESS};
use super::{Part, Story};
use crate::expect::Expect::{self, *};
use crate::matrix::READONLY_CONFIG;
use crate::recipe::{File, Recipe};
use crate::releases::Release;
use crate::scenario::{HEALTHY, OURS, WRITABLE};
use crate::storage::Storage;
use crate::suite::Suite::{Forky, Trixie};

/// What boot-complete.target needs in every release.
const HEALTH: File = (
    "usr/lib/systemd/system/boot-complete.target.d/50-health.conf",
    "[Unit]\nRequires=health.service\nAfter=health.service\n",
);

const CHECK: &str = "usr/lib/systemd/system/health.service";
const HEALTHY_CHECK: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n";
/// It leads to emergency mode, see [`EMERGENCY`].
const FAILING_CHECK: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/false\n";

/// Whether a release reports to the host: what boots three times in a row does not.
const REPORT: &str = "usr/lib/systemd/system/prepare-root-check.service.d/50-report.conf";

const A: &[File] = &[MACHINE[0], MACHINE[1], MACHINE[2], HEALTH, (WITNESS, "A\n"), (CHECK, HEALTHY_CHECK)];

const B: Release =
    Release { name: "B", packages: None, files: &[(WITNESS, "B\n"), (CHECK, PANIC_FIRST), (REPORT, SILENT)] };

/// The first boot ends in a kernel panic; the others do not come as far as to be healthy.
const PANIC_FIRST: &str = "[Service]\nType=oneshot\nExecStart=/bin/sh -c \
     '[ -e /var/lib/story/panic ] || { : > /var/lib/story/panic && sync && echo c > /proc/sysrq-trigger; }; exit 1'\n";

const SILENT: &str = "[Unit]\nConditionPathExists=/nowhere\n";

/// One that does not even come as far as its health check: it ends in emergency mode.
const B_EMERGENCY: Release =
    Release { files: &[(WITNESS, "B\n"), (CHECK, FAILING_CHECK), (REPORT, SILENT), EMERGENCY], ..B };

const EMERGENCY: File = (
    "usr/lib/systemd/system/local-fs.target.d/50-health.conf",
    "[Unit]\nRequires=health.service\nAfter=health.service\n",
);

const C: Release = Release {
    name: "C",
    packages: None,
    files: &[(WITNESS, "C\n"), (CHECK, HEALTHY_CHECK), (REPORT, "[Unit]\nConditionPathExists=/usr\n")],
};

/// All of them.
pub fn stories() -> Vec<Story> {
    let recipe = |suite, package, storage, releases| {
        Recipe::new(suite)
            .packages(package)
            .files(A)
            .config(READONLY_CONFIG)
            .storage(storage)
            .releases(releases)
    };
    let story = |name, about, recipe, loader: &'static [Expect], returned| Story {
        name,
        about,
        recipe,
        script: include_str!("assess.sh"),
        always: vec![HEALTHY, OURS, WRITABLE, loader],
        parts: vec![
            Part {
                serves: Some("B"),
                ..Part::new("bad", "A assesses what follows; B is staged, which does not work", FROM_A)
            },
            Part {
                reboots: true,
                serves: Some("B"),
                ..Part::new(
                    "returns",
                    "three boots of B, then A; `--explain` says why; B is deployed again",
                    returned,
                )
            },
            Part {
                serves: Some("C"),
                ..Part::new(
                    "stays",
                    "A again: that commit is not tried again; C is staged, which is healthy",
                    FROM_A,
                )
            },
            Part::new("good", "C runs, and is not counted any more; deployed again, it is", &[Witness("C")]),
        ],
    };
    vec![
        story(
            "trixie-assess-systemd-boot",
            "a release panics, and is not healthy: systemd-boot returns",
            recipe(Trixie, &["systemd-boot-efi"], Storage::SYSTEMD_BOOT, &[B, C]),
            &[StartedBy("systemd-boot")],
            PANICKED,
        ),
        story(
            "forky-assess-grub",
            "one that ends in emergency mode: GRUB returns",
            recipe(Forky, &["grub-efi-amd64-bin"], Storage::GRUB, &[B_EMERGENCY, C]),
            &[StartedBy("grub")],
            EMERGENCIES,
        ),
    ]
}

const FROM_A: &[Expect] = &[Witness("A")];
const PANICKED: &[Expect] = &[
    Witness("A"),
    ConsoleShows("Kernel panic"),
    ConsoleShows("2 of 3 boots failed: health.service. Booting again"),
    ConsoleShows("3 of 3 boots failed: health.service. Booting again"),
];
const EMERGENCIES: &[Expect] = &[
    Witness("A"),
    ConsoleShows("1 of 3 boots failed: health.service. Booting again"),
    ConsoleShows("2 of 3 boots failed: health.service. Booting again"),
    ConsoleShows("3 of 3 boots failed: health.service. Booting again"),
];
