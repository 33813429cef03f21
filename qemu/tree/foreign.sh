#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs a command that starts programs for another processor: the kernel gives them
# to QEMU. Run in a mount namespace of its own. Where the host has not mounted
# binfmt_misc, what is registered here is forgotten with the last mount of it.
#
#   foreign.sh PROCESSOR COMMAND [ARGUMENT...]
set -eu
processor=${1:?}
shift
formats=/proc/sys/fs/binfmt_misc
format=$formats/qemu-$processor
registration=/usr/lib/binfmt.d/qemu-$processor.conf

refuse() {
    echo "run programs for $processor: $1" >&2
    exit 1
}

[ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats" ||
    refuse "the kernel has no binfmt_misc: it needs CONFIG_BINFMT_MISC"
if [ ! -e "$format" ]; then
    [ -e "$registration" ] || refuse "there is no $registration: install the package qemu-user-static"
    # Another run may be faster.
    grep -m 1 '^:' "$registration" > "$formats/register" || [ -e "$format" ] ||
        refuse "the kernel refused $registration"
fi
# With F the kernel opened the interpreter when it was registered; a tree has none.
grep -q '^flags: .*F' "$format" || refuse "$format lacks the flag F: remove it (echo -1 > $format)"
exec "$@"
