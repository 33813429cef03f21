//! Everything that a run can change and that matters, comparable between runs.

use crate::support::failure::Result;
use crate::support::mounts::{Mounts, Row};
use crate::support::promises::same;
use crate::support::random::{without_random, without_random_rows};
use crate::support::sandbox::{Ran, State};

/// Mounts (targets, sources, options, propagation) and files, without what differs from run to run.
pub struct View {
    pub mounts: Vec<Row>,
    /// In a namespace in the same peer groups.
    pub peer: Vec<Row>,
    pub run: Vec<String>,
}

impl View {
    pub fn of(state: &State) -> View {
        View {
            mounts: rows(&state.mounts),
            peer: rows(&state.peer),
            run: state.run.iter().map(|entry| without_random(entry)).collect(),
        }
    }

    pub fn same(&self, found: &View) -> Result<()> {
        same("mounts", &self.mounts, &found.mounts)?;
        same("mounts of the peer namespace", &self.peer, &found.peer)?;
        same("/run", &self.run, &found.run)
    }
}

fn rows(mounts: &Mounts) -> Vec<Row> {
    let mut rows = without_random_rows(mounts.everywhere());
    for row in &mut rows {
        row.point = without_random(&row.point);
        row.parent = without_random(&row.parent);
    }
    rows
}

/// Whether a run left what another run leaves that nothing disturbed.
pub fn is_right(undisturbed: &Ran, ran: &Ran) -> Result<()> {
    View::of(&undisturbed.after).same(&View::of(&ran.after))
}
