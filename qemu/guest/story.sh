# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What every story has. A story is a list of functions, one for each boot; check.sh runs what the host put on the
# disk `story`: this, the story, and the call of the function. $server is where the host serves releases, $ref what
# the system is upgraded to.

# check WHAT COMMAND...: what must be true now.
checks=0
check() {
    what=$1
    shift
    checks=$((checks + 1))
    if said=$("$@" 2>&1); then
        printf 'check\tok\t%s\n' "$what" >&3
    else
        printf 'check\tFAILED\t%s\t%s\n' "$what" "$(echo "$*: $said" | tr '\n\t' '  ' | cut -c 1-300)" >&3
    fi
}

not() {
    ! "$@"
}

# says FILE TEXT: that is all there is in it, and it is something.
says() {
    { [ -n "$2" ] && [ "$(cat "$1")" = "$2" ]; } || { cat "$1" && return 1; }
}

# has_argument WORD: on the kernel command line.
has_argument() {
    tr ' ' '\n' < /proc/cmdline | grep -qxF "$1"
}

# Whether a command succeeds within a minute, where nobody tells when it will.
soon() {
    left=60
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}

# How this boot ends: with another, after what `systemctl reboot` is told.
reboots() {
    echo "reboot $*" > /run/prepare-root-end
}

# The checksum of the deployment at an index, 0 being the first; nothing if there is none, which is not the same as an
# OSTree that cannot tell.
deployment() {
    status=$(ostree admin status) || { echo unknown && return; }
    echo "$status" | sed -n 's/^[* ] debian \([0-9a-f]*\)\..*/\1/p' | sed -n "$(($1 + 1))p"
}

# The index of the booted one.
booted() {
    status=$(ostree admin status) || { echo unknown && return; }
    echo "$status" | grep '^[* ] debian ' | grep -n '^\*' | cut -d : -f 1 | awk '{ print $1 - 1 }'
}

# Whether the boot loader is systemd-boot, whose entries are on the ESP. GRUB reads OSTree's.
has_systemd_boot() {
    [ -d /efi/loader ]
}

# The ESP has the entries and kernels that OSTree has, and nothing half done.
esp_follows() {
    diff -r /boot/loader/entries /efi/loader/entries && diff -r /boot/ostree /efi/ostree
}

# online: the host's server is where upgrades come from.
online() {
    systemctl start systemd-networkd-wait-online.service
    ostree config set 'remote "vendor".url' "${server:?}"
}

# A release brings its kernel arguments; `ostree admin upgrade` alone keeps those of the deployment before.
stage_what_was_pulled() {
    argument=$(ostree cat "${ref:?}" /usr/lib/kernel/release-arguments)
    ostree admin deploy --stage --karg="$argument" "$ref"
    check 'B is staged' [ -e /run/ostree/staged-deployment ]
}

# For `systemctl soft-reboot`, after which a part is run once more.
soft_reboots() {
    : > /run/story-again
    echo soft-reboot > /run/prepare-root-end
}
is_soft_rebooted() {
    [ -e /run/story-again ]
}
after_soft_reboot() {
    rm /run/prepare-root-end
    check 'userspace was started anew, the kernel was not' [ "$(systemctl show -P SoftRebootsCount)" = 1 ]
    check '/boot has kernels' test -d /boot/ostree
    check 'the disk can be seen' test -d /sysroot/ostree/repo
}

# At the end; the host counts them too.
done_with_all() {
    printf 'checks-made\t%s\n' "$checks" >&3
}

# The next boot has this kernel argument besides, where no boot loader has them.
next_boot_has() {
    printf 'argument\t%s\n' "$1" >&3
}
