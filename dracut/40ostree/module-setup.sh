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
    local -A settings
    local file settings_file program=/usr/lib/prepare-root/ostree-prepare-root
    local root=${dracutsysrootdir-}

    [[ -x $root$program ]] || ostree_fatal \
        "$root$program is missing: reinstall the package prepare-root, or build with --omit ostree"
    inst_binary "$program" /usr/lib/ostree/ostree-prepare-root || exit 1

    for file in /usr/lib/ostree/prepare-root.conf /etc/ostree/prepare-root.conf; do
        if [[ -e $root$file ]]; then
            inst "$file" || exit 1
        fi
    done

    ostree_settings
    # The program judges its configuration itself, unless it is for another kind of machine.
    if [[ -e $settings_file && ! $root ]]; then
        "$program" --check-config "$settings_file" >&2
        case $? in
            0 | 126 | 127) ;;
            *) ostree_fatal "$settings_file cannot be used, see above: mend it" ;;
        esac
    fi
    file=${settings[composefs.keypath]-/etc/ostree/initramfs-root-binding.key}
    if [[ ${settings[composefs.enabled]-} == signed ]]; then
        case $file in
            /dev/* | /proc/* | /run/* | /sys/* | /sysroot/*)
                ostree_fatal "[composefs] keypath=$file will be hidden: the boot mounts something over it;" \
                    "keep the keys elsewhere, /etc/ostree for one"
                ;;
            /*) ;;
            *) ostree_fatal "[composefs] keypath=$file is not an absolute path: mend $settings_file" ;;
        esac
        [[ -s $root$file ]] || ostree_fatal \
            "[composefs] enabled=signed needs public keys, and $root$file is missing or empty:" \
            "put them there, or set keypath= in $settings_file"
    fi
    if [[ -s $root$file ]]; then
        inst "$file" || exit 1
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
    local -A settings
    local settings_file driver image='overlay erofs' needed='' missing=''

    hostonly='' instmods overlay erofs loop

    # Before that, EROFS is mounted from a block device only.
    ! ostree_kernel_is_before 6.12 || image+=' loop'
    ostree_settings
    case ${settings[composefs.enabled]-} in
        yes | true | 1 | verity | signed) needed=$image ;;
        maybe)
            for driver in $image; do
                ostree_has_driver "$driver" || missing+=" $driver"
            done
            [[ ! $missing ]] || dwarn \
                "ostree: kernel $kernel lacks drivers:$missing: deployments with a composefs image will not boot"
            missing=''
            ;;
    esac
    case " ${settings[etc.transient]-} ${settings[root.transient]-} ${settings[root.transient-ro]-} " in
        *' true '* | *' 1 '*) needed=${needed:-overlay} ;;
    esac

    for driver in $needed; do
        ostree_has_driver "$driver" || missing+=" $driver"
    done
    [[ $missing ]] || return 0
    dfatal "ostree: $settings_file needs drivers that kernel $kernel lacks:$missing"
    dfatal "ostree: use a kernel that has them, take them out of omit_drivers=, or change that file"
    return 1
}

ostree_fatal() {
    dfatal "ostree: $*"
    exit 1
}

# Whether $kernel is older than version $1.
ostree_kernel_is_before() {
    [[ $1 != "$(printf '%s\n' "$1" "$kernel" | sort -V | head -n 1)" ]]
}

# Whether kernel arguments must not weaken the configuration. Then leaving out ostree= must not lead
# past the program, into a root that nobody verified.
ostree_is_locked() {
    [[ ${settings[overrides.kernel-arguments]-} == @(safe|none) ]]
}

# Whether driver $1 is built into the kernel or went into the initramfs.
ostree_has_driver() {
    grep -qs "/$1\.ko$" "$srcmods/modules.builtin" && return
    [[ $(find "$initdir/lib/modules/$kernel/" -name "$1.ko*" -print -quit 2> /dev/null) ]]
}

# Fills the caller's `settings` with `group.key` -> value, from its `settings_file`.
ostree_settings() {
    local line group='' key value

    # The first replaces the second, nothing is merged.
    settings_file=${dracutsysrootdir-}/etc/ostree/prepare-root.conf
    [[ -e $settings_file ]] || settings_file=${dracutsysrootdir-}/usr/lib/ostree/prepare-root.conf
    [[ -e $settings_file ]] || return 0

    # `read` trims what it reads.
    while read -r line || [[ $line ]]; do
        case $line in
            '#'*) ;;
            '['*']') group=${line:1:-1} ;;
            *=*)
                read -r key <<< "${line%%=*}"
                read -r value <<< "${line#*=}"
                settings[$group.$key]=$value
                ;;
        esac
    done < <(tr -d '\r' < "$settings_file")
}
