use super::*;
use crate::cmdline::Cmdline;
use crate::generator::Generator;

fn config(file: &str) -> Config {
    Config::parse(&Cmdline::new("ostree=/ostree/boot.1/debian/c0ffee/0"), "test.conf", file.as_bytes())
        .unwrap()
}

/// A deployment of a Debian with the generator of libostree 2026.
fn facts() -> Facts {
    Facts {
        name: Name { stateroot: b"debian".to_vec(), directory: b"abc.0".to_vec() },
        device: 1,
        inode: 2,
        legacy_readonly: false,
        boot_on_physical_root: true,
        physical_readonly: false,
        backing_device: None,
        hotfix: false,
        mount_var_marker: false,
        generator_finds_stateroot: true,
    }
}

/// The contents of a Debian with the generator of libostree 2026.
fn forky() -> Contents {
    Contents {
        directories: vec!["usr", "etc", "sysroot", "var", "boot", "usr/etc"],
        generator: Generator { systemd: true, runs: true, recent: true },
        systemd_is_init: true,
        ..Contents::default()
    }
}

/// With the generator of libostree 2025.
fn trixie() -> Contents {
    Contents { generator: Generator { systemd: true, runs: true, recent: false }, ..forky() }
}

fn no_generator() -> Contents {
    Contents { generator: Generator { systemd: true, ..Generator::default() }, ..forky() }
}

fn without(directory: &str, mut contents: Contents) -> Contents {
    contents.directories.retain(|its| *its != directory);
    contents
}

/// The settled plan, one word a mount: place, access, and `+` if shared.
fn mounts(file: &str, facts: &Facts, contents: &Contents) -> String {
    words(&plan(&config(file), facts, false).unwrap().settle(contents).unwrap())
}

/// The same of a deployment with an image, which is to be the root.
fn composefs(file: &str, facts: &Facts) -> String {
    let plan = plan(&config(&format!("[composefs]\nenabled=yes\n{file}")), facts, true).unwrap();
    words(&plan.settle(&forky()).unwrap())
}

fn words(plan: &Plan) -> String {
    let word = |step: &Step| {
        let access = match step.access {
            Access::Inherited => "",
            Access::ReadOnly => ":ro",
            Access::Writable => ":rw",
        };
        let shared = if step.propagation == Propagation::Shared { "+" } else { "" };
        format!("/{}{access}{shared}", step.at.escape_ascii())
    };
    plan.steps.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_plain_bind_boot() {
    assert_eq!(mounts("", &facts(), &forky()), "/ /usr:ro /sysroot");
}

#[test]
fn a_read_only_physical_root_by_configuration_or_legacy_flag() {
    let expected = "/ /etc:rw /usr:ro /sysroot:ro /sysroot/ostree/deploy/debian/var:rw";
    let legacy = Facts { legacy_readonly: true, ..facts() };
    assert_eq!(mounts("[sysroot]\nreadonly=true\n", &facts(), &forky()), expected);
    assert_eq!(mounts("", &legacy, &forky()), expected);
    assert_eq!(mounts("[sysroot]\nreadonly=false\n", &legacy, &forky()), expected);
    assert_eq!(mounts("[sysroot]\nreadonly=false\n", &facts(), &forky()), "/ /usr:ro /sysroot");
}

#[test]
fn a_transient_etc_needs_a_read_only_physical_root() {
    let transient = plan(&config("[sysroot]\nreadonly=1\n[etc]\ntransient=1\n"), &facts(), false).unwrap();
    let layer = Layer::Transient(Transient::default());
    assert_eq!(transient.steps[1].source, Source::Covered("usr/etc", layer));
    assert!(transient.transient(b"etc").is_some() && transient.warnings.is_empty());
    assert!(plan(&config("[etc]\ntransient=1\n"), &facts(), false).unwrap().transient(b"etc").is_none());
}

#[test]
fn an_image_is_read_only_and_implies_a_read_only_physical_root() {
    let var = "/sysroot/ostree/deploy/debian/var:rw";
    assert_eq!(composefs("", &facts()), format!("/:ro /etc:rw /sysroot:ro {var}"));
    assert_eq!(composefs("[sysroot]\nreadonly=false\n", &facts()), "/:ro /etc:rw /sysroot");
    assert_eq!(composefs("[etc]\ntransient=1\n", &facts()), format!("/:ro /etc /sysroot:ro {var}"));
    assert_eq!(composefs("[root]\ntransient=1\n", &facts()), format!("/ /etc:rw /sysroot:ro {var}"));
    assert_eq!(composefs("[root]\ntransient-ro=1\n", &facts()), format!("/:ro /etc:rw /sysroot:ro {var}"));
    let maybe = plan(&config("[composefs]\nenabled=maybe\n"), &facts(), true).unwrap();
    assert_eq!(words(&maybe.settle(&forky()).unwrap()), "/:ro /etc:rw /sysroot");
}

#[test]
fn a_transient_var_comes_instead_of_the_stateroot_s() {
    assert_eq!(mounts("[var]\ntransient=1\n", &facts(), &forky()), "/ /usr:ro /sysroot /var");
    let all = "[root]\ntransient=1\n[etc]\ntransient=1\n[var]\ntransient=1\n";
    assert_eq!(composefs(all, &facts()), "/ /etc /sysroot:ro /var");
}

#[test]
fn a_hotfix_covers_usr_unless_somebody_signed_that() {
    let hotfix = Facts { hotfix: true, ..facts() };
    let readonly = Facts { physical_readonly: true, ..hotfix.clone() };
    assert_eq!(mounts("", &hotfix, &forky()), "/ /usr /sysroot");
    assert_eq!(mounts("", &readonly, &forky()), "/ /usr:ro /sysroot");
    let off = "[sysroot]\nreadonly=0\n";
    assert_eq!(composefs(off, &hotfix), "/:ro /etc:rw /usr /sysroot");
    assert_eq!(composefs(off, &readonly), "/:ro /etc:rw /usr:ro /sysroot");
    let signed =
        plan(&config("[composefs]\nenabled=signed\n[sysroot]\nreadonly=0\n"), &hotfix, true).unwrap();
    assert_eq!(signed.warnings.len(), 1);
    assert_eq!(words(&signed.settle(&forky()).unwrap()), "/:ro /etc:rw /sysroot");
}

#[test]
fn what_is_left_in_run() {
    let disk = Facts { backing_device: Some(0x801), ..facts() };
    let traces = |file: &str, image| plan(&config(file), &disk, image).unwrap().traces;
    assert_eq!(traces("", false), Traces::default());
    let yes = "[composefs]\nenabled=yes\n";
    let expected = Traces {
        image_mount_point: true,
        volatile_root: Some(0x801),
        remount_fs_dropin: true,
        ..Traces::default()
    };
    assert_eq!(traces(yes, true), expected);
    let off = format!("{yes}[systemd]\nvolatile-root=0\nremount-fs-dropin=0\n");
    let only = Traces { image_mount_point: true, ..Traces::default() };
    assert_eq!(traces(&off, true), only);
    assert_eq!(traces("[composefs]\nenabled=maybe\n", false), only);
}

/// What is left for a soft-reboot: the names of the files.
fn kept(file: &str, facts: &Facts, contents: &Contents) -> String {
    let plan = plan(&config(file), facts, false).unwrap().settle(contents).unwrap();
    let names = plan.traces.kept.iter().map(|kept| {
        let path = kept.path.to_str().unwrap().strip_prefix("/run/systemd/system/").unwrap();
        path.split('/').next().unwrap()
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn mounts_are_kept_over_a_soft_reboot_where_the_generator_does_not() {
    assert_eq!(kept("", &facts(), &forky()), "");
    assert_eq!(kept("", &facts(), &trixie()), "sysroot.mount.d boot.mount");
    assert_eq!(kept("[boot]\nmount=false\n", &facts(), &trixie()), "sysroot.mount.d");
    assert_eq!(kept("", &facts(), &no_generator()), "sysroot.mount.d var.mount boot.mount");
    // Nobody but systemd takes mounts off.
    assert_eq!(kept("", &facts(), &Contents { systemd_is_init: false, ..trixie() }), "");
    let marked = Facts { mount_var_marker: true, ..facts() };
    assert_eq!(kept("", &marked, &forky()), "sysroot.mount.d var.mount boot.mount");
}

#[test]
fn units_mount_what_was_mounted() {
    let var = |file: &str| {
        let plan = plan(&config(file), &facts(), false).unwrap().settle(&no_generator()).unwrap();
        let mut kept = plan.traces.kept.into_iter();
        let unit = kept.find(|kept| kept.path == c"/run/systemd/system/var.mount").unwrap();
        unit.text.split_once("[Mount]\n").unwrap().1.to_owned()
    };
    let bind = "What=/sysroot/ostree/deploy/debian/var\nWhere=/var\nOptions=bind,rw,slave,shared\n";
    assert_eq!(var(""), bind);
    let memory = "What=tmpfs\nWhere=/var\nOptions=mode=0755\nType=tmpfs\n";
    assert_eq!(var("[var]\ntransient=true\n"), memory);
}

#[test]
fn nothing_on_the_disk_can_write_a_unit() {
    for stateroot in ["a b", "a\nExecStart=b", "a%h", "a\\x20", "a\"", "\u{e9}"] {
        let name = Name { stateroot: stateroot.into(), ..facts().name };
        let facts = Facts { name, ..facts() };
        assert_eq!(kept("", &facts, &no_generator()), "sysroot.mount.d boot.mount", "{stateroot}");
    }
}

#[test]
fn boot_is_mounted_where_the_generator_does_not() {
    assert_eq!(mounts("", &facts(), &trixie()), "/ /usr:ro /sysroot /boot");
    assert_eq!(mounts("", &facts(), &Contents { fstab_boot: true, ..trixie() }), "/ /usr:ro /sysroot");
    assert_eq!(mounts("[boot]\nmount=false\n", &facts(), &trixie()), "/ /usr:ro /sysroot");
    assert_eq!(mounts("[boot]\nmount=true\n", &facts(), &forky()), "/ /usr:ro /sysroot /boot");
    let separate = Facts { boot_on_physical_root: false, ..facts() };
    assert_eq!(mounts("", &separate, &trixie()), "/ /usr:ro /sysroot");
    assert_eq!(mounts("", &facts(), &without("boot", trixie())), "/ /usr:ro /sysroot");
}

#[test]
fn var_is_mounted_where_nobody_else_does() {
    assert_eq!(mounts("", &facts(), &no_generator()), "/ /usr:ro /sysroot /var+ /boot");
    assert_eq!(
        mounts("", &facts(), &Contents { fstab_var: true, ..no_generator() }),
        "/ /usr:ro /sysroot /boot"
    );
    assert_eq!(mounts("[var]\nmount=true\n", &facts(), &forky()), "/ /usr:ro /sysroot /var+");
    assert_eq!(mounts("[var]\nmount=false\n", &facts(), &no_generator()), "/ /usr:ro /sysroot /boot");
    let unreadable = Facts { generator_finds_stateroot: false, ..facts() };
    assert_eq!(mounts("", &unreadable, &forky()), "/ /usr:ro /sysroot /var+");
    assert_eq!(mounts("", &facts(), &without("var", no_generator())), "/ /usr:ro /sysroot /boot");
    let readonly = "[sysroot]\nreadonly=true\n[var]\nmount=true\n";
    assert!(mounts(readonly, &facts(), &forky()).ends_with(" /sysroot/ostree/deploy/debian/var:rw /var:rw+"));
}

#[test]
fn a_generator_that_finds_no_target_mounts_nothing() {
    let quoted = Cmdline::new("\"ostree=/ostree/boot.1/debian/c0ffee/0\"");
    let config = Config::parse(&quoted, "test.conf", b"").unwrap();
    let facts = Facts { generator_finds_stateroot: config.generator.stateroot.is_some(), ..facts() };
    let steps = plan(&config, &facts, false).unwrap().settle(&forky()).unwrap().steps;
    assert_eq!(
        steps.iter().map(|step| &*step.at).collect::<Vec<_>>(),
        [&b""[..], b"usr", b"sysroot", b"var", b"boot"]
    );
}

#[test]
fn the_marker_silences_the_generator_so_both_are_ours() {
    let marked = Facts { mount_var_marker: true, ..facts() };
    assert_eq!(mounts("", &marked, &forky()), "/ /usr:ro /sysroot /var+ /boot");
}

#[test]
fn what_only_the_image_knows_stays_open() {
    let plan = plan(&config(""), &facts(), false).unwrap();
    let var = Condition::NobodyElseMountsVar { generator_finds_stateroot: true };
    let conditions = vec![var, Condition::NobodyElseMountsBoot { generator_finds_target: true }];
    let directories = vec!["etc"];
    let questions = Questions { directories, conditions, transient_etc: false, generator_acts: true };
    assert_eq!((plan.unsettled, plan.questions()), (true, questions));
    let settled = plan.settle(&forky()).unwrap();
    assert!(!settled.unsettled && settled.questions().conditions.is_empty());
}

#[test]
fn announces_the_deployment_and_how_it_is_mounted() {
    let booted = |file: &str, image| plan(&config(file), &facts(), image).unwrap().booted;
    let plain = Booted {
        device: 1,
        inode: 2,
        root_transient: false,
        root_transient_readonly: false,
        composefs_verity: None,
        signed_by: None,
        sysroot_readonly: true,
    };
    assert_eq!(booted("[sysroot]\nreadonly=1\n", false), plain);
    let composefs = Booted { composefs_verity: Some(false), ..plain.clone() };
    assert_eq!(booted("[composefs]\nenabled=yes\n", true), composefs);
    let signed = Booted { composefs_verity: Some(true), signed_by: Some("/k".into()), ..plain };
    assert_eq!(booted("[composefs]\nenabled=signed\nkeypath=/k\n", true), signed);
    let transient = Booted { root_transient: true, root_transient_readonly: true, ..composefs };
    assert_eq!(booted("[composefs]\nenabled=yes\n[root]\ntransient-ro=1\n", true), transient);
}

#[test]
fn warns_of_what_has_no_effect() {
    let warned = |file, facts: &Facts| plan(&config(file), facts, false).unwrap().warnings.len();
    assert_eq!(warned("", &facts()), 0);
    assert_eq!(warned("[etc]\ntransient=true\n", &facts()), 1);
    assert_eq!(warned("", &Facts { hotfix: true, ..facts() }), 0);
    assert_eq!(warned("", &Facts { hotfix: true, physical_readonly: true, ..facts() }), 1);
}

#[test]
fn refusals() {
    let class = |file: &str, contents: &Contents| {
        let plan = plan(&config(file), &facts(), false).and_then(|plan| plan.settle(contents));
        plan.map(|_| ()).map_err(|error| error.class())
    };
    assert_eq!(class("[composefs]\nenabled=maybe\n", &forky()), Ok(()));
    let no_usr_etc = without("usr/etc", forky());
    assert_eq!(class("[sysroot]\nreadonly=1\n[etc]\ntransient=1\n", &no_usr_etc), Err(Class::Incomplete));
    assert_eq!(class("[sysroot]\nreadonly=1\n", &no_usr_etc), Ok(()));
    // The mount there will tell.
    assert_eq!(class("[sysroot]\nreadonly=1\n", &without("etc", forky())), Ok(()));
    assert_eq!(class("", &without("etc", forky())), Err(Class::Incomplete));
}

#[test]
fn a_transient_root_without_composefs_is_refused_with_both_settings_named() {
    for (file, one, other) in [
        ("[root]\ntransient=1\n", "[root] transient=true", "[composefs] enabled is no"),
        ("[root]\ntransient-ro=1\n", "[root] transient-ro=true", "[composefs] enabled is no"),
        (
            "[root]\ntransient=1\n[composefs]\nenabled=maybe\n",
            "[root] transient=true",
            "[composefs] enabled=maybe",
        ),
    ] {
        let error = plan(&config(file), &facts(), false).expect_err("accepted");
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains(one) && error.to_string().contains(other), "{error}");
    }
}

#[test]
fn a_missing_directory_is_named() {
    let contents = without("usr/etc", without("usr", forky()));
    let config = config("[composefs]\nenabled=yes\n[etc]\ntransient=1\n");
    let error = plan(&config, &facts(), true).unwrap().settle(&contents).expect_err("accepted");
    assert!(error.to_string().contains("/usr, /usr/etc of the deployment is missing"), "{error}");
}
