#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Does to a Debian tree what Garden Linux' builder does to its own, with the feature in features/, and looks at the
# tree and the disk that come of it.
#
#   garden-linux/test.sh [PROGRAM]      as root; PROGRAM is ostree-prepare-root
#
# In the environment: SUITE (trixie), MIRROR, PREPARE_ROOT_CACHE (the tree is made once).

set -u

# The mounts below are nobody else's.
if [[ ${OSTREE_GARDEN_TEST-} != unshared ]]; then
    OSTREE_GARDEN_TEST=unshared exec unshare --mount --propagation private "$0" "$@"
fi

here=$(realpath "${BASH_SOURCE[0]%/*}")
feature=$here/features/_ostree
program=$(realpath "${1:-$here/../target/$(uname -m)-unknown-linux-musl/release/ostree-prepare-root}")
if [[ ! -x $program ]]; then
    echo "$program: no such program; make build, or name one" >&2
    exit 2
fi

work=$(mktemp -d)
# Never into what is mounted there: the host's /dev is.
trap 'rm -rf --one-file-system "$work"' EXIT
mount -t tmpfs -o mode=0755 tmpfs "$work"
root=$work/root
passed=0 failed=0
names=()

# --- the tree ---------------------------------------------------------------------------------

# Those of pkg.include; for what other features bring a kernel, systemd and adduser; and what is in the builder's own container.
suite=${SUITE:-trixie}
mapfile -t packages < "$feature/pkg.include"
packages+=(linux-image-cloud-amd64 systemd-sysv udev dbus adduser passwd zstd)
packages+=(python3-yaml e2fsprogs mtools fdisk)
list=$(IFS=, && echo "${packages[*]}")
cache=${PREPARE_ROOT_CACHE:-$here/../target/test-cache}
tree=$cache/garden-linux-$suite-$(echo "$list" | sha256sum | cut -c 1-12)
if [[ ! -d $tree ]]; then
    echo "making a tree of Debian $suite (once)"
    mkdir -p "$cache"
    rm -rf "$tree.new"
    # A testing release's mirror may be a snapshot whose index has run out.
    mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$list" \
        "$suite" "$tree.new" ${MIRROR:+"$MIRROR"} && mv "$tree.new" "$tree" || exit
fi
for kernel in "$tree"/usr/lib/modules/*; do kernel=${kernel##*/}; done

# --- the builder ------------------------------------------------------------------------------

# A tree in which the feature lies where the builder has it. `other` stands for the platform, which says how to boot.
fresh() {
    if mountpoint -q "$root"; then
        umount --recursive "$root"
    fi
    rm -rf "$work/upper" "$work/work" "$work/features"
    mkdir -p "$root" "$work/upper" "$work/work" "$work/features/other/initrd.include/usr/lib/other"
    mount -t overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    cp -a "$feature" "$work/features/"
    make --silent --directory "$here/.." install DESTDIR="$work/features/_ostree/file.include" BIN="$program" > /dev/null
    touch "$work/features/other/initrd.include/usr/lib/other/file"
    mkdir -p "$root/builder/features" "$root/etc/kernel/cmdline.d" "$root/etc/systemd/system"
    mount --bind "$work/features" "$root/builder/features"
    printf '%s\n' 'CMDLINE_LINUX="rw consoleblank=0" DEVICE="LABEL=ROOT"' > "$root/etc/kernel/cmdline.d/00-default.cfg"
    # shellcheck disable=SC2016
    printf '%s\n' 'CMDLINE_LINUX="console=tty0 $CMDLINE_LINUX"' > "$root/etc/kernel/cmdline.d/10-console.cfg"
    # shellcheck disable=SC2016
    printf '%s\n' 'CMDLINE_LINUX="$CMDLINE_LINUX ignition.firstboot=1"' > "$root/etc/kernel/cmdline.d/50-ignition.cfg"
    printf '[Install]\nWantedBy=sysinit.target\n' > "$root/etc/systemd/system/ignition-disable.service"
    in_tree systemctl --quiet enable ignition-disable.service
    in_tree useradd --home-dir /home/early --create-home early
}

in_tree() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 BUILDER_FEATURES=other,_ostree "$@"
}

configure() {
    cp --recursive --no-target-directory --remove-destination --preserve=mode,link "$work/features/_ostree/file.include" "$root" \
        && in_tree /builder/features/_ostree/exec.config && in_tree /builder/features/_ostree/exec.late || return
    local pattern
    while read -r pattern; do
        # shellcheck disable=SC2016
        in_tree sh -c 'rm -rf $1' - "$pattern"
    done < <(sed 's/#.*$//;/^[[:space:]]*$/d' "$feature/file.exclude")
}

refuses() {
    local pattern=$1
    if configure > "$work/log" 2>&1; then
        echo "the tree was made"
        return 1
    fi
    grep -q "$pattern" "$work/log" || {
        echo "the feature did not say: $pattern"
        return 1
    }
}

# The tree for the tests that only look, made once.
configured() {
    [[ ! -e $work/configured ]] || return 0
    fresh && configure > "$work/log" 2>&1 && : > "$work/configured"
}

# --- the tests: the feature -------------------------------------------------------------------

# With what the builder reads it with; the types and keys are those of its documentation.
test_info() {
    chroot "$tree" python3 -c '
import sys, yaml
info = yaml.safe_load(sys.stdin)
assert set(info) == {"description", "type", "features"}, info
assert info["type"] == "flag", info
assert set(info["features"]) <= {"include", "exclude"} and "_legacy" in info["features"]["exclude"], info
' < "$feature/info.yaml"
}

test_lint() {
    (cd "$feature" && shellcheck exec.config exec.late image)
}

test_scripts_are_executable() {
    [[ -x $feature/exec.config && -x $feature/exec.late && -x $feature/image ]]
}

test_configuration_is_valid() {
    "$program" --check-config "$feature/file.include/etc/ostree/prepare-root.conf"
}

# --- the tests: the tree ----------------------------------------------------------------------

initramfs=/usr/lib/modules/$kernel/initramfs.img

test_tree_initramfs() {
    configured || return
    rm -rf "$work/image"
    in_tree sh -c "mkdir /tmp/image && cd /tmp/image && lsinitrd --unpack $initramfs" || return
    mv "$root/tmp/image" "$work/image"
    cmp "$program" "$work/image/usr/lib/ostree/ostree-prepare-root" \
        && cmp "$feature/file.include/etc/ostree/prepare-root.conf" "$work/image/etc/ostree/prepare-root.conf" \
        && [[ -e $work/image/usr/lib/other/file ]]
}

# All that is wished for, ours, and besides only what those depend on.
# shellcheck disable=SC2013
test_tree_dracut_modules() {
    configured || return
    local module included
    included=$(in_tree lsinitrd --mod "$initramfs" | sed '1,/^dracut modules:/d; /^=/d') && [[ $included ]] || return
    for module in ostree $(< "$feature/dracut.modules"); do
        grep -qx "$module" <<< "$included" || { echo "$module is not in the initramfs" && return 1; }
    done
    ! grep -vxE "ostree|$(tr ' ' '|' < "$feature/dracut.modules")|shell-interpreter|systemd-[a-z-]*" <<< "$included"
}

test_tree_command_line() {
    configured && [[ $(< "$root/etc/kernel/cmdline") == 'root=LABEL=ROOT console=tty0 rw consoleblank=0 efi=runtime' ]] \
        && [[ ! -L $root/etc/systemd/system/sysinit.target.wants/ignition-disable.service ]]
}

test_tree_kernel() {
    configured && [[ -s $root/usr/lib/modules/$kernel/vmlinuz && ! $(ls "$root/boot") ]]
}

test_tree_links() {
    configured || return
    local link
    for link in home=var/home root=var/roothome srv=var/srv opt=var/opt mnt=var/mnt media=var/media usr/local=../var/usrlocal \
        ostree=sysroot/ostree; do
        [[ $(readlink "$root/${link%=*}") == "${link#*=}" ]] || { ls -ld "$root/${link%=*}" && return 1; }
    done
    [[ -d $root/sysroot && -d $root/var/usrlocal/bin && -e $root/var/roothome/.profile ]]
}

test_tree_homes() {
    configured && in_tree useradd --create-home late && in_tree adduser --quiet --disabled-password --comment '' later || return
    local user
    for user in early late later; do
        [[ $(in_tree getent passwd "$user" | cut -d : -f 6) == "/var/home/$user" && -d $root/var/home/$user ]] \
            || { in_tree getent passwd "$user"; return 1; }
    done
}

test_tree_has_no_apt() {
    configured || return
    local found
    found=$(cd "$root" && ls -d usr/bin/apt* etc/apt usr/lib/apt usr/lib/systemd/system/apt* var/lib/apt var/cache/apt 2> /dev/null)
    [[ ! $found ]] || { echo "$found" && return 1; }
    in_tree dpkg-query --show ostree
}

test_two_kernels_are_refused() {
    mkdir "$root/usr/lib/modules/9.9.9"
    refuses "OSTree deploys one kernel, and /usr/lib/modules has 2"
}

test_program_left_out_is_refused() {
    rm -r "$work/features/_ostree/file.include/usr/lib/prepare-root"
    refuses "ostree-prepare-root is not in the tree: put prepare-root into file.include"
}

# ostree-boot brings a dracut module of the same name, with another program.
test_libostree_program_is_refused() {
    rm -r "$work/features/_ostree/file.include/usr/lib/dracut/modules.d/40ostree"
    refuses "initramfs.img is without /usr/lib/prepare-root/ostree-prepare-root"
}

# --- the tests: the disk ----------------------------------------------------------------------

# The tar as the builder makes it, and the disk from it.
disk() {
    [[ ! -e $work/disk ]] || return 0
    configured || return
    # Without what is mounted in it.
    mkdir -p "$work/plain"
    mount --bind "$root" "$work/plain"
    tar --create --file "$work/tree.tar" --numeric-owner --xattrs --directory "$work/plain" \
        --exclude ./builder --exclude './dev/*' --exclude './run/*' . || return
    umount "$work/plain"
    mount --bind "$work" "$root/tmp"
    in_tree BUILDER_CNAME=kvm_ostree-amd64-today SIZE=1G /builder/features/_ostree/image /tmp/tree.tar /tmp/disk > "$work/log" 2>&1
    local status=$?
    umount "$root/tmp"
    [[ $status == 0 && -s $work/disk ]] || return 1
    local start size name
    while read -r start size name; do
        dd if="$work/disk" of="$work/$name" bs=512 skip="$start" count="$size" conv=sparse status=none || return
    done < <(sfdisk --dump "$work/disk" | sed -nE 's/.*start= *([0-9]+), size= *([0-9]+),.*name="(.*)"$/\1 \2 \3/p')
}

on_root() {
    debugfs -R "$*" "$work/ROOT" 2> /dev/null
}

test_disk_partitions() {
    disk && [[ $(blkid -o value -s LABEL "$work/EFI") == EFI && $(blkid -o value -s TYPE "$work/EFI") == vfat ]] \
        && [[ $(blkid -o value -s LABEL "$work/ROOT") == ROOT && $(blkid -o value -s TYPE "$work/ROOT") == ext4 ]] \
        && e2fsck -fn "$work/ROOT" > /dev/null 2>&1
}

test_disk_boots_with_systemd_boot() {
    disk || return
    local entry
    mount --bind "$work" "$root/tmp"
    entry=$(in_tree mtype -i /tmp/EFI ::/loader/entries/ostree-1.conf)
    [[ $entry == *'options root=LABEL=ROOT console=tty0 rw consoleblank=0 efi=runtime ostree=/ostree/boot.1/gardenlinux/'* ]] \
        || { echo "$entry" && umount "$root/tmp" && return 1; }
    local file status=0
    for file in /EFI/BOOT/BOOTX64.EFI /EFI/systemd/systemd-bootx64.efi $(sed -n 's/^\(linux\|initrd\) //p' <<< "$entry"); do
        in_tree mdir -b -i /tmp/EFI "::$file" > /dev/null || status=1
    done
    umount "$root/tmp"
    return "$status"
}

test_disk_deployment() {
    disk || return
    local deployment
    deployment=$(on_root ls -p /ostree/deploy/gardenlinux/deploy | sed -n 's|.*/\([0-9a-f]*\.0\)/.*|/ostree/deploy/gardenlinux/deploy/\1|p')
    # Immutable, with a branch that has a remote, and with a /var that is not empty.
    [[ $deployment && $(on_root stat "$deployment") == *'Flags: 0x80010'* ]] \
        && [[ $(on_root cat "$deployment.origin") == *'refspec=origin:gardenlinux/kvm_ostree-amd64-today'* ]] \
        && [[ $(on_root cat "$deployment/etc/fstab") == 'LABEL=EFI /efi vfat '* ]] \
        && [[ $(on_root ls -p /ostree/deploy/gardenlinux/var/home) == */early/* ]]
}

# --- all of them ------------------------------------------------------------------------------

for name in $(compgen -A function test_); do
    [[ $name == *${ONLY-}* ]] || continue
    : > "$work/log"
    # What only looks has one tree and one disk.
    case $name in
        test_tree_* | test_disk_*) ;;
        *) rm -f "$work/configured" "$work/disk" && fresh ;;
    esac
    if "$name" > "$work/why" 2>&1; then
        echo "test ${name#test_} ... ok"
        ((passed += 1))
    else
        echo "test ${name#test_} ... FAILED"
        sed 's/^/    /' "$work/why"
        tail -n 15 "$work/log" | cat -v | sed 's/^/    | /'
        names+=("${name#test_}")
        ((failed += 1))
    fi
done
if mountpoint -q "$root"; then
    umount --recursive "$root"
fi
umount --lazy "$work"

echo
if ((failed)); then
    printf 'failures:\n'
    printf '    %s\n' "${names[@]}"
    echo "test result: FAILED. $passed passed; $failed failed; 0 ignored"
    exit 1
fi
echo "test result: ok. $passed passed; 0 failed; 0 ignored"
