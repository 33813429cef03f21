#!/bin/sh
# The init of the guest that runs the namespace tests: runs them, says on the
# console how they ended, and switches the guest off. Judging is the host's work.
#
#   tests.sh core|all
set -eu
export PATH=/usr/sbin:/usr/bin
export PREPARE_ROOT_CACHE=/tests/cache PREPARE_ROOT_BIN=/tests/ostree-prepare-root
export PREPARE_ROOT_PAIRWISE=1

# The guest must go down whatever happens here.
trap 'busybox poweroff -f' EXIT

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
# What an initramfs with our module has loaded, or loads; and a file system for disks.
modprobe -a overlay erofs loop btrfs

# NAME COMMAND...
run() {
    name=$1 status=0
    shift
    "$@" --color never || status=$?
    echo "$name: exit status $status"
}

# In a trial of these the program runs dozens of times under strace: where there is little time, only with
# every kind of mount, and as the kernel itself lets it go.
faults='everything: shared 7.2'
[ "$1" != all ] || faults=''

echo "kernel: $(uname -r)"
run compare /tests/compare
run behaviour /tests/behaviour
run faults /tests/faults "$faults"
