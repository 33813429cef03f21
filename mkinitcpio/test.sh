#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs the build hook against stand-ins for what mkinitcpio(8) documents, looks at what it puts into the image,
# and runs the runtime hook with stand-ins for mkinitcpio's init.
#
#   mkinitcpio/test.sh [PROGRAM]      as root
#
# PROGRAM is ostree-prepare-root: what it says of configurations counts here. No mkinitcpio is needed.

set -u

# The mounts below are nobody else's.
if [[ ${OSTREE_MKINITCPIO_TEST-} != unshared ]]; then
    OSTREE_MKINITCPIO_TEST=unshared exec unshare --mount --propagation private "$0" "$@"
fi

here=$(realpath "${BASH_SOURCE[0]%/*}")
program=$(realpath "${1:-$here/../target/$(uname -m)-unknown-linux-musl/release/ostree-prepare-root}")
if [[ ! -x $program ]]; then
    echo "$program: no such program; make build, or name one" >&2
    exit 2
fi
kernel=6.12.0-test

work=$(mktemp -d)
# Never into what is mounted there: the host's /dev is.
trap 'rm -rf --one-file-system "$work"' EXIT
mount -t tmpfs -o mode=0755 tmpfs "$work"
root=$work/root
passed=0 failed=0
names=()

# --- mkinitcpio -------------------------------------------------------------------------------

# The build's side, as far as hooks see it. Kernel modules are files with nothing in them, and their index a list.
cat > "$work/mkinitcpio" << 'END'
BUILDROOT=/image KERNELVERSION=$1 _optmoduleroot=/
shift
HOOKS=("$@")

error() { printf "==> ERROR: $1\n" "${@:2}" >&2; return 1; }
warning() { printf "==> WARNING: $1\n" "${@:2}" >&2; }
map() { local f=$1; shift; for _; do "$f" "$_"; done; }
add_file() {
    local source=$1 to=${2:-$1} mode=${3-}
    [[ $source != - ]] || source=/dev/stdin
    [[ $mode || -f $source ]] || { error 'file not found: %s' "$source"; return; }
    mkdir -p "$BUILDROOT${to%/*}" && cat "$source" > "$BUILDROOT$to" && chmod "${mode:-$(stat -c %a "$source")}" "$BUILDROOT$to"
}
add_binary() { add_file "$@"; }
add_symlink() { mkdir -p "$BUILDROOT${1%/*}" && ln -sfn "$2" "$BUILDROOT$1"; }
add_runscript() {
    local name=${BASH_SOURCE[1]##*/}
    add_file "/usr/lib/initcpio/hooks/$name" "/hooks/$name"
}
modinfo() { grep -s "/${*: -1}\.ko" "/usr/lib/modules/$KERNELVERSION/modules.index"; }
add_module() {
    local from=/usr/lib/modules/$KERNELVERSION file
    [[ $KERNELVERSION != none ]] || return 0
    file=$(modinfo -F filename "${1%\?}")
    if [[ $file ]]; then
        # Files are copied when all hooks are through.
        mkdir -p "$BUILDROOT$from" && echo "$file" >> "$BUILDROOT$from/copied"
    elif ! grep -qs "/${1%\?}\.ko$" "$from/modules.builtin" && [[ $1 != *\? ]]; then
        error "module not found: '%s'" "$1"
    fi
}

for hook in "${HOOKS[@]}"; do
    case $hook in
        systemd) add_systemd_unit() { :; } ;;
        ostree-prepare-root)
            . "/usr/lib/initcpio/install/$hook"
            build
            ;;
    esac
done
echo "the image is written"
END

# The boot's side.
cat > "$work/init" << 'END'
getarg() { sed 's/ /\n/g' /cmdline | sed -n "s/^$1=//p; s/^$1\$/y/p"; }
launch_interactive_shell() { echo shell; : > /fixed; }
run_hookfunctions() { echo "$1"; }
sleep() { :; }
. /hooks/ostree-prepare-root
run_latehook
echo over
END

# --- one test ---------------------------------------------------------------------------------

# Every test begins with this machine's own files plus `make install`, without any configuration.
fresh() {
    if mountpoint -q "$root"; then
        umount --recursive "$root"
    fi
    rm -rf "$work/upper" "$work/work"
    mkdir -p "$root" "$work/upper" "$work/work"
    mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    rm -rf "$root"/etc/ostree "$root"/usr/lib/ostree "$root/image" "$root/usr/lib/modules"
    make --silent --directory "$here/.." install DESTDIR="$root" BIN="$program" > /dev/null
    mkdir -p "$root/usr/lib/modules/$kernel/kernel/fs"
    touch "$root/usr/lib/modules/$kernel/kernel/fs/"{overlay,erofs,loop}.ko.zst
    index
    cp "$work/mkinitcpio" "$work/init" "$root/tmp/"
}

configure() {
    mkdir -p "$root/etc/ostree"
    printf '%b' "$1" > "$root/etc/ostree/prepare-root.conf"
}

index() {
    chroot "$root" find "/usr/lib/modules/$kernel" -name '*.ko.zst' > "$work/index"
    mv "$work/index" "$root/usr/lib/modules/$kernel/modules.index"
}

without_driver() {
    rm "$root/usr/lib/modules/$kernel/kernel/fs/$1.ko.zst"
    index
}

# build HOOK...: what mkinitcpio says is in $work/log.
build() {
    rm -rf "$root/image"
    mkdir "$root/image"
    chroot "$root" bash -u /tmp/mkinitcpio "$kernel" "$@" > "$work/log" 2>&1 && grep -qx 'the image is written' "$work/log"
}

refuses() {
    local pattern=$1
    shift
    if build "$@"; then
        echo "the image was written"
        return 1
    fi
    grep -q "$pattern" "$work/log" || {
        echo "the hook did not say: $pattern"
        return 1
    }
}

has() {
    local file
    for file in "$@"; do
        [[ -e $root/image/$file || -L $root/image/$file ]] || {
            echo "$file is not in the image"
            return 1
        }
    done
}

lacks() {
    local file
    for file in "$@"; do
        [[ ! -e $root/image/$file && ! -L $root/image/$file ]] || {
            echo "$file is in the image"
            return 1
        }
    done
}

has_drivers() {
    local driver
    for driver in overlay erofs loop; do
        grep -qs "/$driver\.ko" "$root/image/usr/lib/modules/$kernel/copied" || {
            echo "driver $driver is not in the image"
            return 1
        }
    done
}

our_program() {
    cmp "$program" "$root/image/usr/lib/ostree/ostree-prepare-root"
}

# --- the tests --------------------------------------------------------------------------------

unit=usr/lib/systemd/system/ostree-prepare-root.service
break=usr/lib/systemd/system/ostree-prepare-root-break@.service
wants=usr/lib/systemd/system/initrd-root-fs.target.wants/ostree-prepare-root.service
hook=hooks/ostree-prepare-root
busybox=(base udev filesystems ostree-prepare-root)
systemd=(base systemd filesystems ostree-prepare-root)

test_lint() {
    shellcheck "$here"/install/* "$here"/hooks/*
}

test_help() {
    [[ $(bash -c '. "$1" && help' - "$here/install/ostree-prepare-root") == *'ostree='*prepare-root.conf* ]]
}

test_busybox_image() {
    configure '[composefs]\nenabled=yes\n'
    build "${busybox[@]}" && our_program && has_drivers && has "$hook" usr/lib/ostree/after-failure && lacks "$unit" "$wants" "$hook.locked" \
        && cmp "$root/etc/ostree/prepare-root.conf" "$root/image/etc/ostree/prepare-root.conf" && [[ -x $root/image/$hook ]]
}

test_systemd_image() {
    build "${systemd[@]}" && our_program && has_drivers && has "$break" && lacks "$hook" && [[ -x $root/image/usr/lib/ostree/break-shell ]] \
        && cmp "$here/../dracut/40ostree/ostree-prepare-root.service" "$root/image/$unit" \
        && [[ $(readlink -f "$root/image/$wants") == "$root/image/$unit" ]]
}

test_systemd_hook_later_is_fatal() {
    refuses 'the hook systemd comes later: put ostree-prepare-root after it' base ostree-prepare-root systemd
}

test_locked_systemd_image() {
    configure '[overrides]\nkernel-arguments = safe\n'
    build "${systemd[@]}" && lacks "$wants" && has "${wants/wants/requires}" && grep -q '^ExecStart=' "$root/image/$unit" \
        && ! grep ConditionKernelCommandLine "$root/image/$unit"
}

test_locked_busybox_image_warns() {
    configure '[overrides]\nkernel-arguments=none\n'
    build "${busybox[@]}" && has "$hook.locked" && grep -q 'does not cover mkinitcpio.s own break=' "$work/log"
}

test_no_configuration_needs_no_drivers() {
    without_driver overlay
    without_driver erofs
    without_driver loop
    build "${busybox[@]}" && our_program && ! grep ' ERROR\| WARNING' "$work/log"
}

test_composefs_without_erofs_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    refuses "prepare-root.conf needs drivers that kernel $kernel lacks: erofs: use" "${busybox[@]}"
    refuses "prepare-root.conf needs drivers that kernel $kernel lacks: erofs: use" "${systemd[@]}"
}

test_driver_gone_from_the_tree_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    rm "$root/usr/lib/modules/$kernel/kernel/fs/erofs.ko.zst"
    refuses "lacks: erofs: use" "${busybox[@]}"
}

test_built_in_driver_counts() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    echo kernel/fs/erofs/erofs.ko > "$root/usr/lib/modules/$kernel/modules.builtin"
    build "${busybox[@]}" && our_program
}

test_maybe_without_erofs_warns() {
    configure '[composefs]\nenabled=maybe\n'
    without_driver erofs
    build "${busybox[@]}" && grep -q 'lacks drivers: erofs: deployments' "$work/log" && ! grep ' ERROR' "$work/log"
}

test_transient_etc_without_overlay_is_fatal() {
    configure '[etc]\ntransient=true\n'
    without_driver overlay
    refuses 'lacks: overlay: use' "${busybox[@]}"
}

test_no_kernel_has_no_drivers() {
    configure '[composefs]\nenabled=yes\n'
    local kernel=none
    build "${busybox[@]}" && our_program
}

test_old_kernel_without_loop_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    without_driver loop
    build "${busybox[@]}" || return
    mv "$root/usr/lib/modules/$kernel" "$root/usr/lib/modules/6.11.9-old"
    local kernel=6.11.9-old
    index
    refuses 'lacks: loop: use' "${busybox[@]}"
}

test_signed_without_key_is_fatal() {
    configure '[composefs]\nenabled=signed\n'
    refuses 'needs public keys, and /etc/ostree/initramfs-root-binding.key is missing' "${busybox[@]}"
}

test_key() {
    configure '[composefs]\nenabled=signed\nkeypath=/etc/keys/signing key.pub\n'
    mkdir -p "$root/etc/keys"
    echo 'y8FOwu8KBmnWbcVwfDzkVKwiHvXXcbB5Ag9KZ2ItE4Q=' > "$root/etc/keys/signing key.pub"
    build "${systemd[@]}" && has 'etc/keys/signing key.pub'
}

# Where the disk will be mounted depends on the other hooks.
test_hidden_key_is_fatal() {
    configure '[composefs]\nenabled=signed\nkeypath=/new_root/key\n'
    mkdir -p "$root/new_root"
    echo 'y8FOwu8KBmnWbcVwfDzkVKwiHvXXcbB5Ag9KZ2ItE4Q=' > "$root/new_root/key"
    refuses 'keypath=/new_root/key will be hidden' "${busybox[@]}"
}

test_unusable_config_is_fatal() {
    configure '[sysroot]\nreadonly = true # really\n'
    refuses 'prepare-root.conf cannot be used' "${busybox[@]}"
}

test_program_missing_is_fatal() {
    rm "$root/usr/lib/prepare-root/ostree-prepare-root"
    refuses 'ostree-prepare-root is missing: reinstall' "${busybox[@]}"
}

test_unit_missing_is_fatal() {
    rm "$root/usr/lib/dracut/modules.d/40ostree/ostree-prepare-root.service"
    refuses 'ostree-prepare-root.service cannot be put into the image' "${systemd[@]}"
    configure '[overrides]\nkernel-arguments = safe\n'
    refuses 'cannot be' "${systemd[@]}"
}

# late PROGRAM-SCRIPT KERNEL-COMMAND-LINE: what the runtime hook does, in one line.
# shellcheck disable=SC2016
late() {
    [[ -d $root/image/hooks ]] || build "${busybox[@]}" || return
    mkdir -p "$root/usr/lib/ostree"
    printf '#!/bin/sh\n[ "$1" != --break-at ] || case " $(cat /cmdline) " in *.break="$2 "*) exit 0 ;; *) exit 1 ;; esac\n%s\n' \
        "echo \"program \$*\"; $1" > "$root/usr/lib/ostree/ostree-prepare-root"
    printf '#!/bin/sh\necho "failed $*"\n' > "$root/usr/lib/ostree/after-failure"
    chmod 0755 "$root"/usr/lib/ostree/{ostree-prepare-root,after-failure}
    rm -rf "$root/fixed" "$root/hooks"
    cp -a "$root/image/hooks" "$root/hooks"
    echo "$2" > "$root/cmdline"
    # What is for the console and the rest go through one pipe, and stay in order.
    rm -f "$work/console"
    mkfifo "$work/console"
    mount --bind "$work/console" "$root/dev/console"
    chroot "$root" timeout 30 busybox ash -c 'exec > /dev/console 2>&1 && . /tmp/init' &
    tr '\n' ';' < "$work/console"
    wait
    umount "$root/dev/console"
}

shows() {
    local expected=$1 shown
    shift
    shown=$(late "$@")
    [[ $shown == "$expected" ]] || { echo "$shown" && return 1; }
}

test_boot() {
    shows 'program --unless-booted /new_root;over;' '' 'quiet ostree=/ostree/boot.1/x rw' \
        && shows 'program --unless-booted /new_root;over;' '' 'ostree.prepare-root.deployment=1'
}

test_boot_of_another_system() {
    shows 'over;' 'exit 1' 'root=/dev/vda androidboot.slot_suffix=_a'
}

test_boot_of_a_locked_image() {
    configure '[overrides]\nkernel-arguments=none\n'
    shows 'program --unless-booted /new_root;over;' '' 'root=/dev/vda'
}

test_shell_after_a_failure() {
    shows 'program --unless-booted /new_root;run_emergencyhook;failed 7 /new_root;shell;program --unless-booted /new_root;over;' \
        '[ -e /fixed ] || exit 7' 'ostree=/x'
}

test_break() {
    local said='Exit the shell to continue the boot.;shell;'
    shows "run_emergencyhook;ostree.prepare-root.break=before: /new_root is the disk as it was mounted. ${said}program --unless-booted /new_root;over;" \
        '' 'ostree=/x ostree.prepare-root.break=before' \
        && shows "program --unless-booted /new_root;run_emergencyhook;ostree.prepare-root.break=after: /new_root is the deployment, /new_root/sysroot the disk. ${said}over;" \
            '' 'ostree=/x ostree.prepare-root.break=after'
}

# --- all of them ------------------------------------------------------------------------------

for name in $(compgen -A function test_); do
    [[ $name == *${ONLY-}* ]] || continue
    fresh
    : > "$work/log"
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
