#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes $NEWROOT the OSTree deployment that ostree= names. dracut sources this.

# shellcheck source=/dev/null
command -v getarg > /dev/null || . /lib/dracut-lib.sh

if getarg ostree > /dev/null; then
    # Somebody may have done it in the shell, then /run/ostree-booted is there.
    until [ -e /run/ostree-booted ] || /usr/lib/ostree/ostree-prepare-root "$NEWROOT"; do
        emergency_shell -n ostree "OSTree: no deployment is booted, see above. Exit the shell to try again."
        # Not a busy loop when the shell cannot be started.
        sleep 1
    done
fi
