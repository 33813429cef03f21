#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds initramfs images with the dracut and the kernel of a Debian tree and looks at what is in them.
#
#   dracut/test.sh TREE [PROGRAM]      as root; TREE (mmdebstrap ... dracut linux-image-...) is not changed
#
# PROGRAM stands for ostree-prepare-root; nothing runs it here, so any static program will do.

set -u

if (($# < 1)); then
    echo "usage: ${0##*/} TREE [PROGRAM]" >&2
    exit 2
fi
# The mounts below are nobody else's.
if [[ ${OSTREE_DRACUT_TEST-} != unshared ]]; then
    OSTREE_DRACUT_TEST=unshared exec unshare --mount --propagation private "$0" "$@"
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
    rm -rf "$work/upper" "$work/work" "$work/image"
    mkdir -p "$root" "$work/upper" "$work/work"
    mount -t overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    rm -f "$root"/etc/ostree/prepare-root.conf "$root"/usr/lib/ostree/prepare-root.conf
    make --silent --directory "$here/.." install DESTDIR="$root" BIN="$program" > /dev/null
}

configure() {
    mkdir -p "$root/etc/ostree"
    printf '%b' "$1" > "$root/etc/ostree/prepare-root.conf"
}

without_driver() {
    find "$root/usr/lib/modules" -name "$1.ko*" -delete
    depmod --basedir "$root/usr" "$kernel" 2> /dev/null || chroot "$root" depmod "$kernel"
}

# Runs dracut; its output is in $work/log, the files of the image in $work/image.
build() {
    rm -rf "$work/image"
    chroot "$root" dracut --force --no-compress --no-early-microcode --kver "$kernel" "$@" /tmp/image \
        > "$work/log" 2>&1 || return
    # An image can be several archives one after the other, lsinitrd knows.
    mkdir "$root/tmp/unpacked"
    chroot "$root" sh -c 'cd /tmp/unpacked && lsinitrd --unpack /tmp/image' >> "$work/log" 2>&1 || return
    mv "$root/tmp/unpacked" "$work/image"
}

refuses() {
    local pattern=$1
    shift
    if build "$@"; then
        echo "dracut succeeded"
        return 1
    fi
    grep -q "$pattern" "$work/log" || {
        echo "dracut did not say: $pattern"
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

# --- the tests --------------------------------------------------------------------------------

unit=usr/lib/systemd/system/ostree-prepare-root.service
wants=usr/lib/systemd/system/initrd-root-fs.target.wants/ostree-prepare-root.service
break=usr/lib/systemd/system/ostree-prepare-root-break@.service
shell=usr/lib/ostree/break-shell
hook=var/lib/dracut/hooks/pre-pivot/00-boot-ostree-deployment.sh
note=usr/lib/ostree/after-failure
open=usr/lib/ostree/shell-without-password
emergency=var/lib/dracut/hooks/emergency/00-explain-failure.sh
small=(--no-hostonly --modules "ostree shell-interpreter")

# The tree may have ostree-boot's module as well; then this also shows that ours is the one used.
test_default_image() {
    # It asks for the module as well; here our own file is to do it.
    rm -f "$root/etc/dracut.conf.d/ostree.conf"
    configure '[composefs]\nenabled=yes\n'
    build --no-hostonly \
        && our_program && same "$here/40ostree/ostree-prepare-root.service" "$unit" \
        && has "$wants" && same "$root/etc/ostree/prepare-root.conf" etc/ostree/prepare-root.conf \
        && lacks "$hook" && has_driver overlay erofs loop \
        && same "$here/40ostree/${break##*/}" "$break" && [[ -x $work/image/$shell ]] \
        && has "$emergency" && [[ -x $work/image/$note ]] \
        && [[ $(grep -cx ostree "$work/image/usr/lib/dracut/modules.txt") == 1 ]] \
        && [[ $(readlink -f "$work/image/$wants") == "$work/image/$unit" ]]
}

test_add_ostree_hostonly() {
    rm -f "$root"/etc/dracut.conf.d/ostree.conf
    build --hostonly --add ostree --modules "systemd-initrd" && our_program \
        && same "$here/40ostree/ostree-prepare-root.service" "$unit" && has "$wants" && has_driver overlay erofs loop
}

test_without_systemd() {
    build --no-hostonly --omit "systemd systemd-initrd dracut-systemd" \
        && our_program && same "$here/40ostree/boot-ostree-deployment.sh" "$hook" && [[ -x $work/image/$hook ]] \
        && has init usr/bin/dracut-getarg usr/bin/setsid && lacks "$unit" "$wants" "$break" && [[ -x $work/image/$shell ]] \
        && has "$emergency" && [[ -x $work/image/$note ]]
}

# No key that this systemd does not know, and nothing else it finds wrong.
test_units_are_valid() {
    local said
    build --no-hostonly && mkdir -p "$work/image/proc" && mount -t proc proc "$work/image/proc" || return
    cp "$root/usr/bin/systemd-analyze" "$work/image/usr/bin/"
    # From root= on the kernel command line.
    printf '[Mount]\nWhat=/dev/vda\nWhere=/sysroot\n' > "$work/image/etc/systemd/system/sysroot.mount"
    said=$(chroot "$work/image" systemd-analyze verify --man=no --recursive-errors=one \
        ostree-prepare-root.service ostree-prepare-root-break@before.service 2>&1)
    umount "$work/image/proc"
    [[ ! $said ]] || { echo "$said" && return 1; }
}

test_locked() {
    configure '[overrides]\nkernel-arguments = safe\n'
    build --no-hostonly && our_program && lacks "$wants" && has "${wants/wants/requires}" \
        && ! grep ConditionKernelCommandLine "$work/image/$unit" \
        && diff <(grep -v ConditionKernelCommandLine "$here/40ostree/ostree-prepare-root.service") "$work/image/$unit"
}

test_locked_without_systemd() {
    configure '[overrides]\nkernel-arguments=none\n'
    build --no-hostonly --omit "systemd systemd-initrd dracut-systemd" && ! grep "^if getarg" "$work/image/$hook" \
        && grep -qx 'if :; then' "$work/image/$hook" && sh -n "$work/image/$hook" && [[ -x $work/image/$hook ]]
}

test_config_of_usr_and_key() {
    configure '[composefs]\nenabled = signed \nkeypath=/etc/keys/signing key.pub\n'
    mv "$root/etc/ostree/prepare-root.conf" "$root/usr/lib/ostree/prepare-root.conf"
    mkdir -p "$root/etc/keys"
    echo AAAA > "$root/etc/keys/signing key.pub"
    build "${small[@]}" && has usr/lib/ostree/prepare-root.conf "etc/keys/signing key.pub" && lacks etc/ostree/prepare-root.conf
}

test_etc_replaces_usr() {
    mkdir -p "$root/usr/lib/ostree"
    printf '[composefs]\nenabled=signed\n' > "$root/usr/lib/ostree/prepare-root.conf"
    configure '[composefs]\nenabled=no\n'
    without_driver erofs
    build "${small[@]}" && has usr/lib/ostree/prepare-root.conf etc/ostree/prepare-root.conf
}

test_without_ostree_boot() {
    rm -rf "$root"/etc/dracut.conf.d/ostree.conf "$root"/usr/lib/dracut/modules.d/{50,98}ostree \
        "$root"/usr/lib/ostree "$root/${unit:?}"
    build --no-hostonly && our_program && has "$unit" "$wants"
}

test_unusable_config_is_fatal() {
    configure '[sysroot]\nreadonly = true # really\n'
    refuses 'prepare-root.conf cannot be used' "${small[@]}"
}

test_program_missing_is_fatal() {
    rm "$root/usr/lib/prepare-root/ostree-prepare-root"
    refuses 'ostree-prepare-root is missing: reinstall' "${small[@]}"
}

test_package_missing_is_fatal() {
    rm -r "$root/usr/lib/prepare-root"
    refuses 'requirements.sh is missing: reinstall' "${small[@]}"
}

test_program_missing_is_fatal_without_a_kernel() {
    rm "$root/usr/lib/prepare-root/ostree-prepare-root"
    refuses 'ostree-prepare-root is missing: reinstall' "${small[@]}" --no-kernel
}

test_composefs_without_erofs_is_fatal() {
    configure '[composefs]\nenabled=no\n[composefs]\nenabled=true'
    without_driver erofs
    refuses "prepare-root.conf needs drivers that kernel $kernel lacks: erofs$" "${small[@]}"
}

test_composefs_without_erofs_needs_no_kernel() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    build "${small[@]}" --no-kernel && our_program
}

test_omitted_driver_is_fatal() {
    configure '[composefs]\nenabled=verity\n'
    refuses "lacks: erofs$" "${small[@]}" --omit-drivers erofs
}

test_built_in_driver_counts() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    without_driver loop
    echo kernel/fs/erofs/erofs.ko >> "$root/usr/lib/modules/$kernel/modules.builtin"
    build "${small[@]}" && our_program
}

test_plain_machine_needs_no_drivers() {
    without_driver erofs
    without_driver overlay
    without_driver loop
    build "${small[@]}" && our_program && ! grep -q 'ostree: ' "$work/log"
}

test_maybe_without_erofs_warns() {
    configure '[composefs]\nenabled=maybe\n'
    without_driver erofs
    build "${small[@]}" && grep -q 'lacks drivers: erofs: deployments' "$work/log"
}

test_transient_etc_without_overlay_is_fatal() {
    configure '[etc]\ntransient=true\n'
    without_driver erofs
    without_driver overlay
    refuses "lacks: overlay$" "${small[@]}"
}

test_signed_without_key_is_fatal() {
    configure '# [composefs]\n[composefs]\r\nenabled=signed\r\n'
    refuses 'needs public keys, and /etc/ostree/initramfs-root-binding.key is missing' "${small[@]}"
}

test_hidden_key_is_fatal() {
    configure '[composefs]\nenabled=signed\nkeypath=/run/keys/signing.pub\n'
    mkdir -p "$root/run/keys"
    echo AAAA > "$root/run/keys/signing.pub"
    refuses 'keypath=/run/keys/signing.pub will be hidden' "${small[@]}"
}

test_unneeded_key_is_optional() {
    configure '[composefs]\nenabled=yes\nkeypath=/run/keys/signing.pub\n'
    build "${small[@]}" && our_program && lacks run/keys/signing.pub
}

# The tree's kernel under the name of one that cannot mount EROFS from a file.
old_kernel() {
    mv "$root/usr/lib/modules/$kernel" "$root/usr/lib/modules/6.11.99-old"
    local kernel=6.11.99-old
    "$@"
}

test_old_kernel_has_loop() {
    configure '[composefs]\nenabled=yes\n'
    old_kernel build "${small[@]}" && has_driver overlay erofs loop
}

test_old_kernel_without_loop_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    without_driver loop
    old_kernel refuses 'needs drivers that kernel 6.11.99-old lacks: loop$' "${small[@]}"
}

test_new_kernel_needs_no_loop() {
    configure '[composefs]\nenabled=yes\n'
    without_driver loop
    build "${small[@]}" && has_driver overlay erofs
}

test_transient_root_without_overlay_is_fatal() {
    configure '[composefs]\nenabled=yes\n[root]\ntransient=true\ntransient-size=10%\n'
    without_driver overlay
    refuses "lacks: overlay$" "${small[@]}"
}

test_transient_var_needs_no_drivers() {
    configure '[var]\ntransient=true\ntransient-size=1G\n[systemd]\nvolatile-root=false\nremount-fs-dropin=false\n[overrides]\nkernel-arguments=safe\n'
    without_driver overlay
    without_driver erofs
    build "${small[@]}" && our_program && ! grep -q 'ostree: ' "$work/log"
}

test_kernel_only_checks_drivers() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    refuses "lacks: erofs$" "${small[@]}" --kernel-only
}

# The hook as dracut's init sources it: PROGRAM-SCRIPT KERNEL-COMMAND-LINE.
# shellcheck disable=SC2016
run_hook() {
    mkdir -p "$root/usr/lib/ostree"
    printf '#!/bin/sh\necho "program $*"\n%s\n' "$1" > "$root/usr/lib/ostree/ostree-prepare-root"
    printf '#!/bin/sh\necho "break $*"\n' > "$root/usr/lib/ostree/break-shell"
    chmod 0755 "$root"/usr/lib/ostree/{ostree-prepare-root,break-shell}
    ln -s dracut-util "$root/usr/lib/dracut/dracut-getarg"
    chroot "$root" env NEWROOT=/sysroot CMDLINE="$2" dash -c '
        getarg() { /usr/lib/dracut/dracut-getarg "$@"; }
        setsid() { [ "$1" = -c ] && shift && "$@"; }
        emergency_shell() { echo "shell after $ostree_status"; : > /run/fixed; }
        sleep() { :; }
        reboot() { echo "reboot $*"; : > /run/fixed; }
        . /usr/lib/dracut/modules.d/40ostree/boot-ostree-deployment.sh
        echo "over${ostree_status+ after a failure}"' 2>&1 | tr '\n' ';'
}

test_hook_tries_again_after_the_shell() {
    [[ $(run_hook '[ -e /run/fixed ] || exit 7' 'quiet ostree=/ostree/boot.1/x') == 'program --unless-booted /sysroot;shell after 7;program --unless-booted /sysroot;over;' ]]
}

# Whoever can damage a disk would get a shell by it.
test_hook_reboots_where_it_is_locked() {
    mkdir -p "$root/usr/lib/ostree" && : > "$root/usr/lib/ostree/no-shell"
    # shellcheck disable=SC2016
    [[ $(run_hook '[ -e /run/fixed ] || exit 7' 'ostree=/ostree/boot.1/x') == 'program --unless-booted /sysroot;'*'reboot -f;program --unless-booted /sysroot;over;' ]]
}

test_hook_leaves_other_systems_alone() {
    [[ $(run_hook 'exit 1' 'root=/dev/vda androidboot.slot_suffix=_a') == 'over;' ]]
}

test_hook_knows_the_argument_that_picks_a_deployment() {
    [[ $(run_hook '' 'root=/dev/vda ostree.prepare-root.deployment=1') == 'program --unless-booted /sysroot;over;' ]]
}

test_hook_stops_once_before_and_once_after() {
    local said='break before;program --unless-booted /sysroot;shell after 1;program --unless-booted /sysroot;break after;over;'
    [[ $(run_hook '[ -e /run/fixed ]' 'ostree=/x ostree.prepare-root.break=after') == "$said" ]]
}

# What the shell of ostree.prepare-root.break= leaves on the console: PROGRAM-SCRIPT POINT.
break_shell() {
    mkdir -p "$root/usr/lib/ostree"
    printf '#!/bin/sh\n%s\n' "$1" > "$root/usr/lib/ostree/ostree-prepare-root"
    chmod 0755 "$root/usr/lib/ostree/ostree-prepare-root"
    : > "$work/console"
    mount --bind "$work/console" "$root/dev/console"
    chroot "$root" dash /usr/lib/dracut/modules.d/40ostree/break-shell.sh "$2" || return
    cat "$work/console"
}

test_shell_if_the_program_says_so() {
    : > "$root/run/ostree-booted"
    [[ $(break_shell "[ \"\$*\" = '--break-at after' ]" after) == *'/sysroot is the deployment'*'ostree-after:/# '* ]]
}

test_no_shell_if_the_program_does_not_say_so() {
    [[ $(break_shell 'exit 1' before; echo "status $?") == 'status 0' ]]
}

test_no_shell_after_a_failure() {
    [[ $(break_shell 'exit 0' after; echo "status $?") == 'status 0' ]]
}

# What the emergency shell of an image begins with: DRACUT_SYSTEMD RESULT-OF-is-failed STATUS-OF-THE-UNIT
# [STATUS-OF-THE-HOOK]. No kernel argument is given.
explained() {
    [[ -d $work/image ]] || build "${small[@]}" || return
    # In place of systemd's: it answers for the unit.
    printf '#!/bin/sh\ncase "$*" in *is-failed*ostree-prepare-root.service) exit %s ;; *ExecMainStatus*) echo %s ;; esac\n' "$2" "$3" \
        > "$work/image/usr/bin/systemctl"
    mkdir -p "$work/image"/{dev,proc,sysroot}
    # In place of the host's.
    rm -f "$work/image/dev/console"
    : > "$work/image/dev/console"
    mount -t proc proc "$work/image/proc" && mount -t tmpfs -o ro disk "$work/image/sysroot" || return
    # shellcheck disable=SC2016
    env DRACUT_SYSTEMD="$1" NEWROOT=/sysroot ostree_status="${4-}" chroot "$work/image" sh -c 'getargbool() { [ "$1" != 0 ]; }; . "$0"; echo over' "/$emergency"
    umount "$work/image/proc" "$work/image/sysroot"
    cat "$work/image/dev/console"
}

test_emergency_shell_is_explained() {
    local said
    said=$(explained 1 0 7)
    [[ $said == *'ended with exit status 7.'*'At /sysroot: disk (tmpfs, ro).'*'--explain /sysroot'* ]] || { echo "$said" && return 1; }
}

test_emergency_shell_of_a_hook_is_explained() {
    local said
    said=$(explained '' 1 0 9)
    [[ $said == *'ended with exit status 9.'* ]] || { echo "$said" && return 1; }
}

# As systemd-sysusers leaves it in an image for any machine.
test_shell_without_a_password_in_an_image_for_any_machine() {
    build "${small[@]}" && echo 'root:!unprovisioned:20778::::::' > "$work/image/etc/shadow" || return
    [[ $(explained 1 0 1) != *locked* ]] && grep -qx 'root::20778::::::' "$work/image/etc/shadow"
}

test_no_shell_without_a_password_where_it_is_locked() {
    configure '[overrides]\nkernel-arguments = safe\n'
    build "${small[@]}" && echo 'root:!unprovisioned:20778::::::' > "$work/image/etc/shadow" || return
    [[ $(explained 1 0 1) == *'There is no shell, because kernel-arguments='* ]] && grep -q '^root:!' "$work/image/etc/shadow"
}

# Without systemd-sysusers dracut writes a root without a password.
test_nobody_is_let_in_where_it_is_locked() {
    configure '[overrides]\nkernel-arguments = safe\n'
    build "${small[@]}" && rm -f "$work/image/etc/shadow" && echo 'root::0:0::/root:/bin/sh' > "$work/image/etc/passwd" || return
    [[ $(explained 1 0 1) != *SYSTEMD_SULOGIN_FORCE* ]] && grep -q '^root:\*:0:0:' "$work/image/etc/passwd"
}

test_password_of_the_machine_is_kept() {
    build --hostonly --modules "ostree shell-interpreter" && lacks "$open" \
        && echo 'root:!unprovisioned:20778::::::' > "$work/image/etc/shadow" && [[ $(explained 1 0 1) == *locked* ]]
}

test_emergency_of_others_is_not_ours() {
    [[ $(explained 1 1 0) == over && $(explained '' 1 0) == over ]]
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
        tail -n 15 "$work/log" | sed 's/^/    | /'
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
