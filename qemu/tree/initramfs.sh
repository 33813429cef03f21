#!/bin/sh
# Makes the initramfs inside the tree with the tree's own generator. Run in a mount
# namespace of its own: its mounts end with it.
#
#   initramfs.sh TREE dracut|dracut-shell|initramfs-tools|solo|no-initramfs [ARGUMENT...]
#
# dracut and prepare-root-mkinitrd get the arguments.
set -eu
tree=${1:?} generator=${2:?}
shift 2
kernel=$(ls "$tree/usr/lib/modules")
image=/usr/lib/modules/$kernel/initramfs.img

mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/run"

run() {
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/ "$@"
}
missing() {
    echo "the initramfs has no $1" >&2
    exit 1
}

# Not for this host, but for any machine: the guest's disk is virtio, whatever
# the build host has.
dracut_image() {
    run dracut --force --no-hostonly --no-hostonly-cmdline --add-drivers virtio_blk "$@" "$image" "$kernel"
    # dracut goes on without a module that it cannot add; a scenario must not.
    run lsinitrd --mod "$image" > "$tree/tmp/modules"
    cat "$tree/tmp/modules"
    grep -qx ostree "$tree/tmp/modules" || missing "dracut module 'ostree'"
    run lsinitrd "$image" > "$tree/tmp/files"
}
case $generator in
    dracut) dracut_image "$@" ;;
    dracut-shell)
        # This file of ostree-boot asks for the modules that are to be left out.
        rm -f "$tree/etc/dracut.conf.d/ostree.conf"
        dracut_image --omit 'systemd systemd-initrd dracut-systemd systemd-udevd dbus' "$@"
        ! grep -qx systemd "$tree/tmp/modules" || { echo 'the initramfs has systemd' >&2; exit 1; }
        ;;
    initramfs-tools)
        run mkinitramfs -o "$image" "$kernel"
        run lsinitramfs "$image" > "$tree/tmp/files"
        ;;
    solo)
        # It refuses where something is missing; what it put in, a boot shows.
        run prepare-root-mkinitrd --kver "$kernel" --output "$image" "$@"
        exit
        ;;
    no-initramfs)
        # Where OSTree has the kernel look for it. The link leads to a file of the same
        # deployment from wherever that lies on the disk.
        ln -sf ../prepare-root/ostree-prepare-root "$tree/usr/lib/ostree/ostree-prepare-root"
        [ ! -e "$tree$image" ] || { echo "there is an initramfs" >&2; exit 1; }
        exit
        ;;
esac
grep -q usr/lib/ostree/ostree-prepare-root "$tree/tmp/files" || missing ostree-prepare-root
