# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The stories of layouts.rs.

# leads LINK DIRECTORY: what is written through one is in the other.
leads() {
    mkdir -p "$2" && : > "$1/story" && rm "$2/story"
}

part_fedora() {
    check '/home leads to /var/home' leads /home /var/home
    check '/root leads to /var/roothome' leads /root /var/roothome
    check '/opt leads to /var/opt' leads /opt /var/opt
    check '/usr/local leads to /var/usrlocal' leads /usr/local /var/usrlocal
    check '/media leads to /run/media' leads /media /run/media
    check '/ostree leads to the repository' ostree refs --repo=/ostree/repo
    check 'ostree can write' ostree admin deploy --karg-append=again=1 "$(origin)"
}

part_endless() {
    # OSTree makes the directory itself immutable.
    check '/ is mounted read-write' sh -c 'findmnt -rn -o OPTIONS / | grep -qE "(^|,)rw(,|$)"'
    check '/home leads to the disk' leads /home /sysroot/home
    check '/root leads to /var/roothome' leads /root /var/roothome
    check '/usr/local leads to /var/local' leads /usr/local /var/local
    check '/ostree leads to the repository' ostree refs --repo=/ostree/repo
    check 'ostree can write' ostree admin deploy --karg-append=again=1 "$(origin)"
}

origin() {
    ostree admin status | sed -n 's/^ *origin refspec: //p' | head -n 1
}
