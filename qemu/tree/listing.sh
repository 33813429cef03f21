#!/bin/sh
# Lists what a boot could change on a disk: the top of it and of /ostree, /boot, and all
# below /ostree/deploy but the deployment's /usr, with the checksums of files. Run in a
# mount namespace of its own: its mounts end with it.
#
#   listing.sh DISK PLACE
set -eu
disk=${1:?} place=${2:?}
mkdir -p "$place"
# In sectors, where the root is a partition.
start=$(sfdisk --dump "$disk" 2> /dev/null | sed -n 's/.*start= *\([0-9]*\),.*name="root".*/\1/p')
offset=$((${start:-0} * 512)) subvolume=
# There the root is a subvolume.
[ "$(blkid -p -O "$offset" -s TYPE -o value "$disk")" != btrfs ] || subvolume=,subvol=@rootfs
# Writable: after a guest's power-off there may be a journal to replay.
mount -o "loop,noatime,offset=$offset$subvolume" "$disk" "$place"
cd "$place"

find . ostree -maxdepth 1 -printf '%M %U:%G %p %l\n' | sort
find boot ostree/deploy -path '*/deploy/*.0/usr' -prune -o -printf '%M %U:%G %p %l\n' | sort
find boot ostree/deploy -path '*/deploy/*.0/usr' -prune -o -type f -exec sha256sum {} + | sort -k 2
cd /
umount "$place"
