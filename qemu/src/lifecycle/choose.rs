//! Two releases side by side on a disk, without a boot loader's choice: by kernel argument, by slot, by soft-reboot.

use super::{Part, Story};
use crate::expect::Expect::{self, *};
use crate::generator::Generator;
use crate::matrix::COMPOSEFS_CONFIG;
use crate::recipe::{Image, Recipe};
use crate::scenario::{COMPOSEFS, READONLY_ROOT, WRITABLE};
use crate::suite::Suite::Forky;

/// All of them.
pub fn stories() -> Vec<Story> {
    let recipe =
        Recipe::new(Forky).generator(Generator::Solo).image(Image::Plain).config(COMPOSEFS_CONFIG).newer();
    let slot = |name, about, edit, expect| Part { edit: Some(edit), ..Part::new(name, about, expect) };
    vec![Story {
        name: "forky-choose",
        about: "any deployment by kernel argument; A/B slots; soft-reboot",
        recipe,
        script: include_str!("choose.sh"),
        always: vec![COMPOSEFS, READONLY_ROOT, WRITABLE],
        parts: vec![
            Part::new("entry", "the newer release, as its boot entry says", NEWER),
            Part::new("checksum", "the older one, by a kernel argument with its checksum", OLDER_ASKED_FOR),
            Part::new("whole-name", "the same, by a kernel argument with its whole name", OLDER_ASKED_FOR),
            slot("slot-a", "A/B slots: `_a` is the older one", slot_a, OLDER_SLOT),
            slot("slot-b", "A/B slots: `_b` is the newer one", slot_b, NEWER_SLOT),
            Part {
                except: known_to_ostree,
                ..Part::new("no-entry", "the older one, whose boot entry is gone", &[Witness("genuine")])
            },
            Part::new("soft-reboot", "`systemctl soft-reboot`: the same again", NEWER),
            Part::new("next-root", "`ostree admin prepare-soft-reboot`: the older one, same kernel", OLDER),
        ],
    }]
}

const NEWER: &[Expect] = &[Witness("newer"), OurLog, NoWarnings, AsAsked];
const OLDER_ASKED_FOR: &[Expect] = &[Witness("genuine"), OurLog, Chosen("deployment")];
const OLDER_SLOT: &[Expect] = &[Witness("genuine"), OurLog, NoWarnings, CommandLine("ostree=true")];
const NEWER_SLOT: &[Expect] = &[Witness("newer"), OurLog, NoWarnings, CommandLine("ostree=true")];
/// Our program ran once, for the other.
const OLDER: &[Expect] = &[Witness("genuine")];

/// What can only be said of a deployment that OSTree knows, which it does by boot entries.
fn known_to_ostree(expectation: &Expect) -> bool {
    matches!(expectation, BackingDeployment | EtcOfDeployment)
}

fn slot_a(word: &str) -> String {
    slot(word, "_a")
}

fn slot_b(word: &str) -> String {
    slot(word, "_b")
}

/// As the boot loader of a phone has it: nothing names a deployment.
fn slot(word: &str, suffix: &str) -> String {
    match word.strip_prefix("ostree=") {
        Some(_) => format!("ostree=true androidboot.slot_suffix={suffix}"),
        None => word.to_owned(),
    }
}
