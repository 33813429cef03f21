//! The combinations of everything that a run of the program depends on.

use crate::support::sysroots::Kind;
use crate::support::ways::{WAYS, Way};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A disk, a configuration, a kernel command line, and how our program is to go about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Combination {
    /// The deployments have a composefs image.
    pub image: bool,
    /// `composefs.enabled`.
    pub enabled: Option<&'static str>,
    /// The kernel argument `ostree.prepare-root.composefs=`.
    pub argument: Option<&'static str>,
    /// `sysroot.readonly`.
    pub readonly: Option<bool>,
    /// The disk has the legacy flag.
    pub legacy: bool,
    /// The section `[root]`.
    pub root: Root,
    /// `etc.transient`.
    pub transient_etc: bool,
    /// The deployments have a hotfix layer.
    pub hotfix: bool,
    /// How the physical root is mounted.
    pub physical: Physical,
    /// The mounts of the initramfs are shared.
    pub shared: bool,
    /// What names the deployment.
    pub target: Target,
    /// The number of deployments.
    pub deployments: usize,
    /// The index in [`WAYS`]: the reference does not know it.
    pub way: usize,
}

/// The section `[root]` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    Persistent,
    Transient,
    TransientReadOnly,
}

/// How the physical root is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Physical {
    Writable,
    ReadOnlyFilesystem,
    ReadOnlyMount,
}

/// What names the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Argument,
    SlotA,
    SlotB,
}

/// What kind of root is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The deployment itself.
    Bind,
    /// Its composefs image.
    Composefs,
}

impl Combination {
    const PLAIN: Combination = Combination {
        image: true,
        enabled: None,
        argument: None,
        readonly: None,
        legacy: false,
        root: Root::Persistent,
        transient_etc: false,
        hotfix: false,
        physical: Physical::Writable,
        shared: false,
        target: Target::Argument,
        deployments: 1,
        way: 0,
    };

    /// The disk.
    pub fn kind(&self) -> Kind {
        let Combination { deployments, legacy, image, hotfix, .. } = *self;
        Kind { deployments, legacy_readonly: legacy, image, hotfix }
    }

    /// The way of our program.
    pub fn way(&self) -> &'static Way {
        &WAYS[self.way]
    }

    /// What is asked of the reference.
    pub fn question(self) -> Combination {
        Combination { way: 0, ..self }
    }

    /// What kind of root this leads to; `None` if it is one of those that cannot be had: an image
    /// that is not there, a signature where nothing is signed, a transient root over none.
    pub fn mode(&self) -> Option<Mode> {
        let mode = match (self.argument.or(self.enabled), self.image) {
            (None | Some("no" | "0"), _) | (Some("maybe"), false) => Mode::Bind,
            (Some("yes" | "1" | "verity" | "maybe"), true) => Mode::Composefs,
            _ => return None,
        };
        (mode == Mode::Composefs || self.root == Root::Persistent).then_some(mode)
    }

    /// The configuration file.
    pub fn configuration(&self) -> String {
        let mut text = String::new();
        let mut set = |section, key, value: &str| text += &format!("[{section}]\n{key}={value}\n");
        if let Some(enabled) = self.enabled {
            set("composefs", "enabled", enabled);
        }
        if let Some(readonly) = self.readonly {
            set("sysroot", "readonly", if readonly { "true" } else { "false" });
        }
        match self.root {
            Root::Persistent => {}
            Root::Transient => set("root", "transient", "true"),
            Root::TransientReadOnly => set("root", "transient-ro", "true"),
        }
        if self.transient_etc {
            set("etc", "transient", "true");
        }
        text
    }

    /// Every dimension, and the name of the value in it.
    fn values(&self) -> [(&'static str, &'static str); 13] {
        let yes = |value| if value { "yes" } else { "no" };
        [
            ("image", yes(self.image)),
            ("composefs", self.enabled.unwrap_or("unset")),
            ("argument", self.argument.unwrap_or("none")),
            ("readonly", self.readonly.map_or("unset", |readonly| if readonly { "true" } else { "false" })),
            ("legacy", yes(self.legacy)),
            (
                "root",
                match self.root {
                    Root::Persistent => "persistent",
                    Root::Transient => "transient",
                    Root::TransientReadOnly => "transient-ro",
                },
            ),
            ("etc", if self.transient_etc { "transient" } else { "persistent" }),
            ("hotfix", yes(self.hotfix)),
            (
                "physical",
                match self.physical {
                    Physical::Writable => "rw",
                    Physical::ReadOnlyFilesystem => "ro-filesystem",
                    Physical::ReadOnlyMount => "ro-bind",
                },
            ),
            ("mounts", if self.shared { "shared" } else { "private" }),
            (
                "target",
                match self.target {
                    Target::Argument => "ostree=",
                    Target::SlotA => "slot-a",
                    Target::SlotB => "slot-b",
                },
            ),
            ("deployments", if self.deployments == 1 { "1" } else { "2" }),
            ("way", self.way().name),
        ]
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values().map(|(dimension, value)| format!("{dimension}:{value}"));
        f.write_str(&values.join(" "))
    }
}

/// A part of the matrix: some dimensions vary, the others do not.
pub struct Part {
    /// For the person who wants to know what is compared.
    pub name: &'static str,
    /// All of them.
    pub combinations: Vec<Combination>,
}

const BOTH: [bool; 2] = [false, true];
const READONLY: [Option<bool>; 3] = [None, Some(true), Some(false)];
const ROOT: [Root; 3] = [Root::Persistent, Root::Transient, Root::TransientReadOnly];
const TARGET: [Target; 3] = [Target::Argument, Target::SlotA, Target::SlotB];
const PHYSICAL: [Physical; 3] = [Physical::Writable, Physical::ReadOnlyFilesystem, Physical::ReadOnlyMount];
const ENABLED: [Option<&str>; 5] = [None, Some("yes"), Some("maybe"), Some("no"), Some("verity")];
const ARGUMENT: [Option<&str>; 6] =
    [None, Some("0"), Some("1"), Some("maybe"), Some("signed"), Some("verity")];

/// The matrix. All dimensions at once would be millions.
pub fn parts() -> Vec<Part> {
    let settings = settings();
    let ways = ways(&settings);
    vec![
        Part { name: "bind mounts", combinations: bind_mounts() },
        Part { name: "deployments", combinations: deployments() },
        Part { name: "settings", combinations: settings },
        Part { name: "ways", combinations: ways },
    ]
}

/// Without composefs, everything.
fn bind_mounts() -> Vec<Combination> {
    let all = vec![Combination::PLAIN];
    let all = vary(all, READONLY, |it, readonly| it.readonly = readonly);
    let all = vary(all, BOTH, |it, legacy| it.legacy = legacy);
    let all = vary(all, BOTH, |it, transient| it.transient_etc = transient);
    let all = vary(all, PHYSICAL, |it, physical| it.physical = physical);
    let all = vary(all, BOTH, |it, shared| it.shared = shared);
    let all = vary(all, TARGET, |it, target| it.target = target);
    let all = vary(all, [1, 2], |it, deployments| it.deployments = deployments);
    vary(all, 0..WAYS.len(), |it, way| it.way = way)
}

/// With composefs, how a deployment is found, and the legacy flag.
fn deployments() -> Vec<Combination> {
    let all = vec![Combination::PLAIN];
    let all = vary(all, [Some("yes"), Some("maybe")], |it, enabled| it.enabled = enabled);
    let all = vary(all, READONLY, |it, readonly| it.readonly = readonly);
    let all = vary(all, BOTH, |it, legacy| it.legacy = legacy);
    let all = vary(all, BOTH, |it, transient| it.transient_etc = transient);
    let all = vary(all, BOTH, |it, shared| it.shared = shared);
    let all = vary(all, TARGET, |it, target| it.target = target);
    vary(all, [1, 2], |it, deployments| it.deployments = deployments)
}

/// All settings of the configuration and the kernel argument, on all disks with one deployment.
fn settings() -> Vec<Combination> {
    let all = vec![Combination::PLAIN];
    let all = vary(all, BOTH, |it, image| it.image = image);
    let all = vary(all, ENABLED, |it, enabled| it.enabled = enabled);
    let all = vary(all, ARGUMENT, |it, argument| it.argument = argument);
    let all = vary(all, READONLY, |it, readonly| it.readonly = readonly);
    let all = vary(all, ROOT, |it, root| it.root = root);
    let all = vary(all, BOTH, |it, transient| it.transient_etc = transient);
    let all = vary(all, BOTH, |it, hotfix| it.hotfix = hotfix);
    let mut all = vary(all, PHYSICAL, |it, physical| it.physical = physical);
    // Half of them, and (this being the Thue-Morse sequence) half of those with any given values in
    // a few dimensions.
    for (at, combination) in all.iter_mut().enumerate() {
        combination.shared = at.count_ones() % 2 == 1;
    }
    all
}

/// The configurations that lead to mounts, in every way of our program but the first.
fn ways(settings: &[Combination]) -> Vec<Combination> {
    let matters = |it: &&Combination| it.argument.is_none() && it.mode().is_some();
    let all: Vec<_> = settings.iter().filter(matters).copied().collect();
    let mut all = vary(all, 1..WAYS.len(), |it, way| it.way = way);
    // On such a kernel our program refuses that: nothing would keep other files out of the root.
    all.retain(|it| it.enabled != Some("verity") || !it.way().without.contains(&"data-only-layers"));
    all
}

fn vary<T: Copy>(
    all: Vec<Combination>,
    values: impl IntoIterator<Item = T> + Clone,
    set: impl Fn(&mut Combination, T),
) -> Vec<Combination> {
    let each = |combination| {
        let with = |value| {
            let mut combination = combination;
            set(&mut combination, value);
            combination
        };
        values.clone().into_iter().map(with).collect::<Vec<_>>()
    };
    all.into_iter().flat_map(each).collect()
}

impl Part {
    /// So many combinations that every two values of two dimensions meet: once where there is
    /// something to mount, and once where there is not, so that a refusal hides nothing.
    pub fn pairwise(&mut self) {
        let (possible, impossible): (Vec<_>, Vec<_>) =
            self.combinations.iter().partition(|combination| combination.mode().is_some());
        self.combinations = [pairwise(possible), pairwise(impossible)].concat();
    }
}

/// Takes the combination with most pairs not met yet, until there are none.
fn pairwise(all: Vec<Combination>) -> Vec<Combination> {
    let mut numbers = BTreeMap::new();
    let mut pairs = |combination: &Combination| {
        let values = combination.values();
        let mut pairs = Vec::new();
        for (at, first) in values.iter().enumerate() {
            for second in &values[at + 1..] {
                let next = numbers.len();
                pairs.push(*numbers.entry((*first, *second)).or_insert(next));
            }
        }
        pairs
    };
    let all: Vec<(Combination, Vec<usize>)> =
        all.into_iter().map(|combination| (combination, pairs(&combination))).collect();
    let mut missing: BTreeSet<usize> = (0..numbers.len()).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let gain = |(_, pairs): &&(Combination, Vec<usize>)| {
            pairs.iter().filter(|pair| missing.contains(pair)).count()
        };
        let Some((best, pairs)) = all.iter().max_by_key(gain) else { break };
        missing.retain(|pair| !pairs.contains(pair));
        chosen.push(*best);
    }
    chosen
}
