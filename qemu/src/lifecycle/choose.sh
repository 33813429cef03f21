# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The story of choose.rs: two releases with the same kernel, the newer first.

state=/var/lib/story

part_entry() {
    check 'the newer one is first' [ "$(booted)" = 0 ]
    mkdir -p "$state"
    deployment 0 > "$state/newer"
    deployment 1 > "$state/older"
    echo newer > /etc/whose
    next_boot_has "ostree.prepare-root.deployment=$(cut -c 1-12 "$state/older")"
    reboots
}

part_checksum() {
    check 'the older one is booted' [ "$(booted)" = 1 ]
    check '/etc is its own' not test -e /etc/whose
    check '/var is shared' test -e "$state/older"
    echo older > /etc/whose
    next_boot_has "ostree.prepare-root.deployment=debian/$(cat "$state/older").0"
    reboots
}

part_whole_name() {
    check 'the older one is booted' [ "$(booted)" = 1 ]
    check '/etc is its own' says /etc/whose older
    mount -o remount,rw /sysroot
    ln -s "deploy/debian/deploy/$(cat "$state/older").0" /ostree/root.a
    ln -s "deploy/debian/deploy/$(cat "$state/newer").0" /ostree/root.b
    reboots
}

part_slot_a() {
    check 'the older one is booted' [ "$(booted)" = 1 ]
    check '/etc is its own' says /etc/whose older
    check '/var is shared' test -e "$state/older"
    reboots
}

part_slot_b() {
    check 'the newer one is booted' [ "$(booted)" = 0 ]
    check '/etc is its own' says /etc/whose newer
    mount -o remount,rw /boot
    mv /boot/loader/entries/ostree-1.conf "$state/"
    next_boot_has "ostree.prepare-root.deployment=$(cut -c 1-12 "$state/older")"
    reboots
}

part_no_entry() {
    check '/etc is that of the older one' says /etc/whose older
    check 'the program says what it chose' grep -qF "\"deployment\":\"$(cat "$state/older").0\"" /run/ostree/prepare-root.json
    check 'OSTree does not know it' expr "$(ostree admin status 2>&1)" : '.*bootloader entry not found'
    check '/var is shared' test -e "$state/older"
    mount -o remount,rw /boot
    mv "$state/ostree-1.conf" /boot/loader/entries/
    reboots
}

part_soft_reboot() {
    if ! is_soft_rebooted; then
        check 'the newer one is booted' [ "$(booted)" = 0 ]
        soft_reboots
    else
        check 'the newer one is booted, again' [ "$(booted)" = 0 ]
        check '/etc is its own' says /etc/whose newer
        check '/var is shared' test -e "$state/older"
        after_soft_reboot
        reboots
    fi
}

part_next_root() {
    if ! is_soft_rebooted; then
        check 'ostree prepares the older one' ostree admin prepare-soft-reboot 1
        soft_reboots
    else
        check 'the older one is booted' [ "$(booted)" = 1 ]
        check '/etc is its own' says /etc/whose older
        check '/var is shared' test -e "$state/older"
        after_soft_reboot
        # What has no entry is not OSTree's any more.
        mount -o remount,rw /boot
        rm /boot/loader/entries/ostree-2.conf
        ostree admin cleanup
        check 'without an entry, the newer one is removed' not test -e "/ostree/deploy/debian/deploy/$(cat "$state/newer").0"
        check 'with one, the older one is not' test -e "/ostree/deploy/debian/deploy/$(cat "$state/older").0"
    fi
}
