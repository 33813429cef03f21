//! The root from an image, transient directories, the hotfix layer: what libostree does not have, or
//! does otherwise.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, replaced_only, same};
use crate::support::sandbox::{Edit, Ground, Outcome, Ran, Run, SYSROOT, Sandbox, tool};
use crate::support::sysroots::{Disks, Kind};
use crate::support::trials::trial;
use libtest_mimic::Trial;
use prepare_root::image;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::setting::*;

/// Everything is transient, each with a size.
const FORGETFUL: &str = "[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=16M\n\
    [etc]\ntransient=true\ntransient-size=5%\n[var]\ntransient=true\ntransient-size=4M\n";

const TRACE: &str = "/tmp/trace";

const IMAGE: &str = "[composefs]\nenabled=yes\n";

type Check = fn(Setting) -> Result<()>;

pub fn composefs() -> Vec<Trial> {
    let checks: [(&str, Check); 8] = [
        ("everything transient", everything_transient),
        ("a second run with an image changes nothing", second_run),
        ("a hotfix on a read-only disk", readonly_hotfix),
        ("/etc and /usr covered at once", layers_over_the_root),
        ("an image on a tmpfs", image_on_tmpfs),
        ("a layer of an earlier boot is left alone", earlier_layer),
        ("overrides: safe and none", overrides),
        ("a kernel without a file system", missing_file_systems),
    ];
    let mut trials = Vec::new();
    for setting in Setting::all() {
        for (name, check) in checks {
            trials.push(trial(format!("{name}: {}", setting.name()), move || check(setting)));
        }
    }
    trials.push(trial("the device for systemd", volatile_root));
    trials.push(trial("the device for systemd, of a btrfs", volatile_root_of_btrfs));
    trials.push(trial("an image that was cut off", images_cut_off));
    trials.push(trial("verity without layers that only hold data is refused", verity_of_ordinary_layers));
    trials
}

fn sandbox(setting: Setting, config: &str) -> Result<Sandbox> {
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    (sandbox.host, sandbox.loop_devices) = (true, true);
    sandbox.edits.push(file(CONFIG, config));
    Ok(sandbox)
}

/// The standard output of a run that must have succeeded.
fn said(ran: &Ran) -> Result<Vec<&str>> {
    exited(ran, 0)?;
    Ok(ran.stdout.lines().collect())
}

fn everything_transient(setting: Setting) -> Result<()> {
    let mut sandbox = sandbox(setting, FORGETFUL)?;
    sandbox.runs = vec![
        setting.run(&cmdline()?),
        // As other users see it; the kernel's own directories are not for them.
        shell(&format!("stat -c '%n %a %u:%g' {0} {0}/etc {0}/var {0}/var/lib/seed", SYSROOT)),
        shell(&format!("for at in {0} {0}/etc {0}/var; do echo mine > $at/new; done", SYSROOT)),
        shell("cat /run/ostree/.private/root/upper/new /run/ostree/transient-etc.*/upper/new"),
        shell(&format!("cd {SYSROOT}/sysroot; find . -name new")),
        shell(&format!(
            "! dd if=/dev/zero of={SYSROOT}/var/large bs=1M count=5 2> /dev/null; df -k {SYSROOT}/var | tail -n 1 | awk '{{ print $2 }}'"
        )),
    ];
    let outcome = job::run(sandbox)?;
    let [first, modes, write, upper, disk, full] = &outcome.runs[..] else {
        return Err("not six runs".into());
    };
    exited(first, 0)?;
    same("messages", &[""], &[first.stderr.as_str()])?;
    let rows = first.after.mounts.below(SYSROOT);
    same("mounts", &["/", "/etc", "/sysroot", "/var"], &points(&rows))?;
    let var = row(&rows, "/var")?;
    // Kernels that are built to number inodes with 64 bits say so.
    let options = var.super_options.trim_end_matches(",inode64");
    same("/var", &["tmpfs rw,size=4096k,mode=755"], &[format!("{} {options}", var.kind).as_str()])?;
    let expected =
        ["/sysroot 755 0:0", "/sysroot/etc 755 0:0", "/sysroot/var 755 0:0", "/sysroot/var/lib/seed 640 0:0"];
    same("modes", &expected, &said(modes)?)?;
    exited(write, 0)?;
    same("what is in the layers", &["mine", "mine"], &said(upper)?)?;
    same("what is on the disk", &[] as &[&str], &said(disk)?)?;
    same("the size of /var", &["4096"], &said(full)?)?;
    // Both layers are in a tmpfs of their own, and nothing else was mounted outside.
    let run = first.after.mounts.below("/run");
    let layers: Vec<&str> = points(&run).into_iter().filter(|point| *point != "/").collect();
    let etc =
        layers.iter().find(|point| point.starts_with("/ostree/transient-etc.")).copied().unwrap_or("none");
    same("mounts in /run", &["/ostree/.private/root", etc], &layers)
}

fn second_run(setting: Setting) -> Result<()> {
    let mut sandbox = sandbox(setting, IMAGE)?;
    sandbox.runs = vec![setting.run(&cmdline()?); 2];
    let outcome = job::run(sandbox)?;
    let [first, second] = &outcome.runs[..] else { return Err("not two runs".into()) };
    exited(first, 0)?;
    exited(second, 0)?;
    replaced_only(setting.shared, &outcome, first)?;
    nothing_changed(&first.after, &second.after)
}

/// The hotfix is in effect, though the kernel takes no upper layer from a read-only file system.
fn readonly_hotfix(setting: Setting) -> Result<()> {
    let disks = Disks::get()?;
    let kind = Kind { hotfix: true, ..Kind::PLAIN };
    for enabled in ["yes", "no"] {
        for filesystem in [true, false] {
            let disk = disks.disk(kind, filesystem);
            let ground =
                Ground::Disk { mounted: disk.mounted.clone(), readonly: !filesystem, hardened: false };
            let mut sandbox = setting.sandbox(ground)?;
            (sandbox.host, sandbox.loop_devices) = (true, true);
            sandbox.edits.push(file(CONFIG, &format!("[composefs]\nenabled={enabled}\n")));
            let read = format!(
                "cat {0}/usr/lib/os-release; cat {0}/usr/etc/hostname; ! touch {0}/usr/new 2> /dev/null",
                SYSROOT
            );
            sandbox.runs = vec![setting.run(&format!("quiet ostree={}", disk.boot_links[0])), shell(&read)];
            let outcome = job::run(sandbox)?;
            let [ran, read] = &outcome.runs[..] else { return Err("not two runs".into()) };
            exited(ran, 0)?;
            one_message(ran, &["the hotfix layer of /usr is mounted read-only"])?;
            same("/usr", &["ID=hotfix", "hotfix"], &said(read)?)?;
            replaced_only(setting.shared, &outcome, ran)?;
        }
    }
    Ok(())
}

/// Three file systems on top of each other, if the EROFS counts as one: some kernels refuse that.
fn layers_over_the_root(setting: Setting) -> Result<()> {
    let disk = Disks::get()?.disk(Kind { hotfix: true, ..Kind::PLAIN }, false);
    let ground = Ground::Disk { mounted: disk.mounted.clone(), readonly: false, hardened: false };
    let mut sandbox = setting.sandbox(ground)?;
    (sandbox.host, sandbox.loop_devices) = (true, true);
    sandbox.edits.push(file(CONFIG, "[composefs]\nenabled=yes\n[etc]\ntransient=true\n"));
    let read = format!("cat {0}/etc/hostname {0}/usr/lib/os-release", SYSROOT);
    sandbox.runs = vec![setting.run(&format!("quiet ostree={}", disk.boot_links[0])), shell(&read)];
    // Two overlays must not write to one layer.
    static LAYER: Mutex<()> = Mutex::new(());
    let _alone = LAYER.lock();
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], 0)?;
    // /etc is from the image, without the hotfix: as with libostree.
    same("files", &["version-1", "ID=hotfix"], &said(&outcome.runs[1])?)
}

/// EROFS takes no file of a tmpfs, so this goes through a loop device, which is gone in the end.
fn image_on_tmpfs(setting: Setting) -> Result<()> {
    let mut sandbox = setting.sandbox(copy()?)?;
    (sandbox.host, sandbox.loop_devices) = (true, true);
    sandbox.edits.push(file(CONFIG, IMAGE));
    sandbox.runs = vec![setting.run(&cmdline()?), shell(&format!("cat {SYSROOT}/usr/etc/hostname"))];
    let outcome = job::run(sandbox.clone())?;
    exited(&outcome.runs[0], 0)?;
    same("/usr/etc/hostname", &["version-1"], &said(&outcome.runs[1])?)?;

    sandbox.loop_devices = false;
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], 9)?;
    one_message(&outcome.runs[0], &["mount the composefs image", "a loop device is needed", "(ENOENT)"])?;
    nothing_changed(&outcome.before, &outcome.runs[0].after)
}

/// After a soft-reboot `/run` is still there, with layers that were to be forgotten.
fn earlier_layer(setting: Setting) -> Result<()> {
    let mut sandbox = sandbox(setting, "[composefs]\nenabled=yes\n[root]\ntransient=true\n")?;
    sandbox.edits.push(file("/run/ostree/.private/root/upper/old", "old\n"));
    let look =
        format!("test ! -e {SYSROOT}/old; cat /run/ostree/.private/root/upper/old; ls /run/ostree/.private");
    sandbox.runs = vec![setting.run(&cmdline()?), shell(&look)];
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], 0)?;
    same("layers", &["old", "cfsroot-lower", "root", "root.1"], &said(&outcome.runs[1])?)
}

fn overrides(setting: Setting) -> Result<()> {
    let run = |overrides: &str, arguments: &str| -> Result<(Ran, Outcome)> {
        let config = format!("[sysroot]\nreadonly=true\n[overrides]\nkernel-arguments={overrides}\n");
        let mut sandbox = sandbox(setting, &config)?;
        sandbox.runs = vec![setting.run(&format!("{} {arguments}", cmdline()?))];
        let mut outcome = job::run(sandbox)?;
        let ran = outcome.runs.pop().context("run it")?;
        exited(&ran, 0)?;
        Ok((ran, outcome))
    };
    let options = |ran: &Ran| -> Result<String> {
        let rows = ran.after.mounts.below(SYSROOT);
        Ok(format!("{} {}", row(&rows, "/")?.kind, row(&rows, "/sysroot")?.options))
    };
    let weaker = "ostree.prepare-root.sysroot.readonly=0";
    let stricter = "ostree.prepare-root.composefs=yes";
    for (overrides, arguments, expected, warned) in [
        ("all", weaker, "ext4 rw,relatime", false),
        ("safe", weaker, "ext4 ro,relatime", true),
        ("none", weaker, "ext4 ro,relatime", false),
        ("all", stricter, "overlay ro,relatime", false),
        ("safe", stricter, "overlay ro,relatime", false),
        ("none", stricter, "ext4 ro,relatime", false),
    ] {
        let (ran, _) = run(overrides, arguments)?;
        same(&format!("{overrides}, {arguments}"), &[expected], &[options(&ran)?.as_str()])?;
        if warned {
            one_message(&ran, &["[sysroot] readonly is ignored", "kernel-arguments=safe"])?;
        } else {
            same("messages", &[""], &[ran.stderr.as_str()])?;
        }
    }
    Ok(())
}

/// However much of the image is missing, it is refused before the kernel sees it.
fn images_cut_off() -> Result<()> {
    let setting = Setting::all().next().context("find a setting")?;
    let disk = disk()?;
    let path = format!("{}/{}/.ostree.cfs", SYSROOT, disk.deployments[0]);
    let image = fs::read(disk.mounted.join(&disk.deployments[0]).join(".ostree.cfs"));
    let image = image.context("read the image")?;
    let start = |length: usize| &image[..length.min(image::START)];
    for length in 0..image.len() {
        if image::inspect(start(length), length as u64).is_ok() {
            return Err(format!("{length} of {} bytes are taken for an image", image.len()));
        }
    }
    image::inspect(start(image.len()), image.len() as u64).map(drop)?;
    for length in [0, 1, 1023, 1024, 1100, image.len() / 2, image.len() - 1] {
        let mut sandbox = setting.sandbox(copy()?)?;
        let cut = image[..length].to_vec();
        sandbox.edits = vec![file(CONFIG, IMAGE), Edit::File(path.clone(), cut)];
        sandbox.runs = vec![setting.run(&cmdline()?)];
        let outcome = job::run(sandbox)?;
        exited(&outcome.runs[0], 8)?;
        one_message(&outcome.runs[0], &["open the composefs image .ostree.cfs of debian ", "it is "])?;
        nothing_changed(&outcome.before, &outcome.runs[0].after)?;
    }
    Ok(())
}

/// With ordinary layers, whatever lies in the repository's folders would be in the root, digest or not.
fn verity_of_ordinary_layers() -> Result<()> {
    for setting in Setting::all().filter(|setting| setting.way.without.contains(&"data-only-layers")) {
        let mut sandbox = sandbox(setting, "[composefs]\nenabled=verity\n")?;
        sandbox.runs = vec![setting.run(&cmdline()?)];
        let outcome = job::run(sandbox)?;
        exited(&outcome.runs[0], 9)?;
        let stderr = &outcome.runs[0].stderr;
        if !stderr.contains("composefs with verity or signatures needs Linux 6.6") {
            return Err(format!("it does not say what is needed: {stderr}"));
        }
        nothing_changed(&outcome.before, &outcome.runs[0].after)?;
    }
    Ok(())
}

/// What is missing is named: the kernel says ENODEV of a file system that it does not have.
fn missing_file_systems(setting: Setting) -> Result<()> {
    let strace = strace().context("find strace")??;
    let run = |inject: &[&str]| -> Result<Outcome> {
        let mut sandbox = sandbox(setting, &format!("{IMAGE}[var]\ntransient=true\n"))?;
        let options = [&["-f", "-qq", "-o", TRACE, "-e", "trace=fsopen"], inject].concat();
        let options: Vec<_> = options.into_iter().map(str::to_owned).collect();
        sandbox.runs.push(Run::of([&strace[..], &options, &setting.way.command(&cmdline()?)].concat()));
        sandbox.collect.push(TRACE.into());
        job::run(sandbox)
    };
    let undisturbed = run(&[])?;
    exited(&undisturbed.runs[0], 0)?;
    let trace = undisturbed.runs[0].files.get(TRACE).context("trace the program")?;
    for name in ["erofs", "tmpfs", "overlay"] {
        // How many are tried depends on the kernel.
        let first = trace.lines().position(|line| line.contains(&format!("fsopen(\"{name}\"")));
        let number = 1 + first.context(format!("find where {name} is mounted"))?;
        // From then on all: an older way must not hide it.
        let outcome = run(&["-e", &format!("inject=fsopen:error=ENODEV:when={number}+")])?;
        exited(&outcome.runs[0], 9)?;
        one_message(&outcome.runs[0], &["mount ", &format!("the kernel has no {name} file system")])?;
        nothing_changed(&outcome.before, &outcome.runs[0].after)?;
    }
    Ok(())
}

/// What `/run/systemd/volatile-root` says after a run with this disk, configuration and `/dev`.
fn link_for_systemd(mounted: &Path, config: &str, edits: Vec<Edit>) -> Result<String> {
    let setting = Setting::all().next().context("find a setting")?;
    let ground = Ground::Disk { mounted: mounted.to_owned(), readonly: false, hardened: false };
    let mut sandbox = setting.sandbox(ground)?;
    (sandbox.host, sandbox.loop_devices) = (true, true);
    sandbox.edits = edits;
    sandbox.edits.push(file(CONFIG, config));
    sandbox.runs = vec![setting.run(&cmdline()?), shell("readlink /run/systemd/volatile-root || echo none")];
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], 0)?;
    Ok(said(&outcome.runs[1])?.concat())
}

fn device_of(path: &Path) -> Result<String> {
    let device = path.metadata().context(format!("look at {}", path.display()))?.dev();
    Ok(format!("/dev/block/{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
}

fn volatile_root() -> Result<()> {
    let mounted = &disk()?.mounted;
    let expected = device_of(mounted)?;
    same("of the disk", &[&expected], &[&link_for_systemd(mounted, IMAGE, vec![])?])?;
    let automatic = vec![Edit::Link("/dev/gpt-auto-root".into(), "/dev/loop127".into())];
    let found = link_for_systemd(mounted, IMAGE, automatic)?;
    same("of systemd's own finding", &["/dev/block/7:127"], &[found.as_str()])?;
    let off = format!("{IMAGE}[systemd]\nvolatile-root=false\n");
    same("switched off", &["none"], &[link_for_systemd(mounted, &off, vec![])?.as_str()])?;
    same("without an image", &["none"], &[link_for_systemd(mounted, "", vec![])?.as_str()])
}

/// Its files are on no device, as far as their numbers tell.
fn volatile_root_of_btrfs() -> Result<()> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let (image, mounted) = (folder.path().join("image"), folder.path().join("mounted"));
    fs::create_dir(&mounted).context("make a mount point")?;
    fs::File::create(&image).and_then(|image| image.set_len(300 << 20)).context("make the image")?;
    tool(Command::new("mkfs.btrfs").arg("-q").arg("--rootdir").arg(&disk()?.mounted).arg(&image))?;
    tool(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).arg(&image).arg(&mounted))?;
    let devices = Command::new("losetup").args(["-n", "-O", "MAJ:MIN", "-j"]).arg(&image).output();
    let device = String::from_utf8_lossy(&devices.context("run losetup")?.stdout).trim().to_owned();
    let found = link_for_systemd(&mounted, IMAGE, vec![]);
    tool(Command::new("umount").arg(&mounted))?;
    same("of the btrfs", &[format!("/dev/block/{device}")], &[found?])
}
