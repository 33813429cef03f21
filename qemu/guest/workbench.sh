#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The init of a guest that does to disks what the build host's kernel may be unable
# to, with the tools and drivers of the system that will boot them. Says on the
# console what became of it, and switches the guest off.
#
#   workbench.sh luks UUID PASSPHRASE   encrypts: what is on the second disk, on the first
#   workbench.sh lvm                    the same with a logical volume, /dev/debian/root
#   workbench.sh seal MOUNT-OPTIONS     starts the disk's own program that seals its files
set -eu
export PATH=/usr/sbin:/usr/bin
# Nobody but us makes device nodes here.
export DM_DISABLE_UDEV=1

# The guest must go down whatever happens here.
trap 'sync; systemctl poweroff --force --force' EXIT

mount -o remount,rw /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
modprobe virtio_blk

copy() {
    dd if=/dev/vdb of="$1" bs=4M conv=fsync status=none
}
case $1 in
    luks)
        modprobe dm_crypt
        # A weak key derivation: the emulated processor is slow, and there is nothing to keep secret.
        printf %s "$3" | cryptsetup luksFormat --batch-mode --type luks2 --uuid "$2" --sector-size 4096 \
            --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - /dev/vda
        printf %s "$3" | cryptsetup open --key-file - /dev/vda root
        copy /dev/mapper/root
        cryptsetup close root
        ;;
    lvm)
        modprobe dm_mod
        # What is left of a guest that did not get far.
        wipefs --all --quiet /dev/vda
        vgcreate debian /dev/vda
        lvcreate --extents 100%FREE --name root --zero n --wipesignatures n debian
        copy /dev/debian/root
        vgchange --activate n debian
        ;;
    seal)
        mount -o "$2" /dev/vda /sysroot
        exec chroot /sysroot /spare/seal
        ;;
esac
echo 'workbench: done'
