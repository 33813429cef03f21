#!/bin/sh
# Runs in the booted guest and reports what it sees over a virtio-serial port of
# its own, because lines of the kernel, systemd and programs mix on the console.
# Each line is "SECTION<tab>TEXT"; the last one is "end". Then the guest is
# switched off. Judging is the host's work.

# Where there was no udev in the initramfs, it may still be at work.
udevadm settle
[ -e /dev/virtio-ports/prepare-root.report ] || exit 0
exec 3> /dev/virtio-ports/prepare-root.report

# The guest must go down whatever happens here; without "end" it is a failure.
end=poweroff
trap 'exec 3>&-; systemctl $end --no-block' EXIT

section() {
    name=$1
    shift
    # Line by line: a story sends its checks between them.
    "$@" 2>&1 | sed -u "s/^/$name	/" >&3
}

# Everything that was to be started has been started, or has failed.
state=$(systemctl is-system-running --wait)
printf 'state\t%s\n' "$state" >&3
section multi-user systemctl is-active multi-user.target

section kernel uname -r
section processor uname -m
section cmdline cat /proc/cmdline
# The variable in which a boot loader says what it is: four bytes, then UTF-16.
loader() {
    [ -d /sys/firmware/efi ] || return 0
    # It cannot be sought in.
    tr -d '\000' < /sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f | tail -c +2
    echo
}
section loader loader
section hostname uname -n
users() {
    getent passwd | awk -F : '$3 >= 1000 && $3 < 60000 { print $1, $6 }' | while read -r user home; do
        echo "$user $(realpath "$home") $(stat -c %U "$home")"
    done
}
section users users
section mountinfo cat /proc/self/mountinfo
section status ostree admin status
section failed systemctl --failed --plain --no-legend --full
failed_log() {
    systemctl --failed --plain --no-legend --full | while read -r unit rest; do
        journalctl -b -q -o cat -n 6 -u "$unit" | sed "s/^/$unit: /"
    done
}
section failed-log failed_log
section partitions lsblk --raw --noheadings --output PATH,PARTLABEL
# The disk's file system, and what it lies on, down to the bus.
disk() {
    lsblk --inverse --raw --noheadings --output TYPE,SUBSYSTEMS "$(findmnt --noheadings --nofsroot --output SOURCE /sysroot)"
}
section disk disk
section mounts systemctl list-units --type=mount --all --plain --no-legend --full
section generator ls /run/systemd/generator
section booted od -An -v -w16 -tx1 /run/ostree-booted
section root stat -c '%d %i' /
booted=$(ostree admin status | sed -n 's|^\* \([^ ]*\) \([^ ]*\).*|\1/deploy/\2|p')
section deployment stat -c '%d %i' "/sysroot/ostree/deploy/$booted"
choice() {
    [ ! -e /run/ostree/prepare-root.json ] || cat /run/ostree/prepare-root.json
}
section choice choice
section modes stat -c '%n %a' / /usr /etc /var
section witness head -n 1 /usr/lib/prepare-root-check/witness
section remount systemctl show -p WantedBy -p Result -p ActiveState -p ConditionResult -p DropInPaths systemd-remount-fs.service
section run-ostree ls -lA /run/ostree
section time systemd-analyze time

# In bytes, from the outside to the inside.
sizes() {
    root=$(findmnt -n -o SOURCE --first-only /sysroot | sed 's/\[.*//')
    [ "$(lsblk -n -d -o TYPE "$root")" = part ] || return 0
    echo "disk $(lsblk -n -d -b -o SIZE "/dev/$(lsblk -n -d -o PKNAME "$root")")"
    echo "partition $(lsblk -n -d -b -o SIZE "$root")"
    echo "file-system $(stat -f -c '%b %S' /sysroot | awk '{ print $1 * $2 }')"
}
section sizes sizes
cloud_init() {
    [ ! -x /usr/bin/cloud-init ] || cloud-init status --format json
}
section cloud-init cloud_init
present() {
    for file in /usr/bin/apt /usr/bin/dpkg; do
        [ ! -e "$file" ] || echo "$file"
    done
}
section present present

dependency_failed() {
    journalctl -b -o cat _PID=1 | grep 'Dependency failed for'
}
section dependency-failed dependency_failed

# Messages with their level: "<6>[    1.234567] ostree-prepare-root[123]: ..."
kernel_log() {
    dmesg --raw | grep -F 'ostree-prepare-root['
}
section log kernel_log
section journal journalctl -b -q -o short-monotonic -u ostree-prepare-root.service
warnings() {
    journalctl -b -q -o cat -p warning SYSLOG_IDENTIFIER=ostree-prepare-root + _SYSTEMD_UNIT=ostree-prepare-root.service
}
section warnings warnings
section announced journalctl -b -q -o export --output-fields=MESSAGE,DEPLOYMENT_PATH,DEPLOYMENT_DEVICE,DEPLOYMENT_INODE \
    MESSAGE_ID=7170336a73ba4601bad31af888aa0df7

# Who mounted them: with a fragment it is a unit of the generator, and the
# journal tells whether systemd had to mount it or found it mounted.
for unit in var.mount boot.mount etc.mount sysroot.mount usr.mount; do
    section "unit-$unit" systemctl show -p LoadState -p ActiveState -p Result -p FragmentPath "$unit"
    section "unit-$unit" journalctl -b -q -o cat _PID=1 UNIT="$unit"
done

for directory in / /usr /etc /var /sysroot /boot; do
    file=${directory%/}/.prepare-root-check
    if (: > "$file") 2> /dev/null; then
        rm -f "$file"
        printf 'writable\t%s\n' "$directory" >&3
    else
        printf 'read-only\t%s\n' "$directory" >&3
    fi
done

# For a second boot of the same disk: what of the first is still there?
for directory in / /etc /var; do
    stamp=${directory%/}/.prepare-root-stamp
    [ ! -e "$stamp" ] || printf 'stamp-found\t%s\n' "$directory" >&3
    if (: > "$stamp") 2> /dev/null; then
        printf 'stamp-made\t%s\n' "$directory" >&3
    fi
done

# What else happens in this boot; it may choose how that ends.
story=/dev/disk/by-id/virtio-story
if [ -e "$story" ]; then
    section story sh -eux "$story"
    [ ! -e /run/prepare-root-end ] || read -r end < /run/prepare-root-end
fi

# A system that goes on without its kernel being started anew reports again.
case $end in
    soft-reboot*) printf 'again\n' >&3 ;;
    *) printf 'end\n' >&3 ;;
esac
