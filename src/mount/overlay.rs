//! An overlay: directories stacked on each other, the topmost writable or not.

use super::Failure;
use super::context::{Context, c_string};
use super::detached::Detached;
use crate::error::{Class, Error, describe};
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

/// What an overlay is made of.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// The source that the mount table shows.
    pub source: &'static CStr,
    /// The lower layers, topmost first.
    pub lower: &'a [BorrowedFd<'a>],
    /// A layer that only holds the contents of files; those above name what they take from it.
    pub data: Option<BorrowedFd<'a>>,
    /// The files must have the fs-verity digests that the layers above the data name.
    pub verity: bool,
    /// The directories `upper` and `work`, to be found in one mount.
    pub writable: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// The mount is read-only.
    pub readonly: bool,
    /// The place it is for, in words.
    pub place: String,
}

/// Mounts it, detached and private.
///
/// # Errors
/// [`Class::Unsupported`] if the kernel has no overlayfs, or not what the image needs;
/// [`Class::Mount`], with what the kernel says.
pub fn mount(overlay: &Overlay<'_>, kernel: Kernel) -> Result<Detached, Failure> {
    let context = Context::open(c"overlay", format!("an overlay for {}", overlay.place))?;
    let fail = |errno| context.error(errno);
    context.string(c"source", overlay.source).map_err(fail)?;
    if overlay.data.is_some() {
        context.string(c"metacopy", c"on").map_err(fail)?;
        // It switches on redirect_dir by itself (ovl_fs_params_verify in fs/overlayfs/params.c). Linux 6.1 does so too, but
        // does not tell in the table of mounts.
        if !kernel.has(Ability::AppendedLayers) {
            context.string(c"redirect_dir", c"on").map_err(fail)?;
        }
    }
    if overlay.verity {
        context.string(c"verity", c"require").map_err(|errno| no_verity(overlay, errno))?;
    }
    set_layers(&context, overlay, kernel)?;
    context.create().map_err(|errno| {
        Failure::of(errno, used(overlay), kernel, |errno| {
            let error = fail(errno);
            match errno {
                // Before Linux 6.5 it is only now that `verity` is looked at.
                Errno::INVAL if overlay.verity && !kernel.has(Ability::AppendedLayers) => {
                    no_verity(overlay, errno)
                }
                Errno::INVAL if overlay.verity => error.hint(NEEDS_VERITY),
                Errno::INVAL => {
                    error.hint("is the physical root an overlay itself? Two on top of it are too many")
                }
                _ => error,
            }
        })
    })?;
    Ok(context.mount(overlay.readonly)?)
}

const NEEDS_VERITY: &str = "composefs with verity or signatures needs Linux 6.6";

fn no_verity(overlay: &Overlay<'_>, errno: Errno) -> Error {
    let found = format!("overlayfs cannot check fs-verity digests: {}", describe(errno));
    Error::found(Class::Unsupported, format!("mount an overlay for {}", overlay.place), found)
        .hint(NEEDS_VERITY)
}

fn set_layers(context: &Context, overlay: &Overlay<'_>, kernel: Kernel) -> Result<(), Failure> {
    let fail = |errno| context.error(errno);
    let by_handle = kernel.has(Ability::LayerHandles);
    let set = |key: &CStr, layer: BorrowedFd<'_>| match by_handle {
        true => context.file(key, layer),
        false => context.string(key, &lookup::descriptor_path(layer)),
    };
    let newer = if by_handle { [Ability::LayerHandles] } else { [Ability::AppendedLayers] };
    let refused = |errno| Failure::of(errno, &newer, kernel, fail);
    if by_handle || kernel.has(Ability::AppendedLayers) {
        for layer in overlay.lower {
            set(c"lowerdir+", *layer).map_err(refused)?;
        }
        if let Some(data) = overlay.data {
            set(c"datadir+", data).map_err(refused)?;
        }
    } else if overlay.verity && !kernel.has(Ability::DataOnlyLayers) {
        // An ordinary layer would show whatever lies in it, and nobody named digests of that.
        return Err(no_verity(overlay, Errno::INVAL).into());
    } else {
        let path = |layer: &BorrowedFd<'_>| lookup::descriptor_path(*layer).to_string_lossy().into_owned();
        let mut layers = overlay.lower.iter().map(path).collect::<Vec<_>>().join(":");
        if let Some(data) = &overlay.data {
            layers += if kernel.has(Ability::DataOnlyLayers) { "::" } else { ":" };
            layers += &path(data);
        }
        context.string(c"lowerdir", &c_string(layers)).map_err(fail)?;
    }
    if let Some((upper, work)) = &overlay.writable {
        set(c"upperdir", *upper).map_err(refused)?;
        set(c"workdir", *work).map_err(refused)?;
    }
    Ok(())
}

/// What an overlay uses that is looked at only when all options are there. (Before Linux 6.5 that is
/// all of them.)
fn used(overlay: &Overlay<'_>) -> &'static [Ability] {
    // Layers that are attached nowhere come first: that is most kernels.
    use Ability::{AppendedLayers, DataOnlyLayers, DetachedTree, FileBackedErofs, LayerHandles};
    // The last: an EROFS from a file counts as one on top of the file's in some versions of 6.12 to
    // 6.18 (https://github.com/coreos/fedora-coreos-tracker/issues/2087), the image's overlay is the
    // second, and three are too many (FILESYSTEM_MAX_STACK_DEPTH in linux/fs.h). From a loop device
    // it does not.
    match overlay.data {
        Some(_) if !overlay.verity => {
            &[DetachedTree, LayerHandles, AppendedLayers, DataOnlyLayers, FileBackedErofs]
        }
        _ => &[DetachedTree, LayerHandles, AppendedLayers, FileBackedErofs],
    }
}

/// Opens `upper` and `work` in `directory`; `covered`: the directory that `upper` is to look like.
///
/// # Errors
/// [`Class::Mount`]
pub fn writable(
    directory: BorrowedFd<'_>,
    (upper, work): (&'static str, &'static str),
    covered: Option<BorrowedFd<'_>>,
) -> Result<(OwnedFd, OwnedFd), Error> {
    let open = |name: &str, flags| {
        lookup::open_beneath(directory, name.as_bytes(), flags | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    };
    let fail = |operation: &str, name: &str, errno| {
        Error::errno(Class::Mount, format!("{operation} the directory {name} of a writable layer"), errno)
    };
    if let Some(covered) = covered {
        let upper_directory = open(upper, OFlags::RDONLY).map_err(|errno| fail("open", upper, errno))?;
        dress(&upper_directory, covered).map_err(|errno| fail("set owner and mode of", upper, errno))?;
    }
    let upper_layer = open(upper, OFlags::PATH).map_err(|errno| fail("open", upper, errno))?;
    let work_directory = open(work, OFlags::PATH).map_err(|errno| fail("open", work, errno))?;
    Ok((upper_layer, work_directory))
}

/// Gives the new upper directory mode, owner and label of the one it covers: they are those of the
/// place in the new system.
fn dress(upper: &OwnedFd, covered: BorrowedFd<'_>) -> rustix::io::Result<()> {
    const LABEL: &CStr = c"security.selinux";
    let stat = rustix::fs::fstat(covered)?;
    rustix::fs::fchown(upper, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(upper, Mode::from_raw_mode(stat.st_mode))?;
    let mut label = [0; 256];
    // Without SELinux there is none, or the file system of the layer has no place for it.
    let path: CString = lookup::descriptor_path(covered);
    if let Ok(length) = rustix::fs::getxattr(path.as_c_str(), LABEL, &mut label) {
        let set = rustix::fs::fsetxattr(upper, LABEL, &label[..length], XattrFlags::empty());
        if let Err(errno) = set {
            log::warn!("label a writable layer: {}", describe(errno));
        }
    }
    Ok(())
}

/// Opens a directory for a writable layer by its path.
pub fn open_directory(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
