//! The power fails in the middle of an upgrade, with systemd-boot: what it reads is on FAT, which has no journal.

use super::replay::Markers;
use super::upgrade;
use super::{Part, Story, Writes};
use crate::expect::Expect::{self, *};
use crate::scenario::{HEALTHY, WRITABLE};

/// As the script has them.
const MARKERS: Markers =
    Markers { begun: "marker of power.sh: the upgrade begins", staged: "marker of power.sh: B is staged" };

/// All of them.
pub fn stories() -> Vec<Story> {
    vec![Story {
        name: "trixie-power-loss",
        about: "the power fails during an upgrade, at many points",
        recipe: upgrade::trixie(),
        script: SCRIPT,
        always: vec![HEALTHY, upgrade::READONLY_DISK, WRITABLE, &[OurLog, StartedBy("systemd-boot")]],
        parts: vec![
            Part {
                serves: Some("B"),
                writes: Writes::Recorded,
                ..Part::new("recorded", "B is staged and finalised; every write to the disk is recorded", A)
            },
            Part {
                writes: Writes::Replayed(MARKERS),
                ..Part::new("replayed", "the power fails during that: A or B comes up", &[])
            },
            Part {
                serves: Some("B"),
                ..Part::new("again", "where A came up last: the same upgrade once more", &[Witness("A")])
            },
            Part::new("upgraded", "B runs", B),
        ],
    }]
}

const SCRIPT: &str = include_str!("power.sh");

const A: &[Expect] = &[Witness("A"), AsAsked, NoWarnings];
const B: &[Expect] = &[Witness("B"), CommandLine("release=B"), AsAsked, NoWarnings];

#[cfg(test)]
mod tests {
    use super::{MARKERS, SCRIPT};

    #[test]
    fn the_script_writes_the_markers() {
        for marker in [MARKERS.begun, MARKERS.staged] {
            assert!(SCRIPT.contains(&format!("'{marker}'\n")), "{marker}");
        }
    }
}
