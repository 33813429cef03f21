//! What the package says about the program: its version, and whose code is in it under which licence.
//!
//! `tests/deb` builds the package and looks at it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPYRIGHT: &str = include_str!("../debian/copyright");

/// What a command prints.
fn said(command: &mut Command) -> String {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("run a command");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// One crate that is linked into the program.
struct Crate {
    name: String,
    version: String,
    licence: String,
    folder: PathBuf,
}

fn linked_crates() -> Vec<Crate> {
    let mut crates = Vec::new();
    for target in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"] {
        let tree = said(
            Command::new(env!("CARGO"))
                .args(["tree", "--locked", "--offline", "--quiet", "--package", "prepare-root"])
                .args(["--edges", "normal", "--no-dedupe", "--prefix", "none", "--target", target])
                .args(["--format", "{p}|{l}"]),
        );
        for line in tree.lines().filter(|line| !line.starts_with("prepare-root ")) {
            let (package, licence) = line.split_once('|').expect("a package and its licence");
            let (name, version) = package.split_once(" v").expect("a name and a version");
            let version = version.split(' ').next().unwrap_or(version);
            crates.push((name.to_owned(), version.to_owned(), licence.to_owned()));
        }
    }
    crates.sort();
    crates.dedup();
    assert!(!crates.is_empty());

    let metadata = said(
        Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--offline", "--quiet", "--format-version", "1"])
            .args(["--filter-platform", "x86_64-unknown-linux-musl"]),
    );
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    crates
        .into_iter()
        .map(|(name, version, licence)| {
            let package = packages.iter().find(|package| {
                package["name"].as_str() == Some(&name) && package["version"].as_str() == Some(&version)
            });
            let manifest = package.and_then(|package| package["manifest_path"].as_str()).expect(&name);
            let folder = Path::new(manifest).parent().expect("a folder").to_owned();
            Crate { name, version, licence, folder }
        })
        .collect()
}

/// The lines of the copyright file below `heading` that stand for a crate: `name: licence`.
fn listed(heading: &str) -> BTreeSet<String> {
    let after = COPYRIGHT.split_once(heading).expect(heading).1;
    let rows = after.lines().skip(1).skip_while(|line| *line == " .").take_while(|line| *line != " .");
    let rows: BTreeSet<String> = rows
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|row| !row.starts_with(' '))
        .map(str::to_owned)
        .collect();
    assert!(!rows.is_empty(), "nothing is listed under {heading:?}");
    rows
}

#[test]
fn the_copyright_file_lists_the_crates_in_the_program() {
    let linked: BTreeSet<String> = linked_crates()
        .iter()
        .map(|crate_| format!("{} {}: {}", crate_.name, crate_.version, crate_.licence))
        .collect();
    assert_eq!(listed("in the versions of Cargo.lock:"), linked, "debian/copyright (left) and Cargo.lock");
}

#[test]
fn the_copyright_file_has_their_notices() {
    let mut notices = 0;
    for crate_ in linked_crates() {
        for entry in std::fs::read_dir(&crate_.folder).expect("list a crate") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            if !name.starts_with("LICEN") && !name.starts_with("COPY") && !name.starts_with("NOTICE") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("read a licence");
            for notice in text.lines().map(str::trim).filter(|line| line.starts_with("Copyright (c)")) {
                assert!(COPYRIGHT.contains(notice), "{}: {notice}", path.display());
                notices += 1;
            }
        }
    }
    assert_ne!(notices, 0);
}

/// The crates of the standard library that are in a program, by the source files that its panics name.
fn standard_crates(program: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(program);
    let names = text.split("/library/").skip(1).filter_map(|rest| Some(rest.split_once("/src/")?.0));
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())).map(str::to_owned).collect()
}

#[test]
fn the_copyright_file_lists_the_parts_of_the_standard_library() {
    let path = std::env::var_os("PREPARE_ROOT_BIN").map_or_else(
        || format!("target/{}-unknown-linux-musl/release/ostree-prepare-root", std::env::consts::ARCH).into(),
        PathBuf::from,
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let program = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}; `make build` makes it", path.display()));
    let own = COPYRIGHT.split_once("Of the Rust standard library (").expect("its parts").1;
    let own = own.split_once(')').expect("its parts").0;
    let listed: BTreeSet<String> = own.split(", ").map(str::to_owned).collect();
    assert_eq!(listed, standard_crates(&program), "debian/copyright (left) and {}", path.display());
    assert!(standard_crates(b"/rustc/1/library/std/src/panicking.rs").contains("std"));
}

#[test]
fn the_package_and_its_command_have_the_version_of_the_program() {
    let changelog = include_str!("../debian/changelog");
    let version = format!("prepare-root ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&version), "{}", changelog.lines().next().unwrap_or_default());
    let version = format!("readonly version={}", env!("CARGO_PKG_VERSION"));
    assert!(
        include_str!("../mkinitrd/prepare-root-mkinitrd").lines().any(|line| line == version),
        "{version}"
    );
}
