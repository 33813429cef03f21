//! Nothing on the disk is changed, and in the end there is no disk.

use super::{Part, Story};
use crate::expect::Expect::*;
use crate::generator::Generator;
use crate::matrix::TRANSIENT_CONFIG;
use crate::recipe::{Image, Recipe};
use crate::scenario::{COMPOSEFS, OURS, WRITABLE};
use crate::suite::Suite::Forky;

/// All of them.
pub fn stories() -> Vec<Story> {
    let recipe = Recipe::new(Forky)
        .generator(Generator::Solo)
        .image(Image::Plain)
        .config(TRANSIENT_CONFIG)
        .replace_karg("rw", "ro");
    vec![Story {
        name: "forky-stateless",
        about: "everything in memory; the disk is pulled",
        recipe,
        script: include_str!("stateless.sh"),
        always: vec![COMPOSEFS, OURS, WRITABLE, &[Writable("/"), MountedKind("/var", "tmpfs")]],
        parts: vec![
            Part::new("memory", "root, /etc and /var in memory, the disk read-only; all is written to", &[]),
            Part::new(
                "pulled",
                "nothing of that is left; the disk is pulled: what is in memory can be written",
                &[],
            ),
        ],
    }]
}
