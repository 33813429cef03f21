#!/bin/sh
# Turns a plain Debian tree into the layout OSTree deploys, except for /etc and
# /var: dracut still needs those where Debian puts them (disk.sh moves them).
#
#   adapt.sh TREE
set -eu
cd "${1:?}"

# The kernel and its configuration belong beside its modules. Trixie's package has them in /boot only.
kernel=$(ls usr/lib/modules)
for file in vmlinuz config; do
    [ -e "usr/lib/modules/$kernel/$file" ] || cp "boot/$file-$kernel" "usr/lib/modules/$kernel/$file"
done
rm -rf boot/* vmlinuz vmlinuz.old initrd.img initrd.img.old

# What belongs to the machine and not to the system lives in /var; tmpfiles.d
# (see guest/tmpfiles.conf) makes it there, since a new /var is empty.
to_var() {
    rm -rf "$1"
    ln -s "$2" "$1"
}
to_var home var/home
to_var root var/roothome
to_var srv var/srv
to_var opt var/opt
to_var mnt var/mnt
to_var media var/media
to_var usr/local ../var/usrlocal

# dpkg's database describes /usr, so it is part of the system.
mkdir -p usr/lib/sysimage
cp -a var/lib/dpkg usr/lib/sysimage/dpkg

# OSTree gives every file the same time, and Python takes what was compiled of a
# file with another time for stale: cloud-init would compile itself at every boot.
[ ! -x usr/bin/python3 ] ||
    chroot . python3 -m compileall -q -f --invalidation-mode unchecked-hash usr/lib/python3*

# The root of a deployment is immutable: every mount point is there from the start.
mkdir sysroot efi
ln -s sysroot/ostree ostree

# Every boot is a new machine. Empty, not absent: absent means "first boot", and
# systemd-firstboot would ask questions on the console.
: > etc/machine-id
rm -f var/lib/dbus/machine-id

rm -rf dev/* run/* tmp/*
