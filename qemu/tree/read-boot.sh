#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Copies /boot of a disk again, after a guest has changed it. Run in a mount
# namespace of its own: its mounts end with it.
#
#   read-boot.sh DISK PLACE BOOT-COPY
set -eu
disk=${1:?} place=${2:?} boot=${3:?}
mkdir -p "$place"
# Writable: after a guest's power-off there may be a journal to replay.
mount -o loop,noatime "$disk" "$place"
rm -rf "$boot"
cp -a "$place/boot" "$boot"
umount "$place"
