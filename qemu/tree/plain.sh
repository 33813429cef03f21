#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes the disk of an ordinary Debian: the tree itself is the root, OSTree has no
# part in it. Only the initramfs is the one of the other scenarios.
#
#   plain.sh TREE PARTS BOOT-COPY [KERNEL-ARGUMENT...]
set -eu
tree=${1:?} parts=$2 boot=$3
shift 3
modules=$(echo "$tree"/usr/lib/modules/*)

rm -rf "${tree:?}"/tmp/* "$tree"/run/*
truncate -s 2G "$parts/root.img"
mkfs.ext4 -q -L prepare-root -d "$tree" "$parts/root.img"

# What its boot loader would read.
mkdir -p "$boot/loader/entries"
cp "$modules/vmlinuz" "$modules/initramfs.img" "$boot"
printf 'version 1\nlinux /vmlinuz\ninitrd /initramfs.img\noptions %s\n' "$*" > "$boot/loader/entries/debian.conf"
