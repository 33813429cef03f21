#!/bin/sh
# Puts another kernel, with its modules, in place of the tree's. Run before
# adapt.sh, which takes the kernel from where a package has it.
#
#   kernel.sh TREE UNPACKED-KERNEL-PACKAGE
set -eu
tree=${1:?} package=${2:?}

rm -rf "$tree"/usr/lib/modules/* "$tree"/boot/vmlinuz-*
cp -a "$package"/lib/modules/* "$tree/usr/lib/modules/"
cp "$package"/boot/vmlinuz-* "$package"/boot/config-* "$tree/boot/"
# The package's own script would have done it.
chroot "$tree" depmod "$(ls "$tree/usr/lib/modules")"
