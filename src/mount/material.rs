//! What one mount of the plan is made from, taken from where the disk is mounted; and the mount.

use super::clone;
use super::detached::Detached;
use super::overlay::{self, Overlay};
use super::{Disk, Failure, Layers, erofs, memory};
use crate::error::{Class, Error, Result, describe};
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use crate::plan::{self, Access, Layer, Source, Step};
use crate::seed;
use crate::syscall::{self, Attributes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The material of one mount.
#[derive(Debug)]
pub enum Material {
    /// The mount itself: a clone, and, but for the root, not private yet.
    Mount(Detached),
    /// The image, the repository's objects, and the directory with a writable layer.
    Image(Detached, OwnedFd, Option<OwnedFd>),
    /// The directory with the upper layer. The lower is in the new root.
    Layer(OwnedFd),
    /// An empty tmpfs. What goes into it is in the new root.
    Memory(Detached),
}

impl Material {
    /// Takes from the disk what the step needs.
    ///
    /// # Errors
    /// [`Class::Incomplete`] if a directory is not there; [`Class::Unsupported`], [`Class::Mount`].
    pub fn take(step: &Step, disk: Disk<'_>, layers: &Layers, kernel: Kernel) -> Result<Material, Failure> {
        let deployment = disk.deployment.handle();
        let layer = |directory: OwnedFd| layer(directory, step, kernel);
        Ok(match &step.source {
            // Others are going to be mounted in it.
            Source::Deployment("") => {
                let clone = clone::private_tree(deployment).map_err(|errno| clone_error(step, errno))?;
                Material::Mount(clone.into())
            }
            Source::Deployment(path) => {
                let directory = open(deployment, path.as_bytes(), OFlags::NOFOLLOW, step, disk)?;
                Material::Mount(cloned(directory, step)?)
            }
            Source::Physical(path) if path.is_empty() => {
                Material::Mount(cloned_tree(disk.sysroot.handle(), step)?.into())
            }
            Source::Physical(path) => {
                let directory = open(disk.sysroot.handle(), path, OFlags::empty(), step, disk)?;
                Material::Mount(cloned(directory, step)?)
            }
            Source::Image { layer: writable, .. } => {
                let image = disk.image.ok_or_else(|| {
                    Error::found(Class::Mount, "mount the composefs image", "there is none")
                })?;
                let image = erofs::mount(image, kernel)?;
                let objects = open(disk.sysroot.handle(), OBJECTS, OFlags::empty(), step, disk)?;
                let writable = if writable.is_some() { Some(layer(layers.open(b"")?)?) } else { None };
                Material::Image(image, layer(objects)?, writable)
            }
            Source::Covered(_, Layer::Transient(_)) => Material::Layer(layer(layers.open(&step.at)?)?),
            Source::Covered(_, Layer::Hotfix) => {
                Material::Layer(layer(open(deployment, b"", OFlags::empty(), step, disk)?)?)
            }
            Source::Memory(transient) => {
                Material::Memory(memory::mount(transient, c"0755", format!("a tmpfs for {}", step.place()))?)
            }
        })
    }

    /// Mounts that are going to be layers of an overlay.
    pub fn layers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (image, objects, writable) = match self {
            Material::Image(image, objects, writable) => {
                (Some(image.as_fd()), Some(objects), writable.as_ref())
            }
            Material::Layer(directory) => (None, None, Some(directory)),
            Material::Mount(_) | Material::Memory(_) => (None, None, None),
        };
        image.into_iter().chain([objects, writable].into_iter().flatten().map(AsFd::as_fd))
    }

    /// Makes the mount: detached, and private but for [`Material::Mount`]. `root`: the new root, which the root itself does not
    /// need.
    ///
    /// # Errors
    /// As [`overlay::mount`] and [`seed::fill`].
    pub fn build(
        self,
        step: &Step,
        disk: Disk<'_>,
        root: Option<BorrowedFd<'_>>,
        kernel: Kernel,
    ) -> Result<Detached, Failure> {
        let readonly = step.access == Access::ReadOnly;
        let in_root = |path: &str| match root {
            Some(root) => open(root, path.as_bytes(), OFlags::NOFOLLOW, step, disk),
            None => {
                Err(Error::found(Class::Mount, format!("mount {}", step.place()), "there is no root yet"))
            }
        };
        match (self, &step.source) {
            (Material::Image(image, objects, writable), Source::Image { verity, .. }) => {
                let writable = writable
                    .map(|directory| overlay::writable(directory.as_fd(), TRANSIENT, Some(image.as_fd())))
                    .transpose()?;
                let overlay = Overlay {
                    source: c"composefs",
                    lower: &[image.as_fd()],
                    data: Some(objects.as_fd()),
                    verity: *verity,
                    writable: writable.as_ref().map(|(upper, work)| (upper.as_fd(), work.as_fd())),
                    readonly,
                    place: step.place(),
                };
                let mut mount = overlay::mount(&overlay, kernel)?;
                mount.take(image);
                Ok(mount.with(objects))
            }
            (Material::Layer(directory), Source::Covered(lower, layer)) => {
                let lower = in_root(lower)?;
                let (names, covered) = match layer {
                    Layer::Transient(_) => (TRANSIENT, Some(lower.as_fd())),
                    Layer::Hotfix => (HOTFIX, None),
                };
                let (upper, work) = overlay::writable(directory.as_fd(), names, covered)?;
                // The kernel takes no upper layer that cannot be written to.
                let stacked = [upper.as_fd(), lower.as_fd()];
                let overlay = Overlay {
                    source: c"overlay",
                    lower: if readonly { &stacked } else { &stacked[1..] },
                    data: None,
                    verity: false,
                    writable: (!readonly).then_some((upper.as_fd(), work.as_fd())),
                    readonly,
                    place: step.place(),
                };
                overlay::mount(&overlay, kernel)
            }
            (Material::Memory(memory), _) => {
                let root = in_root("")?;
                seed::fill(&memory, root.as_fd())?;
                Ok(memory)
            }
            (Material::Mount(mount), _) => Ok(mount),
            (Material::Layer(_) | Material::Image(..), _) => {
                Err(Error::found(Class::Mount, format!("mount {}", step.place()), "it was taken for another")
                    .into())
            }
        }
    }
}

/// The contents of files, which an image names.
const OBJECTS: &[u8] = b"ostree/repo/objects";

/// Upper and work directory of a layer in memory.
const TRANSIENT: (&str, &str) = ("upper", "work");

/// Those that `ostree admin unlock --hotfix` makes.
const HOTFIX: (&str, &str) = (".usr-ovl-upper", ".usr-ovl-work");

/// Opens a directory that the step needs.
///
/// # Errors
/// [`Class::Incomplete`] if it is missing; [`Class::Mount`].
pub fn open(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    step: &Step,
    disk: Disk<'_>,
) -> Result<OwnedFd> {
    lookup::open_beneath(directory, path, OFlags::PATH | OFlags::DIRECTORY | flags)
        .map_err(|errno| unusable(step, disk, errno))
}

fn cloned(directory: OwnedFd, step: &Step) -> Result<Detached> {
    Ok(Detached::from(cloned_tree(directory.as_fd(), step)?).with(directory))
}

/// A clone with the write access of the step.
fn cloned_tree(directory: BorrowedFd<'_>, step: &Step) -> Result<OwnedFd> {
    clone::tree(directory)
        .and_then(|clone| set_access(&clone, step).map(|()| clone))
        .map_err(|errno| clone_error(step, errno))
}

/// Gives a mount the write access of the step.
pub fn set_access(mount: &OwnedFd, step: &Step) -> rustix::io::Result<()> {
    let readonly = match step.access {
        Access::Inherited => return Ok(()),
        Access::ReadOnly => Some(true),
        Access::Writable => Some(false),
    };
    syscall::mount_setattr(mount, false, Attributes { readonly, propagation: None })
}

/// A directory that can be a layer where the tree is assembled: itself, or in a mount namespace of
/// our own a clone, since overlayfs takes no layers from another.
fn layer(directory: OwnedFd, step: &Step, kernel: Kernel) -> Result<OwnedFd> {
    if kernel.has(Ability::DetachedTree) {
        return Ok(directory);
    }
    clone::private_tree(&directory).map_err(|errno| clone_error(step, errno))
}

/// The directory that a step is made from cannot be opened.
fn unusable(step: &Step, disk: Disk<'_>, errno: Errno) -> Error {
    let operation = || format!("open {} for {}", step.source_text(), step.place());
    match errno {
        Errno::NOENT | Errno::NOTDIR => {}
        Errno::XDEV | Errno::LOOP => {
            let found = format!("it leads outside, or in circles: {}", describe(errno));
            return Error::found(Class::Incomplete, operation(), found)
                .hint("look where its links lead, or choose another boot entry");
        }
        _ => {
            return Error::errno(Class::Mount, operation(), errno)
                .hint("choose another boot entry, or check the file system");
        }
    }
    let (path, of) = match &step.source {
        Source::Physical(path) => (&path[..], "physical root"),
        Source::Image { .. } => (OBJECTS, "physical root"),
        Source::Deployment(path) | Source::Covered(path, _) => (path.as_bytes(), "deployment"),
        Source::Memory(_) => (&step.at[..], "deployment"),
    };
    plan::incomplete(&disk.deployment.facts.name, &format!("/{} of the {of}", path.escape_ascii()))
}

fn clone_error(step: &Step, errno: Errno) -> Error {
    Error::errno(Class::Mount, format!("clone the mount for {}", step.place()), errno)
}
