//! What a machine adds to its system by itself: a package as a layer, and containers.

use super::{Part, Story};
use crate::expect::Expect::{self, *};
use crate::generator::Generator;
use crate::recipe::Recipe;
use crate::scenario::{HEALTHY, OURS, WRITABLE};
use crate::suite::Suite::Trixie;

/// All of them.
pub fn stories() -> Vec<Story> {
    let recipe = Recipe::new(Trixie).generator(Generator::Solo).packages(&["podman"]);
    vec![Story {
        name: "trixie-local",
        about: "a package as a layer; a container; soft-reboot",
        recipe,
        script: include_str!("local.sh"),
        always: vec![HEALTHY, OURS, WRITABLE, GENUINE],
        parts: vec![
            Part::new(
                "layer",
                "the booted commit with a package more is committed and deployed; a container",
                &[],
            ),
            Part::new(
                "layered",
                "the package's program runs, dpkg knows it; the container's image is there",
                &[],
            ),
            Part::new(
                "without",
                "rolled back: the package is gone, the container's image is not; the same after `systemctl soft-reboot`",
                &[],
            ),
        ],
    }]
}

const GENUINE: &[Expect] = &[Witness("genuine")];
