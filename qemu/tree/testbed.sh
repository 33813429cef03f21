#!/bin/sh
# Makes the disk of the guest that runs the namespace tests, with the modules of
# every kernel that it is started with.
#
#   testbed.sh PACKAGES TESTS TREE DISK UNPACKED-KERNEL-PACKAGE...
#
# PACKAGES is copied to TREE, TESTS becomes /tests in it.
set -eu
packages=${1:?} tests=${2:?} tree=${3:?} disk=${4:?}
shift 4

cp -a "$packages" "$tree"
mkdir -p "$tree/usr/lib/modules"
for kernel; do
    modules=$kernel/usr/lib/modules
    # Before Debian 13 packages had it there.
    [ -d "$modules" ] || modules=$kernel/lib/modules
    cp -a "$modules"/. "$tree/usr/lib/modules/"
    # The package's own script would have done it.
    chroot "$tree" depmod "$(ls "$modules")"
done
mv "$tests" "$tree/tests"

truncate -s 2G "$disk"
mkfs.ext4 -q -d "$tree" "$disk"
