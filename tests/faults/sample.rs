//! Which of all disturbances are tried.

use crate::setting::Setting;
use crate::support::ways::WAYS;
use std::collections::BTreeMap;

/// Of so many, one is in the sample.
const ONE_OF: usize = 40;

/// Whether there is time for all.
pub fn is_all() -> bool {
    std::env::var_os("PREPARE_ROOT_FAULTS").is_some_and(|value| value == "all")
}

/// The sample of `all`, or all of them: some at equal distances, and one of each kind, in either of the
/// two settings of a way. Which ones they are differs from setting to setting.
pub fn of<T: Clone>(all: Vec<T>, setting: Setting, kind: impl Fn(&T) -> &str) -> Vec<T> {
    if is_all() {
        return all;
    }
    let way = WAYS.iter().position(|way| way == setting.way).unwrap_or_default();
    let shift = 2 * way + usize::from(setting.shared);
    let mut kinds: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, one) in all.iter().enumerate() {
        kinds.entry(kind(one)).or_default().push(index);
    }
    let of_each_kind = kinds.values().enumerate().filter_map(|(number, members)| {
        let here = (number % 2 == 1) == setting.shared;
        here.then(|| members[(number + shift * 7) % members.len()])
    });
    let mut chosen: Vec<usize> = (shift % ONE_OF..all.len()).step_by(ONE_OF).chain(of_each_kind).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().filter_map(|index| all.get(index).cloned()).collect()
}
