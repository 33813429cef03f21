# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The stories of assess.rs. B panics or is not healthy; A and C are.

state=/var/lib/story

# What the boot loader knows: systemd-boot by the names of its entries, GRUB by its environment.
loader_knows() {
    if has_systemd_boot; then
        known=$(cd /efi/loader/entries && echo ostree-*)
        [ "$known" = "$1" ] || { echo "$known" && return 1; }
    else
        known=$(grep '^prepare_root_tries=' /efi/EFI/debian/grubenv)
        [ "$known" = "prepare_root_tries=$2" ] || { echo "$known" && return 1; }
    fi
}

# Whether what counts has seen a deployment.
is_known() {
    if has_systemd_boot; then
        grep "^# deployment $1" /efi/loader/entries/ostree-*.conf
    else
        grep "^prepare_root_assess=$1" /efi/EFI/debian/grubenv
    fi
}

# What is staged replaces whatever is first and not booted.
upgrade() {
    online
    check 'the release is staged' ostree admin upgrade --stage
    reboots
}

part_bad() {
    mkdir -p "$state"
    deployment 0 > "$state/A"
    check 'nothing is assessed by default' not systemctl is-enabled prepare-root-assess.service
    check 'nothing is counted by default' soon loader_knows ostree-1.conf ''
    check 'from now on' systemctl enable prepare-root-assess.service
    check 'A is known, so that what comes is new' soon is_known "debian/$(cat "$state/A")"
    upgrade
}

part_returns() {
    deployment 0 > "$state/B"
    check 'A is booted, B is first' [ "$(booted)" = 1 ]
    check 'A is what was installed' says "$state/A" "$(deployment 1)"
    check 'the boot loader has no tries left for B' soon loader_knows 'ostree-1.conf ostree-2+0-3.conf' 0
    check 'the explanation says why' explained 0
    # As the timer of an updater would: B is still what is newest, so it is deployed once more.
    online
    check 'B is staged once more' ostree admin upgrade --stage
    # Whoever boots again by itself is switched off at the end.
}

# explained SERIAL: why B's deployment of this number is not booted.
explained() {
    expr "$(/usr/lib/prepare-root/ostree-prepare-root --explain /sysroot)" \
        : ".*debian $(cut -c 1-12 "$state/B")\.$1: 3 of 3 boots failed: health\.service"
}

part_stays() {
    check 'A is booted, B is first' [ "$(booted)" = 1 ]
    check 'B is what it was' says "$state/B" "$(deployment 0)"
    check 'it has no tries' soon loader_knows 'ostree-1.conf ostree-2+0-3.conf' 0
    check 'the explanation says why' explained 1
    upgrade
}

part_good() {
    check 'C is booted and first' [ "$(booted)" = 0 ]
    check 'B is gone' says "$state/A" "$(deployment 1)"
    check 'C has nothing to its name' soon loader_knows 'ostree-1.conf ostree-2.conf' ''
    check 'the notes on B are gone' [ "$(find /var/lib/prepare-root/assess -type f | wc -l)" = 0 ]
    # C once more: kernel and arguments are the same, so OSTree changes no entry, only where it leads.
    ostree admin deploy "${ref:?}"
    check 'another deployment of C is first' [ "$(booted)" = 1 ]
    check 'its boots are counted' soon loader_knows 'ostree-1.conf ostree-2+3.conf' 3
}
