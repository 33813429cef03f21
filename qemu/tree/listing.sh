#!/bin/sh
# Lists what a boot could change on a disk: the top of it, /boot, and all below
# /ostree/deploy but the deployment's /usr, with the checksums of files. Run in a
# mount namespace of its own: its mounts end with it.
#
#   listing.sh DISK PLACE
set -eu
disk=${1:?} place=${2:?}
mkdir -p "$place"
# Writable: after a guest's power-off there may be a journal to replay.
mount -o loop,noatime "$disk" "$place"
cd "$place"

find . -maxdepth 1 -printf '%M %U:%G %p %l\n' | sort
find boot ostree/deploy -path '*/deploy/*.0/usr' -prune -o -printf '%M %U:%G %p %l\n' | sort
find boot ostree/deploy -path '*/deploy/*.0/usr' -prune -o -type f -exec sha256sum {} + | sort -k 2
cd /
umount "$place"
