#!/bin/sh
# Commits the tree and deploys it on a new ext4 disk, with the tree's own ostree.
# Run in a mount namespace of its own: its mounts end with it.
#
#   disk.sh TREE DISK BOOT-COPY REF new-var|used-var [KERNEL-ARGUMENT...]
#
# BOOT-COPY receives what /boot of the disk holds: the boot entry, kernel and
# initramfs that the boot loader of a real machine would read.
set -eu
tree=${1:?} disk=$2 boot=$3 ref=$4 var=$5
shift 5

mv "$tree/etc" "$tree/usr/etc"
rm -rf "${tree:?}/var" "$tree"/tmp/* "$tree"/run/*
mkdir "$tree/var"

truncate -s 2G "$disk"
mkfs.ext4 -q -L prepare-root "$disk"

# The same tree twice: once as the root that ostree runs in, with the disk and
# the kernel's file systems mounted; once, without any of them, to be committed.
tools=$tree.tools
mkdir "$tools"
mount --bind "$tree" "$tools"
mount --bind "$tree" "$tools/tmp"
mount -o loop "$disk" "$tools/sysroot"
mount -t proc proc "$tools/proc"
mount --rbind /dev "$tools/dev"
ostree() {
    chroot "$tools" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 ostree "$@"
}

ostree admin init-fs /sysroot
# No boot loader is installed: QEMU reads the entry itself.
ostree config --repo=/sysroot/ostree/repo set sysroot.bootloader none
ostree admin os-init debian --sysroot=/sysroot
ostree commit --repo=/sysroot/ostree/repo --branch="$ref" --subject="$ref" --bootable --tree=dir=/tmp
for karg; do
    kargs="${kargs-} --karg=$karg"
done
# shellcheck disable=SC2086 # one word per argument: a kernel argument has no space
ostree admin deploy --sysroot=/sysroot --os=debian ${kargs-} "$ref"
ostree admin status --sysroot=/sysroot

if [ "$var" = used-var ]; then
    # The first boot of this machine is past: tmpfiles.d and services have filled /var.
    stateroot=$tools/sysroot/ostree/deploy/debian
    deployment=$(echo "$stateroot"/deploy/*.0)
    mount --bind "$stateroot/var" "$deployment/var"
    mount -t proc proc "$deployment/proc"
    chroot "$deployment" systemd-tmpfiles --create --prefix=/var
    sed -n 's/^StateDirectory=//p' "$deployment"/usr/lib/systemd/system/*.service | tr ' ' '\n' |
        while read -r state; do mkdir -p "$deployment/var/lib/$state"; done
    umount "$deployment/proc" "$deployment/var"
fi

cp -a "$tools/sysroot/boot" "$boot"
umount "$tools/sysroot"
