# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# What esp-sync and assess both ask: where systemd-boot reads, what boots how often, and which deployment is which.

# What they tell each other until the next boot, and how boots failed: a file STATEROOT/DEPLOYMENT with a line for people.
# shellcheck disable=SC2034
private=/run/prepare-root
notes=/var/lib/prepare-root/assess

# Where a boot loader's variable of this name is (Boot Loader Interface).
variable() {
    echo "${EFIVARS:-/sys/firmware/efi/efivars}/$1-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
}

# What one says. It has four bytes, of which three are zero, then UTF-16. tail alone would seek, which this file system has not.
text_of() {
    [ ! -e "$1" ] || tr -d '\000' < "$1" | tail -c +2
}

# Sets $esp to where the EFI system partition is mounted, if it is systemd-boot's: no other boot loader says that it started the system.
find_esp() {
    case $(text_of "$(variable LoaderInfo)") in
        *systemd-boot* | '') ;;
        *) return 1 ;;
    esac
    for esp in /efi /boot/efi; do
        # The look at loader first: it is what mounts an automounted one.
        [ ! -d "$esp/loader" ] || ! mountpoint -q "$esp" || return 0
    done
    return 1
}

# Whatever was written to the ESP is on the disk when this is done. Of FAT, `sync -f` leaves it in the disk's cache, from
# where it may come in any order; to synchronise a directory empties that as well.
settle() {
    sync -f "$esp"
    sync "$esp"
}

# The entries of OSTree on the ESP, which may be none.
entries() {
    for entry in "$esp"/loader/entries/ostree-*.conf; do
        [ ! -e "$entry" ] || echo "${entry##*/}"
    done
}

# The line that the entry of a deployment has on the ESP where boots are counted. Names and texts of entries change with every
# deployment that comes or goes. This stays.
mark_of() {
    echo "# deployment $1"
}

# What the name of an entry ends with, before .conf, if it is counted. (Boot Loader Specification, "Boot counting": +LEFT or
# +LEFT-DONE.)
counter_of() {
    echo "$1" | sed -n 's/.*\(+[0-9]*\(-[0-9]*\)\{0,1\}\)\.conf$/\1/p'
}

# How many tries a new deployment has; nothing where they are not counted. /etc/kernel/tries is kernel-install(8)'s.
tries() {
    SYSTEMD_OFFLINE=1 systemctl is-enabled --quiet prepare-root-assess.service 2> /dev/null || return 0
    if [ -e /etc/kernel/tries ]; then
        read -r tries < /etc/kernel/tries || :
    fi
    case ${tries:=3} in
        [1-9]) echo "$tries" ;;
        *) echo "/etc/kernel/tries: $tries is no number from 1 to 9: it is 3" >&2 && echo 3 ;;
    esac
}

# verdict_on DEPLOYMENT BOOTED: what there is to say of a commit all of whose boots failed, when it is deployed once more; nothing
# of others, and of the one that is running.
verdict_on() {
    [ "${1%.*}" != "${2%.*}" ] || return 0
    for file in "$notes/${1%.*}".*; do
        [ -f "$file" ] || continue
        read -r said < "$file" || :
        all=${said%% *}
        case $said in
            "$all of $all boots failed"*) echo "$said" && return ;;
        esac
    done
}

# forget DEPLOYMENT: it gets all its tries. What is said may be of one that had its name before.
forget() {
    rm -f "$notes/$1" || :
}

# The deployment that a boot link leads to, as STATEROOT/DEPLOYMENT, where $1 is the root; nothing if it leads nowhere.
deployment_at() {
    path=$(readlink -e "$1$2") || return 0
    case $path in
        */ostree/deploy/*/deploy/*.*) path=${path##*/ostree/deploy/} && echo "${path%%/*}/${path##*/}" ;;
    esac
}

# The deployment that a boot entry of OSTree's names.
deployment_of() {
    deployment_at "$1" "$(sed -n 's|^options[[:space:]]\(.*[[:space:]]\)\{0,1\}ostree=\([^[:space:]]*\).*|\2|p' "$2")"
}

# The deployment that is running. Where /boot is not mounted OSTree cannot tell; the link it was booted with can, as long as
# there was no other deployed since.
booted() {
    booted=$(ostree admin status 2> /dev/null | sed -n 's|^\* \([^ ]*\) \([0-9a-f]*\.[0-9]*\).*|\1/\2|p')
    [ "$booted" ] || booted=$(deployment_at '' "$(tr ' ' '\n' < /proc/cmdline | sed -n 's/^ostree=//p' | head -n 1)")
    echo "$booted"
}
