# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The story of power.rs. What the administrator did to /etc and /var before the upgrade is on the disk, so it is there
# whenever the power fails, in A and in B.

state=/var/lib/story

# marks FILE TEXT: everything is on the disk; then a file is as well, and the host finds it in what was written.
marks() {
    sync
    echo "$2" > "$state/$1"
    sync "$state/$1"
}

part_recorded() {
    check 'there is one deployment' [ -z "$(deployment 1)" ]
    mkdir -p "$state"
    echo precious > "$state/data"
    change_etc
    marks begun 'marker of power.sh: the upgrade begins'
    online
    ostree admin upgrade --pull-only
    stage_what_was_pulled
    marks staged 'marker of power.sh: B is staged'
    reboots
}

change_etc() {
    echo mine > /etc/added-here.conf
    echo mine > /etc/changed-here.conf
    rm -f /etc/removed-here.conf
}

is_whole() {
    release=$(cat /usr/lib/prepare-root-check/witness)
    check 'one deployment is booted' expr "$(booted)" : '[01]$'
    # The entry may be of one, its kernel of another.
    check "the kernel command line is the release's" has_argument "release=$release"
    check "the initramfs is the release's" says /run/release-of-initramfs "$release"
    check "/etc: the release's file" says /etc/release.conf "$release"
    check '/etc: a file that was added' says /etc/added-here.conf mine
    check '/etc: a file that was changed' says /etc/changed-here.conf mine
    check '/etc: a file that was removed' not test -e /etc/removed-here.conf
    check '/var is there' says "$state/data" precious
    check 'the ESP has what OSTree wrote' soon esp_follows
}

part_replayed() {
    is_whole
}

# After a power loss that A survived.
part_again() {
    is_whole
    check 'the repository is whole' ostree fsck --quiet
    online
    ostree admin upgrade --pull-only
    stage_what_was_pulled
    reboots
}

part_upgraded() {
    is_whole
    check 'B is booted' [ "$(booted)" = 0 ]
}
