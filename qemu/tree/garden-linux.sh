#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes a disk with our feature of Garden Linux: its scripts, in the order of the
# builder. Run in a mount namespace of its own: its mounts end with it.
#
#   garden-linux.sh TREE FEATURE WORK DISK
#
# Everything of other features is in TREE already, and what `image` needs as well.
set -eu
tree=${1:?} feature=${2:?} work=${3:?} disk=${4:?}

# A mount, for `unshare` to make private.
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"
mount --bind "$work" "$tree/tmp"
here=/builder/features/${feature##*/}
mkdir -p "$tree$here"
mount --bind "$feature" "$tree$here"
run() {
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/ SIZE=2G "$@"
}

cp -R --preserve=mode "$feature/file.include/." "$tree"
run "$here/exec.config"
# Whoever is made from now on has a home that updates do not touch.
run useradd --create-home gardener
run "$here/exec.late"
sed '/^#/d; /^$/d' "$feature/file.exclude" | while read -r path; do
    # shellcheck disable=SC2086 # these are patterns
    rm -rf "$tree"$path
done

# The tree without what is mounted in it: /sys may change while it is read, and tar then fails. OSTree takes no device nodes.
bare=$work/bare
mkdir "$bare"
mount --bind "$tree" "$bare"
tar -C "$bare" --create --anchored --exclude ./builder --exclude './dev/*' --exclude './run/*' --exclude './tmp/*' \
    --xattrs --xattrs-include '*' --numeric-owner --file "$work/tree.tar" .
umount "$bare"
rmdir "$bare"
run "$here/image" /tmp/tree.tar /tmp/disk.img
mv "$work/disk.img" "$disk"
