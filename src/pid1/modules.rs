//! Kernel modules: the list that the initramfs has of them, and loading them.

use crate::cmdline::Cmdline;
use crate::error::describe;
use crate::lookup;
use alloc::ffi::CString;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::CStr;
use rustix::fs::Access;
use rustix::io::Errno;

/// The list, `prepare-root-mkinitrd(8)`.
const LIST: &CStr = c"/etc/prepare-root/modules";

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel decompresses it itself (`finit_module(2)`, Linux 5.17 with
/// `CONFIG_MODULE_DECOMPRESS`).
const COMPRESSED: i32 = 4;

/// A line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line<'a> {
    /// When it is loaded.
    when: When<'a>,
    path: &'a [u8],
}

/// When a module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When<'a> {
    /// `PATH`: at the start.
    Always,
    /// `/sys/… PATH`: at the start, if that is there. Without its bus it could not be linked, and the kernel would tell
    /// so at length.
    If(&'a [u8]),
    /// `ALIAS PATH`: when the kernel asks for it by that name.
    Asked(&'a [u8]),
}

/// The lines; `#` begins a comment.
fn lines(list: &[u8]) -> impl Iterator<Item = Line<'_>> {
    list.split(|&byte| byte == b'\n').filter_map(|line| {
        let code = line.split(|&byte| byte == b'#').next()?;
        let mut words = code.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let first = words.next()?;
        Some(match words.next() {
            Some(path) => Line {
                when: if first.starts_with(b"/") { When::If(first) } else { When::Asked(first) },
                path,
            },
            None => Line { when: When::Always, path: first },
        })
    })
}

/// Loads the drivers for disks, in the order of the list. What fails is logged: whether it matters shows when the root
/// device is there or not.
pub fn load_drivers(cmdline: &Cmdline) {
    load(cmdline, |when| match when {
        When::Always => true,
        When::If(path) => rustix::fs::access(path, Access::EXISTS).is_ok(),
        When::Asked(_) => false,
    });
}

/// Loads what the kernel asks for. `arguments`: how it calls `modprobe`, `-q -- ALIAS` (`call_modprobe` in
/// `kernel/module/kmod.c`). Whether there was something to load.
pub fn load_alias(arguments: &[Vec<u8>]) -> bool {
    let cmdline = Cmdline::read().unwrap_or_else(|_| Cmdline::new(""));
    let Some(alias) = arguments.last() else { return false };
    load(&cmdline, |when| when == When::Asked(alias)) > 0
}

/// Loads the modules whose time it is; how many are there.
fn load(cmdline: &Cmdline, is_time: impl Fn(When<'_>) -> bool) -> usize {
    let list = match lookup::read(LIST) {
        Ok(list) => list.unwrap_or_default(),
        Err(errno) => {
            log::error!("read {}: {}", LIST.to_string_lossy(), describe(errno));
            return 0;
        }
    };
    let mut count = 0;
    for line in lines(&list) {
        if !is_time(line.when) {
            continue;
        }
        let name = name(line.path);
        if is_forbidden(cmdline, &name) {
            log::warn!("the kernel module {name} is not loaded: modprobe.blacklist=");
            continue;
        }
        match load_file(line.path, &parameters(cmdline, &name)) {
            // It is there already.
            Ok(()) | Err(Errno::EXIST) => count += 1,
            // Its hardware is not.
            Err(Errno::NODEV) => log::debug!("the kernel module {name} found nothing to do"),
            Err(errno) => log::error!(
                "load the kernel module {}: {}; make the initramfs again with prepare-root-mkinitrd",
                line.path.escape_ascii(),
                describe(errno)
            ),
        }
    }
    count
}

fn load_file(path: &[u8], parameters: &CStr) -> rustix::io::Result<()> {
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let file = lookup::open(&path)?;
    let flags = if path.to_bytes().ends_with(b".ko") { 0 } else { COMPRESSED };
    rustix::system::finit_module(&file, parameters, flags)
}

/// The name of a module, from its file: `virtio_blk` for `virtio-blk.ko.xz`.
fn name(path: &[u8]) -> String {
    let file = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let name = file.split(|&byte| byte == b'.').next().unwrap_or(file);
    name.escape_ascii().to_string().replace('-', "_")
}

/// What the kernel command line has for a module, `NAME.PARAMETER=VALUE`, as `modprobe(8)` hands it over.
fn parameters(cmdline: &Cmdline, module: &str) -> CString {
    let mut text = Vec::new();
    for (name, value) in cmdline.of_the_kernel() {
        let Some(dot) = name.iter().position(|&byte| byte == b'.') else { continue };
        if !is_called(&name[..dot], module) {
            continue;
        }
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(&name[dot + 1..]);
        if let Some(value) = value {
            let quote: &[u8] = if value.contains(&b' ') { b"\"" } else { b"" };
            text.extend_from_slice(&[b"=", quote, value, quote].concat());
        }
    }
    CString::new(text).unwrap_or_default()
}

/// `modprobe.blacklist=` (`modprobe(8)`); the kernel itself obeys `module_blacklist=`.
fn is_forbidden(cmdline: &Cmdline, module: &str) -> bool {
    cmdline
        .of_the_kernel()
        .filter_map(|(name, value)| value.filter(|_| name == b"modprobe.blacklist"))
        .any(|list| list.split(|&byte| byte == b',').any(|one| is_called(one, module)))
}

/// In the names of modules, `-` and `_` are the same.
fn is_called(name: &[u8], module: &str) -> bool {
    name.len() == module.len()
        && name.iter().zip(module.bytes()).all(|(&one, other)| one == other || (one == b'-' && other == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_and_when_to_load_it() {
        let list = b"# drivers\n/lib/a.ko.xz\n\n  fs-xfs\t/lib/xfs.ko  # when asked\n/sys/bus/a /lib/b.ko\n";
        let found: Vec<Line<'_>> = lines(list).collect();
        let line = |when, path| Line { when, path };
        assert_eq!(found[0], line(When::Always, b"/lib/a.ko.xz"));
        assert_eq!(found[1], line(When::Asked(b"fs-xfs"), b"/lib/xfs.ko"));
        assert_eq!(found[2..], [line(When::If(b"/sys/bus/a"), b"/lib/b.ko")]);
    }

    #[test]
    fn parameters_are_those_of_the_module() {
        let cmdline = Cmdline::new(r#"virtio-blk.queue_depth=64 virtio_blk.x="a b" nvme.y=1 virtio_blk.z"#);
        assert_eq!(name(b"/lib/modules/6/virtio-blk.ko.xz"), "virtio_blk");
        assert_eq!(parameters(&cmdline, "virtio_blk").as_c_str(), c"queue_depth=64 x=\"a b\" z");
        assert_eq!(parameters(&cmdline, "virtio").as_c_str(), c"");
    }

    #[test]
    fn a_module_can_be_forbidden() {
        let cmdline = Cmdline::new("modprobe.blacklist=a,virtio-blk");
        assert!(is_forbidden(&cmdline, "virtio_blk"));
        assert!(!is_forbidden(&cmdline, "virtio"));
    }
}
