//! What a kernel command line of any contents says about the root device.

use prepare_root::cmdline::Cmdline;
use prepare_root::root_device::argument::{By, RootArgument};

/// One input.
pub fn run(bytes: &[u8]) {
    match RootArgument::parse(&Cmdline::new(bytes)) {
        Ok(argument) => {
            let root = argument.root;
            assert!(!root.value.is_empty() && root.to_string().is_ascii());
            assert!(root.offset == 0 || root.by == By::PartUuid);
            assert!(argument.notes.iter().all(|note| note.is_ascii() && !note.contains('\n')));
        }
        Err(error) => {
            assert!(error.to_string().is_ascii() && error.what_to_do().is_some());
            assert!(!error.summary().contains('\n'));
        }
    }
}
