#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Puts ostree-prepare-root and what its configuration needs into the initramfs.
#
# The module is called `ostree` and numbered 40 so that it stands in for the one Debian's
# ostree-boot ships (98ostree, 50ostree in dracut 112): of several directories with one
# module name dracut installs the first. With systemd the program is a service before
# initrd-root-fs.target, without it a pre-pivot hook.
#
# A build that would give an initramfs unable to boot this configuration ends with an error:
# dracut ignores the status of install(), hence the `exit`; that of installkernel() it heeds.
# dracut/test.sh in the source tries all of this on a Debian tree.

# dracut's variables:
# shellcheck disable=SC2154

# Only when asked for, as 50-prepare-root.conf does. What is missing is for install() to say.
check() {
    return 255
}

depends() {
    # For modprobe, and for what the hook and the shell need.
    echo base
}

install() {
    local file

    ostree_requirements
    ostree_check_configuration /sysroot
    inst_binary "$ostree_program" /usr/lib/ostree/ostree-prepare-root || exit 1
    for file in /usr/lib/ostree/prepare-root.conf /etc/ostree/prepare-root.conf; do
        if [[ -e $ostree_root$file ]]; then
            inst "$file" || exit 1
        fi
    done
    if [[ -s $ostree_root$ostree_key ]]; then
        inst "$ostree_key" || exit 1
    fi

    # What is printed above the prompt of the emergency shell.
    inst_script /usr/lib/prepare-root/after-failure /usr/lib/ostree/after-failure || exit 1
    inst_hook emergency 00 "$moddir/explain-failure.sh"
    if ostree_is_locked; then
        # Whoever can damage a disk must not get a shell by it.
        : > "$initdir/usr/lib/ostree/no-shell"
    elif [[ ! $hostonly ]]; then
        # Otherwise the password that root has on this machine is asked for, or nobody is let in.
        : > "$initdir/usr/lib/ostree/shell-without-password"
    fi
    # What ostree.prepare-root.break= starts.
    inst_script "$moddir/break-shell.sh" /usr/lib/ostree/break-shell || exit 1
    if dracut_module_included systemd; then
        for file in ostree-prepare-root.service ostree-prepare-root-break@.service; do
            inst_simple "$moddir/$file" "$systemdsystemunitdir/$file" || exit 1
        done
        file=initrd-root-fs.target.wants
        if ostree_is_locked; then
            file=initrd-root-fs.target.requires
            sed -i '/^ConditionKernelCommandLine=/d' \
                "$initdir$systemdsystemunitdir/ostree-prepare-root.service" || exit 1
        fi
        mkdir -p "$initdir$systemdsystemunitdir/$file"
        ln_r "$systemdsystemunitdir/ostree-prepare-root.service" \
            "$systemdsystemunitdir/$file/ostree-prepare-root.service"
    else
        file=$moddir/boot-ostree-deployment.sh
        if ostree_is_locked; then
            file=$DRACUT_TMPDIR/boot-ostree-deployment.sh
            sed 's/^if getarg ostree .*; then$/if :; then/' "$moddir/boot-ostree-deployment.sh" > "$file" || exit 1
            chmod 0755 "$file" || exit 1
        fi
        # `00-b...`: ahead of every hook that looks into the root or mounts something on it.
        inst_hook pre-pivot 00 "$file"
    fi
}

installkernel() {
    hostonly='' instmods overlay erofs loop

    ostree_requirements
    ostree_check_drivers "$kernel"
    [[ ! $ostree_unsure ]] || dwarn \
        "ostree: kernel $kernel lacks drivers:$ostree_unsure: deployments with a composefs image will not boot"
    [[ $ostree_missing ]] || return 0
    dfatal "ostree: $ostree_configuration needs drivers that kernel $kernel lacks:$ostree_missing"
    dfatal "ostree: use a kernel that has them, take them out of omit_drivers=, or change that file"
    return 1
}

# Brings what this module shares with the hook of initramfs-tools.
ostree_requirements() {
    local file=${dracutsysrootdir-}/usr/lib/prepare-root/requirements.sh

    ostree_root=${dracutsysrootdir-}
    [[ -e $file ]] || ostree_fatal "$file is missing: reinstall the package prepare-root, or build with --omit ostree"
    # shellcheck source=initramfs/requirements.sh
    . "$file"
}

ostree_fatal() {
    dfatal "ostree: $*"
    exit 1
}

# Whether driver $1 is built into the kernel or went into the initramfs.
ostree_has_driver() {
    grep -qs "/$1\.ko$" "$srcmods/modules.builtin" && return
    [[ $(find "$initdir/lib/modules/$kernel/" -name "$1.ko*" -print -quit 2> /dev/null) ]]
}
