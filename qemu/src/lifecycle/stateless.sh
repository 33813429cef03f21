# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The story of stateless.rs.

part_memory() {
    check 'the disk is mounted read-only' sh -c 'findmnt -rn -o FS-OPTIONS /sysroot | grep -qE "(^|,)ro(,|$)"'
    for directory in / /etc /var; do
        : > "$directory/story"
    done
    rm /etc/debian_version
    reboots
}

part_pulled() {
    for directory in / /etc /var; do
        check "what was written in $directory is gone" not test -e "$directory/story"
    done
    check 'what was removed is back' test -e /etc/debian_version

    check 'a file of the disk can be read' can_read /usr/lib/prepare-root-check/witness
    # As a hand would. ext4 shuts down then, and reads nothing more, not even what is in memory. Programs that run go on.
    echo 1 > /sys/block/vda/device/../remove
    check 'the disk is gone' [ ! -e /sys/block/vda ]
    for directory in / /etc /var /run /tmp; do
        check "$directory can be written" written "$directory/story-after"
    done
    check 'no file of the disk can be read' not can_read /usr/lib/prepare-root-check/witness
    # Shutting down would need programs that are on the disk.
    done_with_all
    printf 'end\n' >&3
    echo o > /proc/sysrq-trigger
    # Which takes a moment: what else there is must not say that it is done once more.
    exit
}

# Without another program.
can_read() {
    read -r line < "$1"
}

written() {
    echo still here > "$1" && read -r line < "$1" && [ "$line" = 'still here' ]
}
