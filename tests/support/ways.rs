//! The ways in which our program can make and place the new root, one per generation of kernels.

use super::failure::Result;
use super::kernel;
use super::sandbox::{PRODUCT, SYSROOT};

/// One of them. A kernel has its own and all older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The oldest kernel that goes this way.
    pub name: &'static str,
    /// What older kernels lack: the program is told to do without.
    pub without: &'static [&'static str],
}

/// All of them. Before a change of 2026 (it is in 7.2) the kernel does not move beneath what is
/// mounted on the root of the mount namespace. A real initramfs is that root; the sandbox is not
/// quite (the machine's own is still under it), so that on a test machine all are had.
pub const WAYS: [Way; 5] = [
    Way { name: "7.2", without: &[] },
    Way { name: "6.15", without: &["beneath"] },
    Way { name: "6.12", without: &["detached-tree", "beneath", "layer-handles"] },
    Way {
        name: "6.5 not on the root",
        without: &["detached-tree", "layer-handles", "file-backed-erofs", "appended-layers"],
    },
    Way {
        name: "6.1",
        without: &[
            "detached-tree",
            "beneath",
            "layer-handles",
            "file-backed-erofs",
            "appended-layers",
            "data-only-layers",
        ],
    },
];

impl Way {
    /// The command that goes this way.
    pub fn command(&self, cmdline: &str) -> Vec<String> {
        let without = self.without.iter().flat_map(|feature| ["--without", feature]);
        let arguments = [PRODUCT].into_iter().chain(without).chain([SYSROOT, cmdline]);
        arguments.map(str::to_owned).collect()
    }

    /// Whether the new root goes beneath the physical root, which is taken off then.
    pub fn is_beneath(&self) -> Result<bool> {
        Ok(!self.without.contains(&"beneath") && kernel::mounts_beneath()?)
    }

    /// Whether the new root is assembled in a mount namespace, whatever the kernel could do.
    pub fn is_in_namespace(&self) -> bool {
        self.without.contains(&"detached-tree")
    }
}
