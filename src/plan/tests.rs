use super::*;
use crate::cmdline::Cmdline;

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
        missing: vec![],
        has_stateroot_var: true,
        has_var: true,
        has_boot: true,
        has_usr_etc: true,
        boot_on_physical_root: true,
        composefs_image: false,
        hotfix: false,
        mount_var_marker: false,
        generator_finds_stateroot: true,
    }
}

const FORKY: Contents =
    Contents { generator: true, generator_mounts_boot: true, fstab_var: false, fstab_boot: false };
const TRIXIE: Contents = Contents { generator_mounts_boot: false, ..FORKY };
const NO_GENERATOR: Contents = Contents { generator: false, ..TRIXIE };

/// The settled plan, one word a mount: place, access, and `+` if shared.
fn mounts(file: &str, facts: &Facts, contents: &Contents) -> String {
    let plan = plan(&config(file), facts).unwrap().settle(contents, facts).unwrap();
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
    assert_eq!(mounts("", &facts(), &FORKY), "/ /usr:ro /sysroot");
}

#[test]
fn a_read_only_physical_root_by_configuration_or_legacy_flag() {
    let expected = "/ /etc:rw /usr:ro /sysroot:ro /sysroot/ostree/deploy/debian/var:rw";
    let legacy = Facts { legacy_readonly: true, ..facts() };
    assert_eq!(mounts("[sysroot]\nreadonly=true\n", &facts(), &FORKY), expected);
    assert_eq!(mounts("", &legacy, &FORKY), expected);
    assert_eq!(mounts("[sysroot]\nreadonly=false\n", &legacy, &FORKY), expected);
    assert_eq!(mounts("[sysroot]\nreadonly=false\n", &facts(), &FORKY), "/ /usr:ro /sysroot");
}

#[test]
fn a_transient_etc_needs_a_read_only_physical_root() {
    let transient = plan(&config("[sysroot]\nreadonly=1\n[etc]\ntransient=1\n"), &facts()).unwrap();
    assert_eq!(transient.steps[1].source, Source::TransientOver("usr/etc"));
    assert!(transient.transient_etc() && transient.warnings.is_empty());
    assert!(!plan(&config("[etc]\ntransient=1\n"), &facts()).unwrap().transient_etc());
}

#[test]
fn boot_is_mounted_where_the_generator_does_not() {
    assert_eq!(mounts("", &facts(), &TRIXIE), "/ /usr:ro /sysroot /boot");
    assert_eq!(mounts("", &facts(), &Contents { fstab_boot: true, ..TRIXIE }), "/ /usr:ro /sysroot");
    assert_eq!(mounts("[boot]\nmount=false\n", &facts(), &TRIXIE), "/ /usr:ro /sysroot");
    assert_eq!(mounts("[boot]\nmount=true\n", &facts(), &FORKY), "/ /usr:ro /sysroot /boot");
    let separate = Facts { boot_on_physical_root: false, ..facts() };
    assert_eq!(mounts("", &separate, &TRIXIE), "/ /usr:ro /sysroot");
    assert_eq!(mounts("", &Facts { has_boot: false, ..facts() }, &TRIXIE), "/ /usr:ro /sysroot");
}

#[test]
fn var_is_mounted_where_nobody_else_does() {
    assert_eq!(mounts("", &facts(), &NO_GENERATOR), "/ /usr:ro /sysroot /var+ /boot");
    assert_eq!(
        mounts("", &facts(), &Contents { fstab_var: true, ..NO_GENERATOR }),
        "/ /usr:ro /sysroot /boot"
    );
    assert_eq!(mounts("[var]\nmount=true\n", &facts(), &FORKY), "/ /usr:ro /sysroot /var+");
    assert_eq!(mounts("[var]\nmount=false\n", &facts(), &NO_GENERATOR), "/ /usr:ro /sysroot /boot");
    let unreadable = Facts { generator_finds_stateroot: false, ..facts() };
    assert_eq!(mounts("", &unreadable, &FORKY), "/ /usr:ro /sysroot /var+");
    assert_eq!(mounts("", &Facts { has_var: false, ..facts() }, &NO_GENERATOR), "/ /usr:ro /sysroot /boot");
    let readonly = "[sysroot]\nreadonly=true\n[var]\nmount=true\n";
    assert!(mounts(readonly, &facts(), &FORKY).ends_with(" /sysroot/ostree/deploy/debian/var:rw /var:rw+"));
}

#[test]
fn a_generator_that_finds_no_target_mounts_nothing() {
    let quoted = Cmdline::new("\"ostree=/ostree/boot.1/debian/c0ffee/0\"");
    let config = Config::parse(&quoted, "test.conf", b"").unwrap();
    let facts = Facts { generator_finds_stateroot: config.generator.stateroot, ..facts() };
    let steps = plan(&config, &facts).unwrap().settle(&FORKY, &facts).unwrap().steps;
    assert_eq!(
        steps.iter().map(|step| &*step.at).collect::<Vec<_>>(),
        [&b""[..], b"usr", b"sysroot", b"var", b"boot"]
    );
}

#[test]
fn the_marker_silences_the_generator_so_both_are_ours() {
    let marked = Facts { mount_var_marker: true, ..facts() };
    assert_eq!(mounts("", &marked, &FORKY), "/ /usr:ro /sysroot /var+ /boot");
}

#[test]
fn what_only_the_image_knows_stays_open() {
    let plan = plan(&config(""), &facts()).unwrap();
    assert_eq!(plan.questions(), Questions { var: true, boot: true, transient_etc: false });
    let open: Vec<_> = plan.steps.iter().filter_map(|step| step.only_if).collect();
    let var = Condition::NobodyElseMountsVar { generator_finds_stateroot: true };
    assert_eq!(open, [var, Condition::NobodyElseMountsBoot { generator_finds_target: true }]);
    assert_eq!(plan.settle(&FORKY, &facts()).unwrap().questions(), Questions::default());
}

#[test]
fn announces_the_deployment_and_the_read_only_root() {
    let plan = plan(&config("[sysroot]\nreadonly=1\n"), &facts()).unwrap();
    assert_eq!(plan.booted, Booted { device: 1, inode: 2, sysroot_readonly: true });
}

#[test]
fn warns_of_what_has_no_effect() {
    let warned = |file, facts: &Facts| plan(&config(file), facts).unwrap().warnings.len();
    assert_eq!(warned("", &facts()), 0);
    assert_eq!(warned("[etc]\ntransient=true\n", &facts()), 1);
    assert_eq!(warned("", &Facts { hotfix: true, ..facts() }), 1);
}

#[test]
fn refusals() {
    let judge = |file: &str, facts: &Facts, contents: &Contents| {
        let plan = plan(&config(file), facts).and_then(|plan| plan.settle(contents, facts));
        plan.map(|_| ()).map_err(|error| error.class())
    };
    let class = |file: &str, facts: &Facts| judge(file, facts, &FORKY);
    let image = Facts { composefs_image: true, ..facts() };
    assert_eq!(class("[composefs]\nenabled=maybe\n", &facts()), Ok(()));
    for enabled in ["yes", "verity", "signed"] {
        assert_eq!(class(&format!("[composefs]\nenabled={enabled}\n"), &facts()), Err(Class::Unsupported));
    }
    assert_eq!(class("[composefs]\nenabled=maybe\n", &image), Err(Class::Unsupported));
    assert_eq!(class("[root]\ntransient=true\n", &facts()), Err(Class::Unsupported));
    assert_eq!(class("", &Facts { missing: vec!["usr"], ..facts() }), Err(Class::Incomplete));
    let no_var = Facts { has_stateroot_var: false, ..facts() };
    assert_eq!(class("[var]\nmount=false\n", &no_var), Ok(()));
    assert_eq!(class("", &no_var), Ok(()));
    assert_eq!(judge("", &no_var, &NO_GENERATOR), Err(Class::Incomplete));
    assert_eq!(class("[sysroot]\nreadonly=1\n", &no_var), Err(Class::Incomplete));
    assert_eq!(class("[var]\nmount=true\n", &no_var), Err(Class::Incomplete));
    let no_usr_etc = Facts { has_usr_etc: false, ..facts() };
    assert_eq!(class("[sysroot]\nreadonly=1\n[etc]\ntransient=1\n", &no_usr_etc), Err(Class::Incomplete));
    assert_eq!(class("[sysroot]\nreadonly=1\n", &no_usr_etc), Ok(()));
    assert_eq!(class("[boot]\nmount=true\n", &Facts { has_boot: false, ..facts() }), Err(Class::Incomplete));
}

#[test]
fn a_missing_directory_is_named() {
    let error =
        plan(&config(""), &Facts { missing: vec!["etc", "sysroot"], ..facts() }).expect_err("accepted");
    assert!(error.to_string().contains("/etc, /sysroot of the deployment is missing"), "{error}");
}
