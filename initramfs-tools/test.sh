#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds initramfs images with the initramfs-tools and the kernel of a Debian tree and looks at what is in them,
# then runs the boot script in one of them, chrooted and without a boot.
#
#   initramfs-tools/test.sh TREE [PROGRAM]      as root; TREE (mmdebstrap ... initramfs-tools linux-image-...) is not changed
#
# PROGRAM stands for ostree-prepare-root: what it says of configurations counts here, and that it is copied.

set -u

if (($# < 1)); then
    echo "usage: ${0##*/} TREE [PROGRAM]" >&2
    exit 2
fi
# The mounts below are nobody else's.
if [[ ${OSTREE_INITRAMFS_TEST-} != unshared ]]; then
    OSTREE_INITRAMFS_TEST=unshared exec unshare --mount --propagation private "$0" "$@"
fi

here=$(realpath "${BASH_SOURCE[0]%/*}")
tree=$(realpath "$1")
program=$(realpath "${2:-$here/../target/$(uname -m)-unknown-linux-musl/release/ostree-prepare-root}")
if [[ ! -x $program ]]; then
    echo "$program: no such program; make build, or name one" >&2
    exit 2
fi
for kernel in "$tree"/usr/lib/modules/*; do kernel=${kernel##*/}; done

work=$(mktemp -d)
# Never into what is mounted there: the host's /dev is.
trap 'rm -rf --one-file-system "$work"' EXIT
mount -t tmpfs -o mode=0755 tmpfs "$work"
root=$work/root
passed=0 failed=0
names=()

# --- one test ---------------------------------------------------------------------------------

# Every test begins with the tree as it is plus `make install`, without any configuration.
fresh() {
    if mountpoint -q "$root"; then
        umount --recursive "$root"
    fi
    rm -rf "$work/upper" "$work/work" "$work/image" "$work/log"
    mkdir -p "$root" "$work/upper" "$work/work"
    mount -t overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    rm -f "$root"/etc/ostree/prepare-root.conf "$root"/usr/lib/ostree/prepare-root.conf
    make --silent --directory "$here/.." install DESTDIR="$root" BIN="$program" > /dev/null
    # Only what these tests look at: seconds less for each image.
    sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
}

configure() {
    mkdir -p "$root/etc/ostree"
    printf '%b' "$1" > "$root/etc/ostree/prepare-root.conf"
}

without_driver() {
    find "$root/usr/lib/modules" -name "$1.ko*" -delete
}

in_tree() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/ "$@"
}

# Runs mkinitramfs; its output is in $work/log, the files of the image in $work/image.
build() {
    rm -rf "$work/image"
    in_tree mkinitramfs -l 1 -o /tmp/image "$kernel" > "$work/log" 2>&1 || return
    # An image can be several archives one after the other, unmkinitramfs knows.
    in_tree unmkinitramfs /tmp/image /tmp/unpacked >> "$work/log" 2>&1 || return
    if [[ -d $root/tmp/unpacked/main ]]; then
        # Compressed files like drivers are in an archive of their own.
        mkdir "$work/image"
        cp -a "$root"/tmp/unpacked/*/. "$work/image"
        rm -rf "$root/tmp/unpacked"
    else
        mv "$root/tmp/unpacked" "$work/image"
    fi
}

refuses() {
    local pattern=$1
    if build; then
        echo "mkinitramfs succeeded"
        return 1
    fi
    grep -q "$pattern" "$work/log" || {
        echo "mkinitramfs did not say: $pattern"
        return 1
    }
}

has() {
    local file
    for file in "$@"; do
        [[ -e $work/image/$file || -L $work/image/$file ]] || {
            echo "$file is not in the image"
            return 1
        }
    done
}

lacks() {
    local file
    for file in "$@"; do
        [[ ! -e $work/image/$file && ! -L $work/image/$file ]] || {
            echo "$file is in the image"
            return 1
        }
    done
}

has_driver() {
    local driver
    for driver in "$@"; do
        [[ $(find "$work/image/usr/lib/modules/" -name "$driver.ko*") ]] || {
            echo "driver $driver is not in the image"
            return 1
        }
    done
}

same() {
    cmp "$1" "$work/image/$2"
}

our_program() {
    same "$program" usr/lib/ostree/ostree-prepare-root
}

silent() {
    ! grep 'ostree' "$work/log"
}

# --- the hook ---------------------------------------------------------------------------------

script=scripts/init-bottom/00-ostree-prepare-root
locked=conf/ostree-prepare-root.locked

test_default_image() {
    configure '[composefs]\nenabled=yes\n'
    build && our_program && same "$here/$script" "$script" && [[ -x $work/image/$script ]] \
        && [[ -x $work/image/usr/lib/ostree/after-failure ]] \
        && same "$root/etc/ostree/prepare-root.conf" etc/ostree/prepare-root.conf \
        && has_driver overlay erofs loop && lacks "$locked" && silent
}

test_without_configuration() {
    build && our_program && has_driver overlay erofs loop && lacks etc/ostree usr/lib/ostree/prepare-root.conf "$locked" && silent
}

# Before others without dependencies, and before udev takes /dev away.
# shellcheck disable=SC2016
test_boot_script_is_first() {
    printf '#!/bin/sh\n:\n' > "$root/etc/initramfs-tools/scripts/init-bottom/0copymods"
    printf '#!/bin/sh\n[ "$1" != prereqs ] || echo nothing-we-know\n' > "$root/etc/initramfs-tools/scripts/init-bottom/aaa"
    chmod 0755 "$root"/etc/initramfs-tools/scripts/init-bottom/*
    build && [[ $(head -n 1 "$work/image/scripts/init-bottom/ORDER") == "/$script "* ]] \
        && grep -q '^/scripts/init-bottom/aaa ' "$work/image/scripts/init-bottom/ORDER" \
        && grep -q '^/scripts/init-bottom/udev ' "$work/image/scripts/init-bottom/ORDER"
}

test_locked() {
    configure '[overrides]\nkernel-arguments = safe\n'
    build && our_program && has "$locked"
}

test_update_initramfs_fails_too() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    : > "$root/boot/initrd.img-$kernel"
    ! in_tree update-initramfs -u -k "$kernel" > "$work/log" 2>&1 && grep -q 'lacks: erofs' "$work/log" \
        && [[ ! -s $root/boot/initrd.img-$kernel ]]
}

# shellcheck disable=SC2016
# copy_exec would leave that one where it is.
test_program_of_another_hook_is_replaced() {
    printf '#!/bin/sh\n[ "$1" = prereqs ] && exit\nmkdir -p $DESTDIR/usr/lib/ostree\necho other > $DESTDIR/usr/lib/ostree/ostree-prepare-root\n' \
        > "$root/usr/share/initramfs-tools/hooks/aaa"
    chmod 0755 "$root/usr/share/initramfs-tools/hooks/aaa"
    build && our_program
}

test_config_of_usr_and_key() {
    configure '[composefs]\nenabled = signed \nkeypath=/etc/keys/signing key.pub\n'
    mkdir -p "$root/usr/lib/ostree" "$root/etc/keys"
    mv "$root/etc/ostree/prepare-root.conf" "$root/usr/lib/ostree/prepare-root.conf"
    echo AAAA > "$root/etc/keys/signing key.pub"
    build && has usr/lib/ostree/prepare-root.conf "etc/keys/signing key.pub" && lacks etc/ostree/prepare-root.conf
}

test_etc_replaces_usr() {
    mkdir -p "$root/usr/lib/ostree"
    printf '[composefs]\nenabled=signed\n' > "$root/usr/lib/ostree/prepare-root.conf"
    configure '[composefs]\nenabled=no\n'
    without_driver erofs
    build && has usr/lib/ostree/prepare-root.conf etc/ostree/prepare-root.conf
}

test_unusable_config_is_fatal() {
    configure '[sysroot]\nreadonly = true # really\n'
    refuses 'prepare-root.conf cannot be used'
}

test_program_missing_is_fatal() {
    rm "$root/usr/lib/prepare-root/ostree-prepare-root"
    refuses 'ostree-prepare-root is missing: reinstall'
}

test_package_missing_is_fatal() {
    rm -r "$root/usr/lib/prepare-root"
    refuses 'requirements.sh is missing: reinstall'
}

test_composefs_without_erofs_is_fatal() {
    configure '[composefs]\nenabled=no\n[composefs]\nenabled=true'
    without_driver erofs
    refuses "prepare-root.conf needs drivers that kernel $kernel lacks: erofs:"
}

test_built_in_driver_counts() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    without_driver loop
    echo kernel/fs/erofs/erofs.ko >> "$root/usr/lib/modules/$kernel/modules.builtin"
    build && our_program
}

test_plain_machine_needs_no_drivers() {
    without_driver erofs
    without_driver overlay
    without_driver loop
    build && our_program && silent
}

test_maybe_without_erofs_warns() {
    configure '[composefs]\nenabled=maybe\n'
    without_driver erofs
    build && our_program && grep -q 'lacks drivers: erofs: deployments' "$work/log"
}

test_transient_etc_without_overlay_is_fatal() {
    configure '[etc]\ntransient=true\n'
    without_driver erofs
    without_driver overlay
    refuses "lacks: overlay:"
}

test_transient_root_without_overlay_is_fatal() {
    configure '[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=10%\n'
    without_driver overlay
    refuses "lacks: overlay:"
}

test_transient_var_needs_no_drivers() {
    configure '[var]\ntransient=true\ntransient-size=1G\n[systemd]\nvolatile-root=false\n[overrides]\nkernel-arguments=safe\n'
    without_driver overlay
    without_driver erofs
    build && our_program && silent
}

test_signed_without_key_is_fatal() {
    configure '# [composefs]\n[composefs]\r\nenabled=signed\r\n'
    refuses 'needs public keys, and /etc/ostree/initramfs-root-binding.key is missing'
}

test_hidden_key_is_fatal() {
    configure '[composefs]\nenabled=signed\nkeypath=/root/signing.pub\n'
    echo AAAA > "$root/root/signing.pub"
    refuses 'keypath=/root/signing.pub will be hidden'
}

test_relative_key_is_fatal() {
    configure '[composefs]\nenabled=signed\nkeypath=signing.pub\n'
    refuses 'keypath=signing.pub'
}

test_unneeded_key_is_optional() {
    configure '[composefs]\nenabled=yes\nkeypath=/run/keys/signing.pub\n'
    build && our_program && lacks run/keys/signing.pub
}

# The tree's kernel under the name of one that cannot mount EROFS from a file.
old_kernel() {
    mv "$root/usr/lib/modules/$kernel" "$root/usr/lib/modules/6.11.99-old"
    local kernel=6.11.99-old
    "$@"
}

test_old_kernel_has_loop() {
    configure '[composefs]\nenabled=yes\n'
    old_kernel build && has_driver overlay erofs loop
}

test_old_kernel_without_loop_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    without_driver loop
    old_kernel refuses 'needs drivers that kernel 6.11.99-old lacks: loop:'
}

test_new_kernel_needs_no_loop() {
    configure '[composefs]\nenabled=yes\n'
    without_driver loop
    build && has_driver overlay erofs
}

# --- the boot script ----------------------------------------------------------------------------

# Runs the boot script in an image, with the image's own shell and functions, as init does. What the
# terminal shows that is its console is in $work/screen, what init would show in $work/init.
#
#   boot PROGRAM-SCRIPT KERNEL-COMMAND-LINE TYPED [VARIABLE=VALUE...]
#
# TYPED are lines for the shells that it starts. In a PID namespace, since a reboot ends only that.
# shellcheck disable=SC2016
boot() {
    local image=$work/image typed=$3
    [[ -d $image ]] || build || return
    printf '#!/bin/sh\n[ "$1" = --break-at ] || echo "program $*"\n%s\n' "$1" > "$image/usr/lib/ostree/ostree-prepare-root"
    printf '#!/bin/sh\necho "rebooted $*"\n: > /rebooted\n' > "$image/usr/bin/reboot"
    printf '#!/bin/sh\nexit\n' > "$image/usr/bin/sleep"
    chmod 0755 "$image"/usr/bin/{reboot,sleep}
    printf '%s\n' "$2" > "$image/cmdline"
    mkdir -p "$image"/{dev,proc,root}
    : > "$image/dev/console"
    shift 3
    cat > "$work/init.sh" << END
mount -t proc proc "$image/proc" && mount --bind "$image/cmdline" "$image/proc/cmdline" &&
    mount -t tmpfs disk "$image/root" && mount --bind "\$(tty)" "$image/dev/console" || exit
exec env -i PATH=/usr/sbin:/usr/bin rootmnt=/root quiet=n panic= $* chroot "$image" /bin/sh -c '/$script && echo over' > "$work/init" 2>&1
END
    rm -f "$work/keyboard"
    mkfifo "$work/keyboard"
    # Never at its end.
    exec 3<> "$work/keyboard"
    printf '%b' "$typed" >&3
    timeout 30 script --quiet --return --command "unshare --mount --pid --fork sh '$work/init.sh'" "$work/typescript" \
        <&3 > "$work/screen" 3>&-
    local status=$?
    exec 3>&-
    # What follows a prompt on a line of its own.
    tr -d '\r' < "$work/screen" | cat - "$work/init" | sed 's/(initramfs) /&\n/g' > "$work/log"
    return "$status"
}

# What `boot` with such a program, command line, keys and variables shows of that, in one line.
calls() {
    boot "$@" || echo "ended with status $?"
    grep -o '^program .*\|^over$\|(initramfs) \|^rebooted.*' "$work/log" | tr '\n' ';'
}

# A program that no break is asked of, and that succeeds once there is the file /fixed.
# shellcheck disable=SC2016
fixable='case $1 in --break-at) exit 1 ;; esac; [ -e /fixed ]'

test_boot_with_a_deployment() {
    : "$(calls 'exit 1' '' '')"
    : > "$work/image/fixed"
    local line
    for line in 'ro ostree=/ostree/boot.1/x quiet' 'quiet ostree' 'root=/dev/vda ostree.prepare-root.deployment=1' \
        '"ostree=/a b" quiet' 'a="b c" ostree=/x' 'dyndbg="file a.c ostree=/x' \
        $'root=/dev/vda rw\nostree=/x\n'; do
        [[ $(calls "$fixable" "$line" '') == *'program --unless-booted /root;'*'over;' ]] || { echo "$line" && return 1; }
    done
}

test_boot_of_another_system() {
    local line
    for line in 'root=/dev/vda androidboot.slot_suffix=_a' '' 'xostree=/x noostree ostreed=1' 'dyndbg="file a.c ostree=/x" ro'; do
        [[ $(calls 'exit 1' "$line" '') == 'over;' ]] || { echo "$line" && return 1; }
    done
}

test_boot_of_a_locked_image() {
    configure '[overrides]\nkernel-arguments = none\n'
    build && : > "$work/image/fixed" && [[ $(calls "$fixable" 'root=/dev/vda' '') == *'program --unless-booted /root;'*'over;' ]]
}

# Also when the program itself is silent: what failed, what is mounted, what to type; then the prompt.
test_shell_after_a_failure() {
    local shown
    shown=$(calls "$fixable" 'ostree=/x' ': > /fixed; exit\n')
    [[ $shown == 'program --unless-booted /root;(initramfs) ;program --unless-booted /root;over;' ]] || { echo "$shown" && return 1; }
    sed '/(initramfs)/,$d' "$work/log" > "$work/above"
    grep -q 'ended with exit status 1\.' "$work/above" && grep -q '^At /root: disk (tmpfs, rw)\.' "$work/above" \
        && grep -q '^  /usr/lib/ostree/ostree-prepare-root --explain /root$' "$work/above"
}

test_shell_again_after_a_second_failure() {
    local shown
    shown=$(calls "$fixable" 'ostree=/x' 'exit\n: > /fixed; exit\n')
    [[ $(grep -o '(initramfs)' <<< "$shown" | wc -l) == 2 && $shown == *';over;' ]] || { echo "$shown" && return 1; }
}

# Whoever can damage a disk would get one by it.
# shellcheck disable=SC2016
test_no_shell_in_a_locked_image() {
    local shown
    configure '[overrides]\nkernel-arguments = none\n'
    build || return
    shown=$(calls 'case $1 in --break-at) exit 1 ;; esac; [ -e /rebooted ]' 'root=/dev/vda' '')
    [[ $shown == 'program --unless-booted /root;rebooted -f;program --unless-booted /root;over;' ]] || { echo "$shown" && return 1; }
    grep -q 'There is no shell, because kernel-arguments=' "$work/log"
}

# And where that does not reboot, the disk is not booted instead.
# shellcheck disable=SC2016
test_panic_reboots_without_a_shell() {
    local shown
    shown=$(calls 'case $1 in --break-at) exit 1 ;; esac; [ -e /rebooted ]' 'ostree=/x panic=5' '' panic=5)
    [[ $shown == 'program --unless-booted /root;rebooted -f;program --unless-booted /root;over;' ]] || { echo "$shown" && return 1; }
    grep -q 'ended with exit status 1\.' "$work/log"
}

test_explanation_is_on_the_console_with_debug() {
    boot "$fixable" 'ostree=/x debug' ': > /fixed; exit\n' debug=y && grep -q 'ended with exit status 1\.' "$work/screen" \
        && grep -q 'program --unless-booted' "$work/screen"
}

test_break_before_and_after() {
    local shown
    shown=$(calls 'exit 0' 'ostree=/x' 'exit\nexit\n')
    [[ $shown == '(initramfs) ;program --unless-booted /root;(initramfs) ;over;' ]] || { echo "$shown" && return 1; }
    grep -q 'break=before: /root is the disk' "$work/log" && grep -q 'break=after: /root is the deployment' "$work/log"
}

test_no_break_with_panic() {
    local shown
    shown=$(calls 'exit 0' 'ostree=/x' '' panic=-1)
    [[ $shown == 'program --unless-booted /root;over;' ]] || { echo "$shown" && return 1; }
    grep -q 'break=before: no shell, because panic= forbids all' "$work/log"
}

# --- all of them ------------------------------------------------------------------------------

for name in $(compgen -A function test_); do
    [[ $name =~ ${ONLY-} ]] || continue
    fresh
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
umount --recursive "$root"
umount --lazy "$work"

echo
if ((failed)); then
    printf 'failures:\n'
    printf '    %s\n' "${names[@]}"
    echo "test result: FAILED. $passed passed; $failed failed; 0 ignored"
    exit 1
fi
echo "test result: ok. $passed passed; 0 failed; 0 ignored"
