#!/bin/sh
# dracut's "emergency" hook: the boot has failed, the shell is about to start.
# Tells the host what a person in that shell would find, and switches off. An
# initramfs has neither grep nor sync.

# On the way to emergency.target systemd stops units, and may unmount disks. A
# person would not be faster; each call waits for systemd's answer.
while [ -n "$(systemctl list-jobs --no-legend 2> /dev/null)" ]; do :; done

exec 3> /dev/virtio-ports/prepare-root.report
printf 'state\temergency\n' >&3
sed 's/^/mountinfo	/' /proc/self/mountinfo >&3
sed 's/^/cmdline	/' /proc/cmdline >&3
systemctl show -p ExecMainStatus ostree-prepare-root.service | sed 's/^/unit	/' >&3
dmesg --raw 2> /dev/null | sed -n 's/^\(.*ostree-prepare-root\[.*\)/log	\1/p' >&3
printf 'end\n' >&3
exec 3>&-
poweroff -f 2> /dev/null || systemctl poweroff --force --force
