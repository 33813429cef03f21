#!/bin/sh
# In place of check.sh where a boot is measured: reports only when things happened, and what shows that they
# did, in the same way. The times are those of the kernel's clock, which begins with the kernel.
# SPDX-License-Identifier: MIT OR Apache-2.0

[ -e /dev/virtio-ports/prepare-root.report ] || exit 0
exec 3> /dev/virtio-ports/prepare-root.report

# The guest must go down whatever happens here; without "end" it is a failure.
trap 'exec 3>&-; systemctl poweroff --no-block' EXIT

section() {
    name=$1
    shift
    "$@" 2>&1 | sed "s/^/$name	/" >&3
}

state=$(systemctl is-system-running --wait)
printf 'state\t%s\n' "$state" >&3
section kernel uname -r
section status ostree admin status
section failed systemctl --failed --plain --no-legend --full
section time systemd-analyze time
section manager systemctl show -p InitRDTimestampMonotonic -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic
section multi-user systemctl show -p ActiveState -p ActiveEnterTimestampMonotonic multi-user.target

# What the first process says of its jobs. What it said before there was a journal has no unit.
section jobs journalctl -b -q -o json --output-fields=MESSAGE,UNIT,JOB_TYPE,JOB_RESULT _PID=1

# When the program was started and when it ended, by the kernel. (The unit that systemctl knows is the
# root's own; of the initramfs' it remembers nothing.)
trace() {
    grep -F -e 'sched_process_exec: ' -e 'sched_process_exit: ' /sys/kernel/tracing/trace | grep -F ostree-prepare-
}
section trace trace

# Only one of the two programs says this.
kernel_log() {
    dmesg --raw | grep -F 'ostree-prepare-root['
}
section log kernel_log

printf 'end\n' >&3
