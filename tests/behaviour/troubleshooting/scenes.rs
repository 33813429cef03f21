//! What is wrong when a message is seen.

use super::*;

/// The last run in a sandbox.
pub fn run(sandbox: Sandbox) -> Result<Ran> {
    job::run(sandbox)?.runs.pop().context("run the program")
}

/// A scene in which strace runs the program.
pub fn injected(scene: &Scene, strace: &[String], inject: &[String]) -> Result<Sandbox> {
    let mut sandbox = scene.sandbox(false)?;
    let options = ["-f", "-qq", "-o", TRACE].map(str::to_owned);
    let inject: Vec<_> = inject.iter().flat_map(|inject| ["-e".to_owned(), inject.clone()]).collect();
    let last = sandbox.runs.last_mut().context("find the run")?;
    last.arguments = [strace, &options, &inject, &last.arguments].concat();
    sandbox.collect.push(TRACE.into());
    Ok(sandbox)
}

pub fn configured(config: &str) -> Result<Scene> {
    let mut scene = Scene::new()?;
    scene.config(config);
    Ok(scene)
}

/// All kinds of mounts that need no image.
pub fn plain() -> Result<Scene> {
    Ok(configured(READONLY)?.uncopied())
}

pub fn image() -> Result<Scene> {
    Ok(configured(IMAGE)?.uncopied())
}

pub fn verity() -> Result<Scene> {
    Ok(configured("[composefs]\nenabled=verity\n[systemd]\nvolatile-root=false\n")?.uncopied())
}

pub fn forgetful() -> Result<Scene> {
    Ok(configured(FORGETFUL)?.uncopied())
}

pub fn not_beneath() -> Result<Scene> {
    Ok(Scene { way: &WAYS[1], ..plain()? })
}

pub fn in_namespace() -> Result<Scene> {
    Ok(Scene { way: &WAYS[2], ..plain()? })
}

pub fn arguments(more: &str) -> Result<Scene> {
    let mut scene = plain()?;
    scene.cmdline += &format!(" {more}");
    Ok(scene)
}

pub fn on_disk(edit: Edit) -> Result<Scene> {
    let mut scene = Scene::new()?;
    scene.edits.push(edit);
    Ok(scene)
}

/// The path of the physical root has to be looked for.
pub fn roundabout() -> Result<Scene> {
    let scene = plain()?;
    Ok(Scene { arguments: Some(vec![format!("{SYSROOT}/."), scene.cmdline.clone()]), ..scene })
}

pub fn boot_here() -> Result<Scene> {
    Ok(configured("[boot]\nmount=true\n")?.uncopied())
}

pub fn no_cmdline() -> Result<Scene> {
    Ok(Scene { arguments: Some(vec![SYSROOT.into()]), ..plain()? })
}

pub fn unclosed_quote() -> Result<Scene> {
    let scene = plain()?;
    Ok(Scene { cmdline: format!("dyndbg=\"file {}", scene.cmdline), ..scene })
}

pub fn locked() -> Result<Scene> {
    let mut scene = arguments("ostree.prepare-root.sysroot.readonly=0")?;
    scene.config("[sysroot]\nreadonly=true\n[overrides]\nkernel-arguments=safe\n");
    Ok(scene)
}

pub fn break_at() -> Result<Scene> {
    let arguments = ["--break-at", "before", "ostree.prepare-root.break=now"].map(str::to_owned);
    Ok(Scene { arguments: Some(arguments.to_vec()), ..plain()? })
}

pub fn misused() -> Result<Scene> {
    Ok(Scene { arguments: Some(vec!["--frobnicate".into()]), ..plain()? })
}

/// A disk with two deployments, of which the first is prepared already.
pub fn second_deployment() -> Result<Scene> {
    let scene = Scene::on(Kind { deployments: 2, ..Kind::PLAIN })?.uncopied();
    let (other, _) = scene.names(1);
    Ok(Scene { before: vec![scene.cmdline.clone()], cmdline: format!("ostree={other}"), ..scene })
}

pub fn again() -> Result<Scene> {
    let scene = plain()?;
    Ok(Scene { before: vec![scene.cmdline.clone()], ..scene })
}

pub fn chosen() -> Result<Scene> {
    arguments("ostree.prepare-root.deployment=0")
}

pub fn cut_off() -> Result<Scene> {
    let mut scene = configured(IMAGE)?;
    let (_, deployment) = scene.names(0);
    let image =
        std::fs::read(disk()?.mounted.join(deployment).join(".ostree.cfs")).context("read the image")?;
    scene.edits.push(Edit::File(scene.image(), image[..image.len() / 2].to_vec()));
    Ok(scene)
}

/// The boot entry names the boot version before the last.
pub fn other_boot_version() -> Result<Scene> {
    let scene = plain()?;
    let cmdline = match scene.cmdline.contains("/boot.0/") {
        true => scene.cmdline.replace("/boot.0/", "/boot.1/"),
        false => scene.cmdline.replace("/boot.1/", "/boot.0/"),
    };
    Ok(Scene { cmdline, ..scene })
}

pub fn damaged_newest() -> Result<Scene> {
    let mut scene = Scene::on(Kind { deployments: 2, ..Kind::PLAIN })?;
    scene.config("[recovery]\nfallback=same-kernel\n");
    scene.remove("usr");
    Ok(scene)
}

pub fn other_kernel() -> Result<Scene> {
    let scene = plain()?;
    let cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0 ostree.prepare-root.deployment=0".into();
    Ok(Scene { cmdline, ..scene })
}

pub fn readonly_hotfix() -> Result<Scene> {
    let kind = Kind { hotfix: true, ..Kind::PLAIN };
    let mounted = Disks::get()?.disk(kind, false).mounted.clone();
    let ground = Some(Ground::Disk { mounted, readonly: true, hardened: false });
    Ok(Scene { ground, ..Scene::on(kind)? })
}

pub fn no_loop_device() -> Result<Scene> {
    Ok(Scene { loop_devices: false, ..configured(IMAGE)? })
}

pub fn small_var() -> Result<Scene> {
    let mut scene = configured("[var]\ntransient=true\ntransient-size=4k\n")?;
    let large = format!("{}/usr/share/factory/var/large", scene.deployment);
    scene.edits.push(Edit::File(large, vec![1; 65536]));
    Ok(scene)
}

pub fn a_thousand_layers() -> Result<Scene> {
    let mut scene = forgetful()?;
    let private = "/run/ostree/.private/root";
    scene.edits.push(Edit::Directory(private.into()));
    scene.edits.extend((1..1000).map(|number| Edit::Directory(format!("{private}.{number}"))));
    Ok(scene)
}

/// Notes of a run that was killed, and SYSROOT is not even a directory.
pub fn interrupted(notes: &str) -> Result<Scene> {
    let mut scene = plain()?;
    scene.edits.push(file(LEFT, notes));
    scene.sysroot = "/nowhere".into();
    Ok(scene)
}

/// Nothing asks for the program when there is no `ostree=`.
pub fn not_started() -> Result<()> {
    let unit = include_str!("../../../dracut/40ostree/ostree-prepare-root.service");
    let hook = include_str!("../../../dracut/40ostree/boot-ostree-deployment.sh");
    let conditions = [
        unit.lines().any(|line| line == "ConditionKernelCommandLine=|ostree"),
        hook.contains("\nif getarg ostree > /dev/null || getarg ostree.prepare-root.deployment"),
    ];
    same("conditions", &[true, true], &conditions)
}

pub fn remount_fs() -> Result<()> {
    const DROPIN: &str = "/run/systemd/system/systemd-remount-fs.service.d/50-ostree-prepare-root.conf file";
    let without = configured(&format!("{IMAGE}[systemd]\nremount-fs-dropin=false\n"))?.uncopied();
    for (scene, expected) in [(image()?, true), (without, false), (plain()?, false)] {
        let ran = run(scene.sandbox(false)?)?;
        exited(&ran, 0)?;
        let there = ran.after.run.iter().any(|entry| entry.starts_with(DROPIN));
        same("is there a drop-in", &[expected], &[there])?;
    }
    Ok(())
}
