use super::settings::{KEYS, KNOWN, tmpfs_size};
use super::*;
use crate::cmdline::Link;

fn parse(file: &str, arguments: &str) -> Result<Config> {
    Config::parse(
        &Cmdline::new(format!("ostree=/ostree/boot.0/d/c/0 {arguments}")),
        "test.conf",
        file.as_bytes(),
    )
}

#[test]
fn the_example_in_the_readme_is_a_configuration() {
    let readme = include_str!("../../README.md");
    let after = readme.split_once("## Configure it").unwrap().1;
    let example = after.split_once("Kernel arguments:").unwrap().0;
    let example: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let config = parse(&example.join("\n"), "").unwrap();
    assert_eq!(config.sysroot_readonly, Some(true));
}

#[test]
fn the_example_file_has_every_key_with_its_default() {
    let example = include_str!("../../examples/prepare-root.conf");
    // Words have a space behind the #, keys have none.
    let lines = example.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    });
    let complete = lines.collect::<Vec<_>>().join("\n");

    let file = keyfile::KeyFile::parse(complete.as_bytes()).unwrap();
    let mut keys: Vec<_> = file.entries().map(|entry| (entry.group, entry.key)).collect();
    let mut known: Vec<_> =
        KNOWN.iter().flat_map(|(group, keys)| keys.iter().map(move |key| (*group, *key))).collect();
    keys.sort_unstable();
    known.sort_unstable();
    assert_eq!(keys, known);

    let defaults = parse("", "").unwrap();
    // A default that another key decides; here it is the one without composefs.
    let readonly = Some(defaults.sysroot_readonly.unwrap_or(false));
    // What nothing is transient for has no size, so those examples are no part of this.
    assert_eq!(parse(&complete, "").unwrap(), Config { sysroot_readonly: readonly, ..defaults.clone() });
    assert_eq!(parse(example, "").unwrap(), defaults);
}

#[test]
fn defaults_are_libostree_s() {
    let config = parse("", "").unwrap();
    assert_eq!(config.sysroot_readonly, None);
    assert_eq!(config.composefs, Composefs::OFF);
    assert_eq!((config.root_transient, config.etc_transient, config.var_transient), (None, None, None));
    assert_eq!((config.var, config.boot), (MountHere::Auto, MountHere::Auto));
    assert_eq!(config.keypath, "/etc/ostree/initramfs-root-binding.key");
    assert_eq!(
        (config.volatile_root, config.remount_fs_dropin, config.overrides),
        (true, true, Overrides::All)
    );
}

const SIGNED: Composefs = Composefs { enabled: Enabled::On, verity: true, signed: true };

#[test]
fn every_key() {
    let config = parse(
        "[sysroot]\nreadonly=0\n[etc]\ntransient=1\ntransient-size=10%\n[root]\ntransient-ro=true\n\
         [composefs]\nenabled=signed\nkeypath=/k\n[var]\ntransient=true\nmount=true\n[boot]\nmount=false\n\
         [systemd]\nvolatile-root=false\nremount-fs-dropin=0\n[overrides]\nkernel-arguments=safe\n",
        "",
    )
    .unwrap();
    assert_eq!(config.sysroot_readonly, Some(false));
    assert_eq!(config.etc_transient, Some(Transient { size: Some("10%".into()) }));
    assert_eq!((config.root_transient, config.root_transient_readonly), (Some(Transient::default()), true));
    assert_eq!(config.var_transient, Some(Transient { size: None }));
    assert_eq!((config.composefs, &*config.keypath), (SIGNED, "/k"));
    assert_eq!((config.var, config.boot), (MountHere::Yes, MountHere::No));
    assert_eq!(
        (config.volatile_root, config.remount_fs_dropin, config.overrides),
        (false, false, Overrides::Safe)
    );
}

#[test]
fn the_kernel_argument_overrides_the_file() {
    let composefs = |file, arguments| parse(file, arguments).map(|config| config.composefs);
    let signed = "[composefs]\nenabled=signed\n";
    assert_eq!(composefs(signed, "ostree.prepare-root.composefs=0"), Ok(Composefs::OFF));
    // libostree's: signatures are switched off, fs-verity is not.
    let verity = Composefs { signed: false, ..SIGNED };
    assert_eq!(composefs(signed, "ostree.prepare-root.composefs=1"), Ok(verity));
    assert_eq!(composefs("", "ostree.prepare-root.composefs=verity"), Ok(verity));
    assert_eq!(composefs("", "ostree.prepare-root.composefs.enabled=signed"), Ok(SIGNED));
    let error = composefs("", "ostree.prepare-root.composefs=perhaps").expect_err("accepted");
    assert_eq!(error.class(), Class::Cmdline);
    let config = parse(
        "[sysroot]\nreadonly=1\n",
        "ostree.prepare-root.sysroot.readonly=0 ostree.prepare-root.etc.transient=1 ostree.prepare-root.composefs.keypath=/k \
         ostree.prepare-root.overrides.kernel-arguments=none",
    )
    .unwrap();
    assert_eq!((config.sysroot_readonly, config.etc_transient), (Some(false), Some(Transient::default())));
    assert_eq!((&*config.keypath, config.overrides), (KEYS, Overrides::All));
}

#[test]
fn safe_overrides_only_demand_more() {
    let parse = |file: &str, arguments: &str| {
        parse(&format!("{file}[overrides]\nkernel-arguments=safe\n"), arguments).unwrap()
    };
    for (file, argument, expected) in [
        ("signed", "0", "signed"),
        ("signed", "1", "signed"),
        ("signed", "verity", "signed"),
        ("verity", "maybe", "verity"),
        ("verity", "yes", "verity"),
        ("yes", "no", "yes"),
        ("maybe", "0", "maybe"),
        ("no", "maybe", "maybe"),
        ("maybe", "yes", "yes"),
        ("yes", "verity", "verity"),
        ("verity", "signed", "signed"),
    ] {
        let file = format!("[composefs]\nenabled={file}\n");
        let config = parse(&file, &format!("ostree.prepare-root.composefs={argument}"));
        assert_eq!(Some(config.composefs), Composefs::parse(expected), "{file}{argument}");
    }
    let readonly = |file, argument: &str| {
        parse(file, &format!("ostree.prepare-root.sysroot.readonly={argument}")).sysroot_readonly
    };
    assert_eq!(readonly("[sysroot]\nreadonly=true\n", "0"), Some(true));
    assert_eq!(readonly("", "0"), None);
    assert_eq!(readonly("[sysroot]\nreadonly=false\n", "1"), Some(true));
    for key in ["root.transient", "root.transient-ro", "etc.transient", "var.transient"] {
        let config = parse("", &format!("ostree.prepare-root.{key}=1"));
        assert_eq!((config.root_transient, config.etc_transient, config.var_transient), (None, None, None));
        let (group, key) = key.split_once('.').unwrap();
        let config = parse(&format!("[{group}]\n{key}=1\n"), &format!("ostree.prepare-root.{group}.{key}=0"));
        let kept = [config.root_transient, config.etc_transient, config.var_transient];
        assert_eq!(kept.iter().flatten().count(), 1, "{group}.{key}");
    }
}

#[test]
fn without_overrides_only_ostree_is_read() {
    let none = "[overrides]\nkernel-arguments=none\n";
    let config = parse(
        none,
        "androidboot.slot_suffix=_a ostree.prepare-root.composefs=signed ostree.prepare-root.sysroot.readonly=1",
    )
    .unwrap();
    assert_eq!(config.target, Target::Link(Link::Boot(b"ostree/boot.0/d/c/0".to_vec())));
    assert_eq!((config.composefs, config.sysroot_readonly), (Composefs::OFF, None));
}

#[test]
fn sizes_are_those_of_tmpfs() {
    assert!(["1", "512M", "10%", "2g", "007k"].iter().all(|size| tmpfs_size(size).is_some()));
    assert!(
        ["", "0", "00M", "%", "M", "1T", "-1", "1,mode=0777", "1 "]
            .iter()
            .all(|size| tmpfs_size(size).is_none())
    );
}

#[test]
fn unknown_values_are_refused_by_name() {
    for (file, named) in [
        ("[sysroot]\nreadonly=yes\n", "[sysroot] readonly=yes"),
        ("[composefs]\nenabled=True\n", "[composefs] enabled=True"),
        ("[var]\nmount=maybe\n", "[var] mount=maybe"),
        ("[root]\ntransient=true\ntransient-ro=true\n", "transient-ro=true exclude"),
        ("[var]\ntransient=true\nmount=false\n", "[var] transient=true and [var] mount=false exclude"),
        ("[etc]\ntransient-size=lots\n", "[etc] transient-size=lots"),
        ("[composefs]\nkeypath=key\n", "[composefs] keypath=key"),
        ("[overrides]\nkernel-arguments=some\n", "[overrides] kernel-arguments=some"),
        ("nonsense\n", "line 1"),
    ] {
        let error = parse(file, "").expect_err("accepted");
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_configuration_that_is_to_be_checked_must_be_there() {
    assert_eq!(Config::check(b"/nowhere/prepare-root.conf").map_err(|e| e.class()), Err(Class::Config));
}

#[test]
fn a_transient_root_without_composefs_does_not_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let path = folder.path().join("prepare-root.conf");
        std::fs::write(&path, text).unwrap();
        Config::check(path.to_str().unwrap().as_bytes()).map_err(|error| error.to_string())
    };
    assert!(
        check("[root]\ntransient=1\n")
            .expect_err("accepted")
            .contains("[root] transient=true needs composefs")
    );
    assert_eq!(check("[root]\ntransient=1\n[composefs]\nenabled=maybe\n"), Ok(()));
}
