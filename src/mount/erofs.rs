//! The composefs image: an EROFS.

use super::Failure;
use super::context::Context;
use super::detached::Detached;
use crate::error::{Class, Error, describe};
use crate::image::Image;
use crate::kernel::{Ability, Kernel};
use crate::lookup;
use crate::syscall;
use core::ffi::CStr;
use rustix::io::Errno;

/// Mounts the image, detached: the very file that is open, which is the one that was verified.
///
/// # Errors
/// [`Class::Unsupported`] if the kernel has no EROFS or, where that is needed, no loop devices;
/// [`Class::Mount`].
pub fn mount(image: &Image, kernel: Kernel) -> Result<Detached, Failure> {
    // EROFS takes its source only by path (seen up to 6.18).
    let file = lookup::descriptor_path(image.handle());
    if kernel.has(Ability::FileBackedErofs) {
        return from(&file, false, image, kernel);
    }
    let (device, path) = syscall::loop_device(image.handle()).map_err(no_loop_device)?;
    let mount = from(&path, true, image, kernel)?;
    // Now the mount is its user; it goes with the last of them.
    drop(device);
    Ok(mount)
}

/// `device`: whether the source is one, and no file.
fn from(source: &CStr, device: bool, image: &Image, kernel: Kernel) -> Result<Detached, Failure> {
    let context = Context::open(c"erofs", "the composefs image".into())?;
    let configure = || {
        context.string(c"source", source)?;
        // It always is, but a device is opened for writing otherwise.
        if device {
            context.flag(c"ro")?;
        }
        // Otherwise every access to a file would look for a list that is not there.
        if !image.has_acls {
            context.flag(c"noacl")?;
        }
        context.create()
    };
    configure().map_err(|errno| {
        Failure::of(errno, &[Ability::FileBackedErofs], kernel, |errno| context.error(errno))
    })?;
    Ok(context.mount(true)?)
}

fn no_loop_device(errno: Errno) -> Error {
    let missing = matches!(errno, Errno::NOENT | Errno::NODEV | Errno::NXIO);
    let class = if missing { Class::Unsupported } else { Class::Mount };
    let found = format!("a loop device is needed: {}", describe(errno));
    Error::found(class, "mount the composefs image", found).hint(
        "before Linux 6.12, and on a tmpfs, the image needs one: rebuild the initramfs with the kernel module loop",
    )
}
