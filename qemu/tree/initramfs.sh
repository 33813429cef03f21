#!/bin/sh
# Makes the initramfs inside the tree with the tree's own dracut. Run in a mount
# namespace of its own: its mounts end with it.
#
#   initramfs.sh TREE [DRACUT-ARGUMENT...]
set -eu
tree=${1:?}
shift
kernel=$(ls "$tree/usr/lib/modules")

mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"

# Not for this host, but for any machine: the guest's disk is virtio, whatever
# the build host has. /tmp/initramfs holds the files a scenario adds.
mkdir -p "$tree/tmp/initramfs"
chroot "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/ \
    dracut --force --no-hostonly --no-hostonly-cmdline --add-drivers "virtio_blk" \
    --include /tmp/initramfs / "$@" "/usr/lib/modules/$kernel/initramfs.img" "$kernel"

# dracut goes on without a module or file that it cannot add; a scenario must not.
image() {
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 \
        lsinitrd "$@" "/usr/lib/modules/$kernel/initramfs.img"
}
missing() {
    echo "the initramfs has no $1" >&2
    exit 1
}
image --mod > "$tree/tmp/modules"
cat "$tree/tmp/modules"
grep -qx ostree "$tree/tmp/modules" || missing "dracut module 'ostree'"
image > "$tree/tmp/files"
(cd "$tree/tmp/initramfs" && find . -type f) | while read -r file; do
    grep -qF " ${file#./}" "$tree/tmp/files" || missing "${file#./}"
done
