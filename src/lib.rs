//! Makes one OSTree deployment the root of the system that is about to boot.
//!
//! The program is five verbs in one direction, and each has its modules:
//!
//! | verb     | modules                                                | from → to |
//! |----------|--------------------------------------------------------|-----------|
//! | read     | [`options`], [`cmdline`], [`keyfile`], [`config`]      | arguments, kernel command line, `prepare-root.conf` → [`config::Config`] |
//! | resolve  | [`lookup`], [`sysroot`], [`deployment`], [`generator`] | the disk → [`deployment::Deployment`] with its [`deployment::Facts`] |
//! | plan     | [`gvariant`], [`booted`], [`plan`]                     | `(Config, Facts)` → [`plan::Plan`], no system call |
//! | apply    | [`run`], [`mount`]                                     | the plan → mounts and files under `/run`, all or nothing |
//! | announce | [`journal`], [`kmsg`]                                  | the journal's structured message, the kernel log |
//!
//! [`error`] is used by all of them. `ARCHITECTURE.md` tells why it is built this way.

pub mod booted;
pub mod cmdline;
pub mod config;
pub mod deployment;
pub mod error;
pub mod generator;
pub mod gvariant;
pub mod journal;
pub mod keyfile;
pub mod kmsg;
pub mod lookup;
pub mod mount;
pub mod options;
pub mod plan;
pub mod run;
pub mod sysroot;
