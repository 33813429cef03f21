//! What the running kernel can do. Nothing here asks for its version: each ability is taken for
//! given and used, and the first refusal of the kind that older kernels give ends that.

use rustix::io::Errno;

/// Something newer than Linux 6.1, the oldest kernel we serve. There is an older way for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Attaching mounts inside a tree that is attached nowhere, and taking such a tree as a layer of
    /// an overlay: Linux 6.15. Instead, a mount namespace of our own.
    DetachedTree,
    /// `MOVE_MOUNT_BENEATH`: Linux 6.5. Until 2026 (`can_move_mount_beneath` in `fs/namespace.c`)
    /// it is refused right below the root of the mount namespace, which is where an initramfs has
    /// its `/sysroot`. Instead, the old mount is taken off first.
    Beneath,
    /// Layers of an overlay by handle: Linux 6.13. Instead, by path.
    LayerHandles,
    /// `lowerdir+` and `datadir+`, a layer each: Linux 6.7. Instead, one `lowerdir` with all.
    AppendedLayers,
    /// Overlay layers that only hold the contents of files: Linux 6.5. Instead, ordinary layers: an
    /// image of libostree's hides the names in the layer with objects, `00` to `ff`.
    DataOnlyLayers,
    /// EROFS from a file: Linux 6.12, and not from a file in a tmpfs. Instead, a loop device. (It is
    /// also done without where it would make one file system too many on top of each other.)
    FileBackedErofs,
}

impl Ability {
    const ALL: [(Ability, &'static str); 6] = [
        (Ability::DetachedTree, "detached-tree"),
        (Ability::Beneath, "beneath"),
        (Ability::LayerHandles, "layer-handles"),
        (Ability::AppendedLayers, "appended-layers"),
        (Ability::DataOnlyLayers, "data-only-layers"),
        (Ability::FileBackedErofs, "file-backed-erofs"),
    ];

    /// The ability called `name` by `--without`.
    pub fn named(name: &str) -> Option<Ability> {
        Ability::ALL.into_iter().find(|(_, its)| *its == name).map(|(ability, _)| ability)
    }

    /// Whether older kernels say this when the ability is used. It is hardly ever ENOSYS, since the
    /// calls themselves are older: flags and options are EINVAL, a handle where a string was expected
    /// is EBADF, a file where a block device was expected is ENOTBLK.
    pub fn refused_with(errno: Errno) -> bool {
        matches!(errno, Errno::INVAL | Errno::BADF | Errno::OPNOTSUPP | Errno::NOTBLK)
    }
}

impl core::fmt::Display for Ability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(Ability::ALL.iter().find(|(ability, _)| ability == self).map_or("", |(_, name)| name))
    }
}

/// The abilities that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    lacks: u8,
}

impl Kernel {
    /// A kernel of which nothing bad is known.
    pub const NEWEST: Kernel = Kernel { lacks: 0 };

    /// Whether the ability may be used.
    pub fn has(self, ability: Ability) -> bool {
        self.lacks & (1 << ability as u8) == 0
    }

    /// Does without the ability from now on.
    pub fn forget(&mut self, ability: Ability) {
        self.lacks |= 1 << ability as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_one_ability_and_keeps_the_others() {
        for (ability, name) in Ability::ALL {
            assert_eq!((Ability::named(name), ability.to_string()), (Some(ability), name.to_owned()));
            let mut kernel = Kernel::NEWEST;
            kernel.forget(ability);
            for (other, _) in Ability::ALL {
                assert_eq!(kernel.has(other), other != ability, "{ability} {other}");
            }
        }
        assert_eq!(Ability::named("6.1"), None);
    }
}
