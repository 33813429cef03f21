//! Makes one OSTree deployment the root of the system that is about to boot.
//!
//! The program is five verbs in one direction, and each has its modules:
//!
//! | verb     | modules                                                | from → to |
//! |----------|--------------------------------------------------------|-----------|
//! | read     | [`name`], [`boot_link`], [`selector`], [`kernel`], [`cmdline`], [`keyfile`], [`spelling`], [`config`], [`options`] | arguments, kernel command line, `prepare-root.conf` → [`config::Config`] |
//! | resolve  | [`lookup`], [`gvariant`], [`booted`], [`sysroot`], [`deployment`], [`commit`], [`survey`], [`choice`], [`signature`], [`image`] | the disk → a [`choice::Choice`] of a [`deployment::Deployment`] with its [`deployment::Facts`], and a verified [`image::Image`] |
//! | plan     | [`generator`], [`contents`], [`plan`], [`candidate`]          | `(Config, Facts)` → [`plan::Plan`], no system call; settled with what the new root contains |
//! | apply    | [`run`], [`seed`], [`mount`]                                  | the plan → mounts and files under `/run`, all or nothing |
//! | announce | [`journal`], [`kmsg`]                                         | the journal's structured message, the kernel log |
//!
//! Around them, when it is process 1: [`role`], [`root_device`] and [`pid1`].
//!
//! [`explain`] tells why something was refused, and what to do about it; [`mountinfo`] and [`json`] serve it and others.
//!
//! [`error`] is used by all of them, [`clock`] and [`syscall`] have what rustix lacks. `ARCHITECTURE.md` tells why it is
//! built this way.

// Unit tests have the standard library.
#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

pub mod boot_link;
pub mod booted;
pub mod candidate;
pub mod choice;
pub mod clock;
pub mod cmdline;
pub mod commit;
pub mod config;
pub mod contents;
pub mod deployment;
pub mod error;
pub mod explain;
pub mod generator;
pub mod gvariant;
pub mod image;
pub mod journal;
pub mod json;
pub mod kernel;
pub mod keyfile;
pub mod kmsg;
pub mod lookup;
pub mod mount;
pub mod mountinfo;
pub mod name;
pub mod options;
pub mod pid1;
pub mod plan;
pub mod role;
pub mod root_device;
pub mod run;
pub mod seed;
pub mod selector;
pub mod signature;
pub mod spelling;
pub mod survey;
pub mod syscall;
pub mod sysroot;
