//! What every run must keep to, in words of the states before and after it.

use super::failure::Result;
use super::mounts::{Mount, difference};
use super::sandbox::{Outcome, Ran, SYSROOT, State};

/// Whether a run ended with that exit status.
pub fn exited(ran: &Ran, status: i32) -> Result<()> {
    if ran.status == Some(status) {
        return Ok(());
    }
    Err(format!("exit status {:?} instead of {status}; it said:\n{}{}", ran.status, ran.stdout, ran.stderr))
}

/// Where a layer of what is transient may be mounted.
const LAYERS: &str = "/run/ostree/";

/// Nothing changed: no mount, here or in a peer namespace, and nothing in `/run`.
pub fn nothing_changed(before: &State, after: &State) -> Result<()> {
    same("mounts", &before.mounts.everywhere(), &after.mounts.everywhere())?;
    same("mounts of the peer namespace", &before.peer.everywhere(), &after.peer.everywhere())?;
    same("/run", &before.run, &after.run)
}

/// Outside SYSROOT, mounts are as before to the last detail, their peer groups and numbers
/// included; and in a peer namespace too. Only the layers of what is transient may be added.
pub fn nothing_changed_outside(before: &State, after: &State) -> Result<()> {
    let pairs = [("", &before.mounts, &after.mounts), ("peer namespace: ", &before.peer, &after.peer)];
    for (whose, before, after) in pairs {
        let lines = |mounts: Vec<&Mount>| {
            let kept = mounts.into_iter().filter(|mount| !mount.point.starts_with(LAYERS));
            kept.map(|mount| format!("{mount:?}")).collect::<Vec<_>>()
        };
        let what = format!("{whose}mounts outside {SYSROOT}");
        same(&what, &lines(before.outside(SYSROOT)), &lines(after.outside(SYSROOT)))?;
    }
    Ok(())
}

/// A peer namespace has got the new root where its physical root was, when the mounts are shared,
/// and nothing otherwise.
pub fn peer_follows(shared: bool, before: &State, after: &State) -> Result<()> {
    let expected = if shared { after.mounts.below(SYSROOT) } else { before.peer.below(SYSROOT) };
    let mut found = after.peer.below(SYSROOT);
    if shared {
        // The peer's copies keep the propagation they were attached with.
        for (found, expected) in found.iter_mut().zip(&expected) {
            found.propagation = expected.propagation;
        }
    }
    same(&format!("mounts of the peer namespace at {SYSROOT}"), &expected, &found)
}

/// All of the above for a successful run.
pub fn replaced_only(shared: bool, outcome: &Outcome, ran: &Ran) -> Result<()> {
    nothing_changed_outside(&outcome.before, &ran.after)?;
    peer_follows(shared, &outcome.before, &ran.after)
}

/// Two lists are the same, whatever their order.
pub fn same<T: PartialEq + std::fmt::Display>(what: &str, expected: &[T], found: &[T]) -> Result<()> {
    match difference(expected, found) {
        None => Ok(()),
        Some(difference) => Err(format!("{what}: expected (-) and found (+):\n{difference}")),
    }
}
