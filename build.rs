//! Options of the linker that make the shipped program smaller; tests and other programs are linked
//! as usual. docs/decisions.md has what each of them saves.

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwinding.ld");
    println!("cargo::rustc-env=TARGET_ARCHITECTURE={}", variable("CARGO_CFG_TARGET_ARCH"));
    // The linker is rust-lld there, see .cargo/config.toml; and the release profile does not unwind.
    if variable("CARGO_CFG_TARGET_ENV") != "musl" || variable("PROFILE") != "release" {
        return;
    }
    let script = format!("--script={}/no-unwinding.ld", variable("CARGO_MANIFEST_DIR"));
    for option in ["--icf=all", "--pack-dyn-relocs=relr", "--no-eh-frame-hdr", &script] {
        println!("cargo::rustc-link-arg-bins={option}");
    }
    // What walks up the stack: code of the standard library that was compiled to unwind names it.
    for function in ["_Unwind_Resume", "rust_eh_personality"] {
        println!("cargo::rustc-link-arg-bins=--defsym={function}=abort");
    }
}
