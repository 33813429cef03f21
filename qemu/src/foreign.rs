//! Commands that start programs for another processor than this host's, as package scripts in a tree do.

use crate::machine::Arch;
use crate::script;
use std::process::Command;

/// The script that has the kernel give such programs to QEMU.
const FOREIGN: &str = include_str!("../tree/foreign.sh");

/// Whether this host's processor cannot run its programs.
pub fn is_foreign(arch: Arch) -> bool {
    arch.processor() != std::env::consts::ARCH
}

/// The same command, where programs for `arch` can run.
pub fn runs(arch: Arch, command: Command) -> Command {
    if !is_foreign(arch) {
        return command;
    }
    let mut able = script::in_mount_namespace(FOREIGN, [arch.processor()]);
    able.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => able.env(name, value),
            None => able.env_remove(name),
        };
    }
    able
}
