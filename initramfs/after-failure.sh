#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What a person at the prompt of an emergency shell has to know: printed above it, also when the program
# itself could say nothing. The initramfs may have no command but a shell's.
#
#   after-failure STATUS PLACE [reboot|halt]
#
# With the third argument there will be no prompt, because the configuration must not be got around.

status=$1 place=$2 instead=${3-}
program=/usr/lib/ostree/ostree-prepare-root

mounted='nothing is mounted'
while read -r device directory type options _; do
    if [ "$directory" = "$place" ]; then
        mounted="$device ($type, ${options%%,*})"
    fi
done < /proc/mounts

printf '\nNo OSTree deployment was booted: %s ended with exit status %s.\n' "${program##*/}" "$status"
if [ "$instead" ]; then
    printf 'At %s: %s.\n' "$place" "$mounted"
    printf 'There is no shell, because kernel-arguments= of [overrides] is safe or none.\n'
    [ "$instead" != reboot ] || printf 'The machine will reboot.\n'
    exit
fi
printf 'At %s: %s. Type\n' "$place" "$mounted"
printf '  %s --explain %s\n' "$program" "$place"
printf '          to see what was asked for, what there is, and what to do\n'
printf '  exit    to try again\n\n'
