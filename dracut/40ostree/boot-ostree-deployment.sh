#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes $NEWROOT the OSTree deployment that the kernel command line names. dracut sources this.

# shellcheck source=/dev/null
command -v getarg > /dev/null || . /lib/dracut-lib.sh

if getarg ostree > /dev/null || getarg ostree.prepare-root.deployment > /dev/null; then
    ostree_break() {
        if getarg ostree.prepare-root.break > /dev/null; then
            # A session of its own, for job control and Ctrl-C.
            setsid -c /usr/lib/ostree/break-shell "$1"
        fi
    }

    # Before Linux 6.12 an image is mounted from a loop device, and nobody here makes the node that would load the driver.
    [ -e /dev/loop-control ] || modprobe -q loop || :
    ostree_break before
    # Somebody may have done it in the shell.
    until /usr/lib/ostree/ostree-prepare-root --unless-booted "$NEWROOT"; do
        # For explain-failure.sh, which the emergency shell begins with.
        # shellcheck disable=SC2034
        ostree_status=$?
        if [ -e /usr/lib/ostree/no-shell ]; then
            /usr/lib/ostree/after-failure "$ostree_status" "$NEWROOT" reboot > /dev/console 2>&1
            sleep 30
            reboot -f || echo b > /proc/sysrq-trigger
            continue
        fi
        emergency_shell -n ostree "OSTree: no deployment is booted, see above. Exit the shell to try again."
        # Not a busy loop when the shell cannot be started.
        sleep 1
    done
    unset ostree_status
    ostree_break after
fi
