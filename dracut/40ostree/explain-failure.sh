#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# An emergency shell is about to start. Says above its prompt what became of ostree-prepare-root, if it was
# that which failed. dracut sources this.

# Without systemd it is the hook that knows: boot-ostree-deployment.sh.
if [ "${DRACUT_SYSTEMD-}" ] && systemctl --quiet is-failed ostree-prepare-root.service; then
    ostree_status=$(systemctl show --property=ExecMainStatus --value ostree-prepare-root.service)
fi
# Does a sed command to the lines of root, in both files that may have its password.
ostree_edit_root() {
    for ostree_file in /etc/shadow /etc/passwd; do
        [ ! -e "$ostree_file" ] || sed -i "$1" "$ostree_file"
    done
}
# With systemd the shell is sulogin's, which lets nobody in where root is locked.
if [ "${ostree_status-}" ] && [ "${DRACUT_SYSTEMD-}" ] && [ -e /usr/lib/ostree/no-shell ]; then
    # An image without a password for root would let everybody in.
    ostree_edit_root 's/^root::/root:*:/'
    /usr/lib/ostree/after-failure "$ostree_status" "$NEWROOT" halt > /dev/console 2>&1
elif [ "${ostree_status-}" ]; then
    /usr/lib/ostree/after-failure "$ostree_status" "$NEWROOT" > /dev/console 2>&1
    # In an image for any machine dracut means root to have no password, but where systemd-sysusers was
    # before it, root is there already, as somebody who has not got one yet.
    if [ "${DRACUT_SYSTEMD-}" ] && [ -e /usr/lib/ostree/shell-without-password ]; then
        ostree_edit_root 's/^root:!unprovisioned:/root::/'
    fi
    if [ "${DRACUT_SYSTEMD-}" ] && [ -e /etc/shadow ] && [ "$(sed -n '/^root:[!*]/p' /etc/shadow)" ] &&
        ! getargbool 0 SYSTEMD_SULOGIN_FORCE; then
        printf 'There is no shell, because root is locked in this initramfs. To get one, boot with\n  %s\n\n' \
            SYSTEMD_SULOGIN_FORCE=1 > /dev/console
    fi
fi
