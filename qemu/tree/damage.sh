#!/bin/sh
# Does to a disk what its signature is to protect from, or what a bad disk does.
# Run in a mount namespace of its own: its mounts end with it.
#
#   damage.sh DISK no-usr|truncated-image|superblock|encrypted
#   damage.sh DISK file|other-image|unsealed-image|no-signature   (IMAGE=signed)
set -eu
disk=${1:?} damage=${2:?}

# TEXT OFFSET: writes on the disk itself.
overwrite() {
    # shellcheck disable=SC2059 # with its escapes
    printf "$1" | dd of="$disk" bs=1 seek="$2" conv=notrunc status=none
}
# The magic number of ext4, in the superblock at 1 KiB.
ext4_magic=1080
case $damage in
    superblock)
        overwrite '\0\0' "$ext4_magic"
        exit
        ;;
    encrypted)
        # What is there to be seen of LUKS: its header, version 1, with a UUID.
        overwrite '\0\0' "$ext4_magic"
        overwrite 'LUKS\272\276\0\1aes' 0
        overwrite 'xts-plain64' 40
        overwrite 'sha256' 72
        overwrite '6f1d1a4e-0b5c-4f0e-9d3c-2f6a0f7b8c11' 168
        exit
        ;;
esac

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
