#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The shell of ostree.prepare-root.break=, on the console; leaving it lets the boot go on.
#
#   break-shell before|after
#
# The program says whether there is to be one, since its configuration may forbid it. It is not dracut's
# emergency shell: with systemd that one wants root's password, and the root of an initramfs is often
# locked; it writes a report first; and what rd.emergency= says would follow it.

point=$1 place=/sysroot
case $point in
    before) found="is the disk as it was mounted" ;;
    after)
        found="is the deployment, $place/sysroot the disk"
        # The program has failed: there is an emergency shell to come.
        [ -e /run/ostree-booted ] || exit 0
        ;;
    *) exit 2 ;;
esac

/usr/lib/ostree/ostree-prepare-root --break-at "$point" || exit 0
# The splash screen holds the keyboard.
if command -v plymouth > /dev/null; then
    plymouth quit
fi
exec 0<> /dev/console 1>&0 2>&0
printf '\nostree.prepare-root.break=%s: %s %s.\nExit the shell to continue the boot.\n\n' "$point" "$place" "$found"
cd / || exit
HOME=/ PS1="ostree-$point:\${PWD}# " exec /bin/sh -i
