#!/bin/sh
# Does to a disk what its signature is to protect from, or what a bad disk does.
# Run in a mount namespace of its own: its mounts end with it.
#
#   damage.sh DISK no-usr|truncated-image
#   damage.sh DISK file|other-image|unsealed-image|no-signature   (IMAGE=signed)
set -eu
disk=${1:?} damage=${2:?}
place=$(dirname "$disk")/mounted

mkdir "$place"
mount -o loop "$disk" "$place"
# The newest.
deployment=$(readlink -f "$place"/ostree/boot.?/debian/*/0)
objects=$place/ostree/repo/objects

# Renames only: a host without fs-verity cannot open what is sealed.
image() {
    chattr -i "$deployment"
    mv "$place/spare/$1" "$deployment/.ostree.cfs"
    chattr +i "$deployment"
}

case $damage in
    no-usr)
        chattr -i "$deployment"
        mv "$deployment/usr" "$deployment/lost"
        chattr +i "$deployment"
        ;;
    truncated-image) truncate -s 8192 "$deployment/.ostree.cfs" ;;
    file)
        object=$(find "$objects" -samefile "$deployment/usr/lib/prepare-root-check/witness")
        echo 'not what was signed' > "$place/spare/file"
        mv "$place/spare/file" "$object"
        ;;
    other-image) image other.cfs ;;
    unsealed-image) image unsealed.cfs ;;
    no-signature)
        signatures=$(find "$objects" -name '*.commitmeta')
        rm "$signatures"
        ;;
    *) exit 2 ;;
esac
umount "$place"
