//! What our program does differently from libostree's on purpose: the only list of it that counts.
//!
//! A difference is written down as what is expected of our program *in place of* what libostree's
//! does, so that it is compared as exactly as everything else. The manual page gives the reasons, in
//! the section DIFFERENCES FROM LIBOSTREE, in the words that stand here.

use crate::matrix::{Combination, Mode, Physical};
use crate::seen::Seen;
use crate::support::failure::Result;
use crate::support::kernel;

/// One difference.
pub struct Difference {
    /// For the person who reads the test's output.
    pub name: &'static str,
    /// The combinations in which it shows.
    pub covers: fn(&Combination) -> bool,
    /// What our program does there.
    pub instead: Instead,
    /// Why, in the words of the manual page.
    pub reason: &'static str,
}

/// What our program does where libostree's does something else.
pub enum Instead {
    /// What libostree's does when it is asked something else.
    AsIf(fn(Combination) -> Combination),
    /// What libostree's does, changed like this. It may be asked more.
    Changed(fn(Combination, Seen, Ask) -> Result<Seen>),
}

/// Asks libostree's program.
pub type Ask = fn(Combination) -> Result<Seen>;

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "composefs=verity on the kernel command line",
        covers: |it| it.argument == Some("verity") && as_configured(*it).mode().is_some(),
        instead: Instead::AsIf(as_configured),
        reason: "The kernel argument ostree.prepare-root.composefs= takes verity too; \
                 libostree takes that in the configuration only.",
    },
    Difference {
        name: "a hotfix on a read-only root",
        covers: |it| it.hotfix && it.physical != Physical::Writable && as_configured(*it).mode().is_some(),
        instead: Instead::Changed(readonly_hotfix),
        reason: "Where the physical root is read-only, a hotfix layer is mounted read-only; \
                 with libostree the boot fails, because the kernel refuses a writable layer there.",
    },
    Difference {
        name: "systemd-remount-fs may fail with composefs",
        covers: |it| as_configured(*it).mode() == Some(Mode::Composefs),
        instead: Instead::Changed(remount_drop_in),
        reason: "With composefs, a failure of systemd-remount-fs.service does not count: the root \
                 directory is an overlay, which refuses the options that /etc/fstab has for it.",
    },
    Difference {
        name: "/boot where nothing can be read",
        // The files of the disks have no fs-verity digests: to demand them makes each an error.
        covers: demands_digests,
        instead: Instead::Changed(boot_too),
        reason: "What of the deployment cannot be read is taken as not there, also the generator that \
                 would mount /boot and keep mounts over a soft-reboot.",
    },
];

/// Those of a combination, on this kernel: where it cannot do what is asked, both programs fail.
pub fn covering(combination: &Combination) -> Result<Vec<&'static Difference>> {
    if demands_digests(combination) && !kernel::checks_digests()? {
        return Ok(Vec::new());
    }
    Ok(DIFFERENCES.iter().filter(|it| (it.covers)(combination)).collect())
}

/// Whether there is an image, and its files must have digests.
fn demands_digests(combination: &Combination) -> bool {
    let configured = as_configured(*combination);
    configured.enabled == Some("verity") && configured.mode() == Some(Mode::Composefs)
}

/// Where libostree's program can only mount the image in the way of old kernels (seen on 6.1), a read-only
/// mount of it, though it has an upper layer, is of a file system that is itself read-only. Ours makes,
/// and so does libostree's on newer kernels, the mount read-only and no more.
pub fn as_on_newer_kernels(mut seen: Seen) -> Seen {
    let readonly = |options: &str| options.split(',').next() == Some("ro");
    for row in &mut seen.mounts {
        let image = row.source == "composefs" && row.super_options.contains("upperdir=");
        if image && readonly(&row.options) && readonly(&row.super_options) {
            row.super_options.replace_range(.."ro".len(), "rw");
        }
    }
    seen
}

/// With the kernel argument in the configuration: libostree takes "verity" there only.
fn as_configured(combination: Combination) -> Combination {
    match combination.argument {
        Some("verity") => Combination { enabled: Some("verity"), argument: None, ..combination },
        _ => combination,
    }
}

/// All as without the hotfix, and the hotfix as on a writable root, but in lower layers only.
fn readonly_hotfix(combination: Combination, _refused: Seen, ask: Ask) -> Result<Seen> {
    let mut expected = ask(Combination { hotfix: false, ..combination })?;
    let mut writable = ask(Combination { physical: Physical::Writable, ..combination })?;
    let hotfix = writable.mount("/usr")?;
    hotfix.options = hotfix.options.replace("rw", "ro");
    hotfix.super_options = format!("ro,lowerdir=?,lowerdir=?{}", kernel::overlay_defaults()?);
    expected.mounts.retain(|row| row.point != "/usr");
    expected.mounts.push(hotfix.clone());
    expected.files = writable.files;
    Ok(expected)
}

/// `/boot` of the physical root, as writable as that is found.
fn boot_too(combination: Combination, mut expected: Seen, _: Ask) -> Result<Seen> {
    let mut boot = expected.mount("/sysroot")?.clone();
    "/boot".clone_into(&mut boot.point);
    "/boot".clone_into(&mut boot.root);
    let access = if combination.physical == Physical::Writable { "rw" } else { "ro" };
    boot.options = format!("{access},relatime");
    expected.mounts.push(boot);
    keep(
        &mut expected,
        "boot.mount",
        "After=sysroot.mount\nBefore=local-fs.target\n\n\
         [Mount]\nWhat=/sysroot/boot\nWhere=/boot\nOptions=bind\n",
    );
    expected.run.push("/run/systemd/system/sysroot.mount.d directory 0755 0:0 ".to_owned());
    keep(&mut expected, "sysroot.mount.d/50-ostree-prepare-root.conf", "");
    Ok(expected)
}

/// What is left for a soft-reboot.
fn keep(expected: &mut Seen, name: &str, rest: &str) {
    let text = format!(
        "# Written by ostree-prepare-root: a soft-reboot keeps what the initramfs has mounted.\n\
         [Unit]\nDefaultDependencies=no\n{rest}"
    );
    let text = text.as_bytes().escape_ascii();
    expected.run.push(format!("/run/systemd/system/{name} file 0644 0:0 {text}"));
}

/// The drop-in, and the directories above it.
fn remount_drop_in(_: Combination, mut expected: Seen, _: Ask) -> Result<Seen> {
    const SYSTEM: &str = "/run/systemd/system";
    const UNIT: &str = "/run/systemd/system/systemd-remount-fs.service.d";
    const TEXT: &str = "# Written by ostree-prepare-root: / is an overlay, which refuses the options \
                        that /etc/fstab has for it.\n[Service]\nSuccessExitStatus=1\n";
    expected.run.extend([
        format!("{SYSTEM} directory 0755 0:0 "),
        format!("{UNIT} directory 0755 0:0 "),
        format!("{UNIT}/50-ostree-prepare-root.conf file 0644 0:0 {}", TEXT.as_bytes().escape_ascii()),
    ]);
    Ok(expected)
}
