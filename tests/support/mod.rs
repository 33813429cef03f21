//! What the tests that run the program share: no test itself.
//!
//! A test binary has two roles. As started by `cargo test` it is the *parent*, which lists and
//! judges trials. For every run of a program it starts itself again as a *child* ([`job`]), which
//! moves into a mount namespace of its own, builds a small initramfs around the program
//! ([`sandbox`]), runs it, and reports what it saw: namespaces belong to processes, and a failed
//! run must not leave its mounts in anybody's way.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod cache;
pub mod debian;
pub mod failure;
pub mod job;
pub mod kernel;
pub mod mounts;
pub mod product;
pub mod promises;
pub mod race;
pub mod random;
pub mod reference;
pub mod sandbox;
pub mod signed;
pub mod signer;
pub mod sysroots;
pub mod trace;
pub mod trials;
pub mod ways;
pub mod workloads;
