#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes one disk with a GPT of the file systems that disk.sh made as files.
#
#   assemble.sh DISK PARTS PARTITION...
#
# PARTITION names the partition and its contents, PARTS/PARTITION.img. They come in
# this order. The root's has the number $ROOT_PARTUUID.
set -eu
disk=${1:?} parts=${2:?}
shift 2

# In MiB: partitions like to begin at one, and either copy of the table fits in one.
start=1
echo 'label: gpt' > "$parts/table"
for name; do
    part=$parts/$name.img
    truncate -s %1M "$part"
    size=$(($(stat -c %s "$part") >> 20))
    uuid=
    case $name in
        esp) type=uefi ;;
        # A boot entry can name it, long before there is a partition table.
        root) type=linux uuid=", uuid=$ROOT_PARTUUID" ;;
        # As Debian's installer does: no type at which systemd mounts something unasked.
        *) type=linux ;;
    esac
    echo "start=${start}MiB, size=${size}MiB, type=$type, name=$name$uuid" >> "$parts/table"
    dd if="$part" of="$disk" bs=1M seek="$start" conv=sparse,notrunc status=none
    rm "$part"
    start=$((start + size))
done
truncate -s "$((start + 1))M" "$disk"
sfdisk --quiet --wipe never --wipe-partitions never "$disk" < "$parts/table"
sfdisk --list "$disk"
