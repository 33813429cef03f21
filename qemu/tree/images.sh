#!/bin/sh
# Makes the initramfs of a tree three times, with its own generator: without any ostree-prepare-root, with
# libostree's (its ostree-boot has nothing for initramfs-tools), and with ours. They become none.img,
# libostree.img and ours.img. Run in a mount namespace of its own: its mounts end with it.
#
#   images.sh TREE dracut|initramfs-tools OURS IMAGES
#
# OURS is the directory that `make install` filled. Nothing but that differs.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
tree=${1:?} generator=${2:?} ours=${3:?} images=${4:?}
kernel=$(ls "$tree/usr/lib/modules")

mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"

run() {
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/ SOURCE_DATE_EPOCH=1 "$@"
}
# NAME [DRACUT-ARGUMENT...]
image() {
    name=$1
    shift
    case $generator in
        dracut)
            run dracut --force --reproducible --no-hostonly --no-hostonly-cmdline "$@" /run/image "$kernel"
            run lsinitrd /run/image > "$tree/run/files"
            ;;
        initramfs-tools)
            run mkinitramfs -o /run/image "$kernel"
            run lsinitramfs /run/image > "$tree/run/files"
            ;;
    esac
    found=no
    ! grep -q usr/lib/ostree/ostree-prepare-root "$tree/run/files" || found=yes
    case $name-$found in
        none-no | libostree-yes | ours-yes) ;;
        *)
            echo "$name.img: is ostree-prepare-root in it? $found" >&2
            exit 1
            ;;
    esac
    mv "$tree/run/image" "$images/$name.img"
}

# It asks for the modules ostree and systemd.
rm -f "$tree/etc/dracut.conf.d/ostree.conf"
image none --add systemd --omit ostree
[ "$generator" != dracut ] || image libostree --add 'systemd ostree'
cp -a --no-preserve=ownership "$ours/." "$tree"
image ours --add systemd
