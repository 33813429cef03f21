# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The story of upgrade.rs. Release A has the package ed, B and C have bc. What the administrator does to /etc is seen
# again, or not, in the parts after.

state=/var/lib/story

one_commit() {
    [ "$(find /ostree/repo/objects -name '*.commit' | wc -l)" = 1 ]
}

# loader_has COUNT: OSTree has written so many entries. The ESP has them, and their kernels, for systemd-boot; GRUB reads
# OSTree's own, and the ESP has none.
loader_has() {
    [ "$(find /boot/loader/entries/ -name 'ostree-*.conf' | wc -l)" = "$1" ] || return 1
    if has_systemd_boot; then
        esp_follows
    else
        mountpoint /efi && [ ! -e /efi/ostree ]
    fi
}

part_install() {
    check 'there is one commit on the disk' one_commit
    check 'there is one deployment' [ -z "$(deployment 1)" ]
    check 'ed is installed' ed --version
    check 'bc is not' not command -v bc

    echo mine > /etc/added-here.conf
    echo mine > /etc/changed-here.conf
    rm /etc/removed-here.conf
    mkdir -p "$state"
    echo precious > "$state/data"
    deployment 0 > "$state/A"

    online
    ostree admin upgrade --pull-only
    check "B's parent is A" says "$state/A" "$(ostree rev-parse "${ref:?}^")"
    stage_what_was_pulled
    # The merge is made at the shutdown: this is in it.
    echo late > /etc/added-late.conf
    reboots
}

# kernels COUNT: there are so many, and as many initramfs.
kernels() {
    for kind in vmlinuz initramfs; do
        [ "$(find /boot/ostree -name "$kind*" | wc -l)" = "$1" ] || return 1
    done
}

part_upgrade() {
    deployment 0 > "$state/B"
    check 'B is first, A second' says "$state/A" "$(deployment 1)"
    check 'B is booted' [ "$(booted)" = 0 ]
    check 'bc is installed' bc --version
    check 'ed is gone' not command -v ed
    check "A's kernel argument is gone" not has_argument release=A
    check "/etc: B's file" says /etc/release.conf B
    check '/etc: a file that was added' says /etc/added-here.conf mine
    check '/etc: a file that was added after staging' says /etc/added-late.conf late
    check '/etc: a file that was changed, here and in B' says /etc/changed-here.conf mine
    check '/etc: a file that was removed' not test -e /etc/removed-here.conf
    check '/var is shared' says "$state/data" precious
    check 'the boot loader has both' loader_has 2
    check 'each has a kernel and an initramfs of its own' kernels 2

    echo B > /etc/added-in-B.conf
    echo 'changed in B' > "$state/data"
    extend
    unlock
    if has_systemd_boot; then
        reboots --boot-loader-menu=0
    else
        ostree admin set-default 1
        reboots
    fi
}

# What there is at /usr, by device and inode, whether or not it is a mount point.
look_of_usr() {
    findmnt -rn -o TARGET,SOURCE,FSTYPE,OPTIONS --target /usr
    stat -c '%n %d %i' /usr /usr/bin /usr/lib
    ls /usr /usr/bin /usr/lib
}

same_text() {
    { [ -n "$1" ] && [ "$1" = "$2" ]; } || { echo "$2" | head -n 1 && return 1; }
}

# A system extension over /usr, as a directory and as an image.
extend() {
    before=$(look_of_usr)
    for name in directory image; do
        tree=/var/lib/extensions/$name
        mkdir -p "$tree/usr/bin" "$tree/usr/lib/extension-release.d"
        printf '#!/bin/sh\necho %s\n' "$name" > "$tree/usr/bin/extension-$name"
        chmod 0755 "$tree/usr/bin/extension-$name"
        grep -E '^(ID|VERSION_ID)=' /usr/lib/os-release > "$tree/usr/lib/extension-release.d/extension-release.$name"
    done
    truncate -s 8M /var/lib/extensions/image.raw
    mkfs.ext4 -q -d /var/lib/extensions/image /var/lib/extensions/image.raw
    rm -r /var/lib/extensions/image

    check 'extensions are merged' systemd-sysext merge
    for name in directory image; do
        check "extension as $name: its program runs" [ "$("extension-$name")" = "$name" ]
    done
    check 'extended, /usr looks different' not same_text "$before" "$(look_of_usr)"
    check 'extended, /usr is read-only' not touch /usr/bin/other
    check 'extensions are taken away' systemd-sysext unmerge
    check '/usr is as before' same_text "$before" "$(look_of_usr)"
    rm -r /var/lib/extensions
}

unlock() {
    check '/usr is unlocked' ostree admin unlock
    check 'unlocked, /usr can be written' touch /usr/lib/until-reboot
}

# Chosen in the menu for this boot only: OSTree does not know of it.
part_menu() {
    check 'A is booted, B is first' [ "$(booted)" = 1 ]
    back
    ostree admin set-default 1
    check 'A is first now' says "$state/A" "$(deployment 0)"
    check 'the boot loader knows' soon loader_has 2
    reboots
}

part_set_default() {
    check 'A is booted and first' [ "$(booted)" = 0 ]
    back
    reboots
}

back() {
    check "/etc is A's own: its file" says /etc/release.conf A
    check "/etc is A's own: what was added" says /etc/added-here.conf mine
    check "/etc is A's own: nothing of B" not test -e /etc/added-in-B.conf
    check '/var is shared' says "$state/data" 'changed in B'
    check 'ed is back' ed --version
    check 'bc is gone' not command -v bc
}

part_stays() {
    check 'A is booted and first' [ "$(booted)" = 0 ]
    check 'B is still there' says "$state/B" "$(deployment 1)"
    ostree admin set-default 1
    check 'the boot loader knows' soon loader_has 2
    # It replaces the entries where they are.
    ostree admin kargs edit-in-place --append-if-missing=edited=in-place
    check 'the boot loader knows of a kernel argument too' soon loader_has 2
    reboots
}

part_forward() {
    check 'B is booted and first' [ "$(booted)" = 0 ]
    check 'the kernel argument is there' has_argument edited=in-place
    check "/etc is B's own" says /etc/added-in-B.conf B
    check 'what was written while unlocked is gone' not test -e /usr/lib/until-reboot
    check 'a hotfix is begun' ostree admin unlock --hotfix
    check '/usr can be written' touch /usr/lib/hotfix
    reboots
}

part_hotfix() {
    check 'the hotfix is still there' test -e /usr/lib/hotfix
    check 'ostree says so' sh -c 'ostree admin status | grep -q "Unlocked: hotfix"'
    mkdir /run/releases
    mount -o ro /dev/disk/by-id/virtio-releases /run/releases
    ostree config set 'remote "vendor".url' file:///run/releases
    check 'C is deployed' ostree admin upgrade
    check 'the boot loader knows' soon loader_has 2
    reboots
}

part_next() {
    check 'C is booted and first' [ "$(booted)" = 0 ]
    check 'the hotfix is gone' not test -e /usr/lib/hotfix
    check "/etc: B's and ours" says /etc/added-in-B.conf B
    check '/var is shared' says "$state/data" 'changed in B'
    # B is to be booted next, and then it is not, by undeploying it.
    check 'B is second' says "$state/B" "$(deployment 1)"
    ostree admin set-default 1
    check 'B is first' says "$state/B" "$(deployment 0)"
    check 'the boot loader knows' soon loader_has 2
    ostree admin undeploy 0
    check 'C is first' [ "$(booted)" = 0 ]
    check 'it is alone' [ -z "$(deployment 1)" ]
    check 'there is one kernel' soon kernels 1
    check 'the boot loader knows' soon loader_has 1
    reboots
}

part_undone() {
    check 'C is booted and first' [ "$(booted)" = 0 ]
    check 'it is alone' [ -z "$(deployment 1)" ]
    check '/var is shared' says "$state/data" 'changed in B'
    if is_soft_rebooted; then
        after_soft_reboot
    else
        soft_reboots
    fi
}
