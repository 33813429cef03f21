#!/bin/sh
# Installs our Debian package into the tree as a user would, and takes the initramfs
# that its trigger made to where OSTree wants it. Run in a mount namespace of its own:
# its mounts end with it.
#
#   package.sh TREE PACKAGE
set -eu
tree=${1:?} package=${2:?}
kernel=$(ls "$tree/usr/lib/modules")

mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"
cp "$package" "$tree/run/prepare-root.deb"

before=$(stat -c %i.%Y "$tree/boot/initrd.img-$kernel")
chroot "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/ DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends /run/prepare-root.deb
after=$(stat -c %i.%Y "$tree/boot/initrd.img-$kernel")
[ "$before" != "$after" ] || { echo "installing the package made no new initramfs" >&2; exit 1; }

# OSTree's own step: an ordinary Debian has both in /boot.
cp "$tree/boot/initrd.img-$kernel" "$tree/usr/lib/modules/$kernel/initramfs.img"
