//! The program runs in an initramfs where there may be nothing else: no loader, no library, little room. And its memory is
//! either written or executed, never both.

#[path = "support/budgets.rs"]
mod budgets;

use goblin::elf::Elf;
use goblin::elf::header::EM_AARCH64;
use goblin::elf::program_header::{PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD};
use std::path::{Path, PathBuf};

/// The most bytes it may have.
fn limit(architecture: &str) -> usize {
    budgets::budget("bytes", architecture).expect("a budget in tests/budgets.csv")
}

/// What is wrong with a program, in words; nothing is good.
fn faults(program: &[u8]) -> Vec<String> {
    let elf = match Elf::parse(program) {
        Ok(elf) => elf,
        Err(error) => return vec![format!("it is no ELF file: {error}")],
    };
    let mut faults = Vec::new();
    let limit = limit(if elf.header.e_machine == EM_AARCH64 { "aarch64" } else { "x86_64" });
    if program.len() > limit {
        let more = program.len() - limit;
        faults.push(format!("it has {} bytes, {more} more than tests/budgets.csv grants", program.len()));
    }
    if elf.program_headers.iter().any(|header| header.p_type == PT_INTERP) {
        faults.push(format!("it needs the interpreter {}", elf.interpreter.unwrap_or("?")));
    }
    if !elf.libraries.is_empty() {
        faults.push(format!("it needs the libraries {}", elf.libraries.join(", ")));
    }
    let both = PF_W | PF_X;
    for header in &elf.program_headers {
        if header.p_type == PT_LOAD && header.p_flags & both == both {
            faults.push(format!("its segment at {:#x} can be written and executed", header.p_vaddr));
        }
    }
    // Without this header the kernel makes the stack executable.
    match elf.program_headers.iter().find(|header| header.p_type == PT_GNU_STACK) {
        None => faults.push("it does not say that its stack is not executable".into()),
        Some(stack) if stack.p_flags & PF_X != 0 => faults.push("its stack is executable".into()),
        Some(_) => {}
    }
    faults
}

/// `$PREPARE_ROOT_BIN`, or where `make build` puts it.
fn product() -> PathBuf {
    std::env::var_os("PREPARE_ROOT_BIN").map_or_else(|| built_for(std::env::consts::ARCH), PathBuf::from)
}

fn built_for(architecture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("target/{architecture}-unknown-linux-musl/release/ostree-prepare-root"))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("read {}: {error}; `make build` makes it", path.display()))
}

#[test]
fn the_program_needs_nothing_and_is_small() {
    let path = product();
    assert_eq!(faults(&read(&path)), Vec::<String>::new(), "{}", path.display());
}

#[test]
fn so_does_the_one_for_aarch64() {
    let path = built_for("aarch64");
    let required = std::env::var_os("PREPARE_ROOT_AARCH64").is_some_and(|value| value == "1");
    if !path.exists() && !required {
        eprintln!("{} is not there, and PREPARE_ROOT_AARCH64=1 not set: not looked at", path.display());
        return;
    }
    let program = read(&path);
    assert_eq!(faults(&program), Vec::<String>::new(), "{}", path.display());
    let machine = Elf::parse(&program).map(|elf| elf.header.e_machine);
    assert_eq!(machine.ok(), Some(EM_AARCH64));
}

/// Sets the flags of the first program header of that type.
fn with_flags(mut program: Vec<u8>, kind: u32, flags: u32) -> Vec<u8> {
    let elf = Elf::parse(&program).expect("an ELF file");
    let header = elf.program_headers.iter().position(|header| header.p_type == kind).expect("such a header");
    // Elf64_Phdr: p_type, p_flags, each four bytes.
    let at = elf.header.e_phoff as usize + header * usize::from(elf.header.e_phentsize) + 4;
    program[at..at + 4].copy_from_slice(&flags.to_le_bytes());
    program
}

fn assert_fault(program: &[u8], words: &str) {
    let found = faults(program);
    assert!(found.iter().any(|fault| fault.contains(words)), "{words:?} is not among {found:?}");
}

#[test]
fn a_dynamic_program_is_found_out() {
    let dynamic = read(Path::new("/bin/true"));
    assert_fault(&dynamic, "it needs the interpreter");
    assert_fault(&dynamic, "it needs the libraries");
}

#[test]
fn a_segment_to_write_and_execute_is_found_out() {
    let patched = with_flags(read(&product()), PT_LOAD, PF_W | PF_X);
    assert_eq!(faults(&patched).len(), 1, "{:?}", faults(&patched));
    assert_fault(&patched, "can be written and executed");
}

#[test]
fn an_executable_stack_is_found_out() {
    assert_fault(&with_flags(read(&product()), PT_GNU_STACK, PF_W | PF_X), "its stack is executable");
}

#[test]
fn a_large_program_is_found_out() {
    let mut large = read(&product());
    large.resize(limit(std::env::consts::ARCH) + 1, 0);
    assert_fault(&large, "1 more than tests/budgets.csv grants");
}

#[test]
fn a_script_is_found_out() {
    assert_fault(b"#!/bin/sh\n", "no ELF file");
}
