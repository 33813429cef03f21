//! What is done with the fuzzer's bytes: a module for each target.
//!
//! `fuzz_targets` hands them to libFuzzer; `tests/replay`, which needs neither cargo-fuzz nor a C++
//! compiler, runs them on what is in `corpus`.

pub mod boot_link;
pub mod cmdline;
pub mod commit;
pub mod config;
pub mod gvariant;
pub mod keyfile;
pub mod keys;
pub mod partition_table;
pub mod root_argument;
pub mod superblock;
pub mod sysroot;

/// Takes one input, and panics if it shows that something is wrong.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 11] = [
    ("boot_link", boot_link::run),
    ("cmdline", cmdline::run),
    ("commit", commit::run),
    ("config", config::run),
    ("gvariant", gvariant::run),
    ("keyfile", keyfile::run),
    ("keys", keys::run),
    ("partition_table", partition_table::run),
    ("root_argument", root_argument::run),
    ("superblock", superblock::run),
    ("sysroot", sysroot::run),
];
