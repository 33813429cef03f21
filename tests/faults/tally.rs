//! How many disturbances there were, and how they ended.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// How often something ended that way.
type Ends = BTreeMap<&'static str, usize>;

/// For a kind of disturbance and a configuration.
static ENDS: Mutex<BTreeMap<(&str, &str), Ends>> = Mutex::new(BTreeMap::new());

/// `kind` of disturbance, in a configuration, ended so.
pub fn count(kind: &'static str, configuration: &'static str, end: &'static str) {
    if let Ok(mut ends) = ENDS.lock() {
        *ends.entry((kind, configuration)).or_default().entry(end).or_default() += 1;
    }
}

/// Prints all that was counted.
pub fn print() {
    let Ok(ends) = ENDS.lock() else { return };
    for ((kind, configuration), ends) in ends.iter() {
        let total: usize = ends.values().sum();
        let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        println!("{configuration:10} {total:6} {kind}: {}", ends.join(", "));
    }
}
