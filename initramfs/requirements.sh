# shellcheck shell=sh disable=SC2154,SC3043
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What the configuration demands of an initramfs, for the dracut module, the hooks of initramfs-tools and
# mkinitcpio, and prepare-root-mkinitrd, which source this while they build one. The caller has
#
#   ostree_root                 the directory of the system it builds for, or nothing for this one
#   ostree_fatal WORD...        says so and ends the build
#   ostree_has_driver NAME      whether it is built into the kernel or went into the image

# The program, and the configuration that will count: the first replaces the second.
ostree_program=/usr/lib/prepare-root/ostree-prepare-root
ostree_configuration=$ostree_root/etc/ostree/prepare-root.conf
[ -e "$ostree_configuration" ] || ostree_configuration=$ostree_root/usr/lib/ostree/prepare-root.conf

# Prints the value of key $1, as in `group.key`, or $2 if it is not there. The last one counts.
ostree_setting() {
    if [ ! -e "$ostree_configuration" ]; then
        printf '%s\n' "${2-}"
        return
    fi
    tr -d '\r' < "$ostree_configuration" | {
        group='' found=${2-}
        # `read` trims what it reads.
        while read -r line || [ "$line" ]; do
            case $line in
                '#'*) ;;
                '['*']')
                    group=${line#'['}
                    group=${group%']'}
                    ;;
                *=*)
                    read -r key << END
${line%%=*}
END
                    [ "$group.$key" = "$1" ] || continue
                    read -r found << END
${line#*=}
END
                    ;;
            esac
        done
        printf '%s\n' "$found"
    }
}

# Ends the build if the configuration cannot be used by an initramfs that mounts the disk at $1,
# or needs a file that is not there. Sets ostree_key: the file with the keys.
ostree_check_configuration() {
    [ -x "$ostree_root$ostree_program" ] ||
        ostree_fatal "$ostree_root$ostree_program is missing: reinstall the package prepare-root"
    # The program judges its configuration itself, unless it is for another kind of machine.
    if [ -e "$ostree_configuration" ]; then
        "$ostree_root$ostree_program" --check-config "$ostree_configuration" >&2 || case $? in
            126 | 127) ;;
            *) ostree_fatal "$ostree_configuration cannot be used, see above: mend it" ;;
        esac
    fi

    ostree_key=$(ostree_setting composefs.keypath /etc/ostree/initramfs-root-binding.key)
    [ "$(ostree_setting composefs.enabled)" = signed ] || return 0
    case $ostree_key in
        /dev/* | /proc/* | /run/* | /sys/* | "$1"/*)
            ostree_fatal "[composefs] keypath=$ostree_key will be hidden: the boot mounts something over it;" \
                "keep the keys elsewhere, /etc/ostree for one"
            ;;
        /*) ;;
        *) ostree_fatal "[composefs] keypath=$ostree_key is not an absolute path: mend $ostree_configuration" ;;
    esac
    [ -s "$ostree_root$ostree_key" ] ||
        ostree_fatal "[composefs] enabled=signed needs public keys, and $ostree_root$ostree_key is missing or empty:" \
            "put them there, set keypath= in $ostree_configuration, or remove the package prepare-root"
}

# Whether kernel arguments must not weaken the configuration. Then leaving out ostree= must not lead
# past the program, into a root that nobody verified.
ostree_is_locked() {
    case $(ostree_setting overrides.kernel-arguments) in
        safe | none) ;;
        *) return 1 ;;
    esac
}

# Looks for the drivers that the configuration needs with kernel $1. Sets ostree_missing to those that
# are not there, and ostree_unsure to those that a deployment with a composefs image would need.
ostree_check_drivers() {
    local image='overlay erofs' needed='' wanted='' driver

    # Before that, EROFS is mounted from a block device only.
    ostree_is_before "$1" 6.12 && image="$image loop"
    ostree_missing='' ostree_unsure=''
    case $(ostree_setting composefs.enabled) in
        yes | true | 1 | verity | signed) needed=$image ;;
        maybe) wanted=$image ;;
    esac
    case " $(ostree_setting etc.transient) $(ostree_setting root.transient) $(ostree_setting root.transient-ro) " in
        *' true '* | *' 1 '*) needed=${needed:-overlay} ;;
    esac
    for driver in $needed; do
        ostree_has_driver "$driver" || ostree_missing="$ostree_missing $driver"
    done
    for driver in $wanted; do
        ostree_has_driver "$driver" || ostree_unsure="$ostree_unsure $driver"
    done
}

# Whether version $1 is older than $2.
ostree_is_before() {
    [ "$2" != "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" ]
}
