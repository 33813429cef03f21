#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs prepare-root-mkinitrd for kernels that are made up, or for the one of a Debian tree, and looks at the images.
#
#   mkinitrd/test.sh [--tree TREE] [PROGRAM]
#
# PROGRAM is ostree-prepare-root: what it says of configurations counts here. Without TREE (mmdebstrap ... kmod
# linux-image-...) neither root nor a kernel is needed. With it, and as root for its modprobe, it is only what a real
# kernel shows that is tried.

set -u

kind=test_ tree=''
if [[ ${1-} == --tree ]]; then
    kind=tree_ tree=$(realpath "${2:?--tree needs a directory}") || exit 2
    shift 2
fi
here=$(realpath "${BASH_SOURCE[0]%/*}")
program=$(realpath "${1:-$here/../target/$(uname -m)-unknown-linux-musl/release/ostree-prepare-root}")
if [[ ! -x $program ]]; then
    echo "$program: no such program; make build, or name one" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
kernel=6.12.1-test
passed=0 failed=0
names=()

# --- one test ---------------------------------------------------------------------------------

# Every test begins with `make install` and one kernel, without any configuration.
fresh() {
    # Behind a dot it stays when the rest goes.
    [[ -e $work/.installed ]] || make --silent --directory "$here/.." install DESTDIR="$work/.installed" BIN="$program" > /dev/null
    rm -rf "${work:?}"/*
    cp -a "$work/.installed" "$root"
    if [[ $tree ]]; then
        kernel=$(basename "$tree"/usr/lib/modules/*)
        ln -s "$tree/usr/lib/modules" "$root/usr/lib/modules"
        ln -s "$tree/boot" "$root/boot"
    else
        pretend_kernel "$kernel"
    fi
}

# A kernel whose drivers are files with a few words, with the indexes that depmod makes.
pretend_kernel() {
    local modules=$root/usr/lib/modules/$1 driver

    mkdir -p "$modules/kernel"/{block,fs,lib}
    for driver in block/{virtio_blk,hv_vmbus,hv_storvsc,scsi_transport_fc,virtio_scsi,sd_mod,scsi_mod,scsi_common,ahci,libahci,libata,loop,xen-blkfront,lonely} \
        fs/{xfs,overlay,erofs,ext4,jbd2} lib/{libcrc32c,crc32c-fast,crc32c-slow,late}; do
        echo "this is $driver of $1" | xz -c > "$modules/kernel/$driver.ko.xz"
    done
    cat > "$modules/modules.dep" << 'END'
kernel/block/virtio_blk.ko.xz:
kernel/block/lonely.ko.xz:
kernel/block/hv_vmbus.ko.xz:
kernel/block/scsi_transport_fc.ko.xz: kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz
kernel/block/hv_storvsc.ko.xz: kernel/block/scsi_transport_fc.ko.xz kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz kernel/block/hv_vmbus.ko.xz
kernel/block/loop.ko.xz:
kernel/block/xen-blkfront.ko.xz:
kernel/block/scsi_common.ko.xz:
kernel/block/scsi_mod.ko.xz: kernel/block/scsi_common.ko.xz
kernel/block/sd_mod.ko.xz: kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz
kernel/block/virtio_scsi.ko.xz: kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz
kernel/block/libata.ko.xz: kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz
kernel/block/libahci.ko.xz: kernel/block/libata.ko.xz kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz
kernel/block/ahci.ko.xz: kernel/block/libahci.ko.xz kernel/block/libata.ko.xz kernel/block/scsi_mod.ko.xz kernel/block/scsi_common.ko.xz
kernel/fs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/fs/overlay.ko.xz:
kernel/fs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/fs/jbd2.ko.xz:
kernel/fs/ext4.ko.xz: kernel/fs/jbd2.ko.xz
kernel/lib/libcrc32c.ko.xz:
kernel/lib/crc32c-fast.ko.xz:
kernel/lib/crc32c-slow.ko.xz:
kernel/lib/late.ko.xz:
END
    cat > "$modules/modules.builtin" << 'END'
kernel/block/virtio_pci.ko
kernel/block/nvme.ko
kernel/fs/btrfs.ko
END
    cat > "$modules/modules.alias" << 'END'
# Aliases extracted from modules themselves.
alias fs-xfs xfs
alias fs-overlay overlay
alias fs-erofs erofs
alias fs-ext4 ext4
alias fs-ext3 ext4
alias crypto-crc32c crc32c_fast
alias crypto-crc32c crc32c_slow
alias crypto-crc32c-fast crc32c_fast
END
    cat > "$modules/modules.softdep" << 'END'
# Soft dependencies extracted from modules themselves.
softdep libcrc32c pre: crypto-crc32c
softdep libcrc32c pre: no-such-driver virtio_pci
softdep ext4 post: late pre: crc32c_fast
END
    printf 'CONFIG_%s=y\n' MODULE_DECOMPRESS MODULE_COMPRESS_XZ RD_ZSTD RD_XZ RD_GZIP > "$modules/config"
}

configure() {
    mkdir -p "$root/etc/ostree"
    printf '%b' "$1" > "$root/etc/ostree/prepare-root.conf"
}

choose() {
    mkdir -p "$root/etc/prepare-root"
    printf '%b' "$1" > "$root/etc/prepare-root/mkinitrd.conf"
}

without_driver() {
    rm "$root/usr/lib/modules/$kernel"/kernel/*/"$1.ko.xz"
}

# Edits file $1 of the kernel: an index, or its configuration.
edit() {
    sed -i "$2" "$root/usr/lib/modules/$kernel/$1"
}

mkinitrd() {
    "$root/usr/sbin/prepare-root-mkinitrd" --root "$root" "$@" > "$work/log" 2>&1
}

# Makes an image and unpacks it into $work/image. Not root, and with another archiver.
build() {
    mkinitrd --output "$work/initrd" --compress none "$@" && unpack "$work/initrd"
}

unpack() {
    rm -rf "$work/image"
    mkdir "$work/image"
    if ! (cd "$work/image" && cpio --extract --quiet) < "$1" 2> "$work/cpio" || [[ -s $work/cpio ]]; then
        cat "$work/cpio"
        return 1
    fi
}

refuses() {
    local pattern=$1
    shift
    echo old > "$work/initrd"
    if mkinitrd --output "$work/initrd" "$@"; then
        echo "the image was made"
        return 1
    fi
    grep -q -- "$pattern" "$work/log" || { echo "it did not say: $pattern" && return 1; }
    # The last image is as it was, and nothing lies around.
    [[ $(cat "$work/initrd") == old && $(echo "$work"/initrd*) == "$work/initrd" ]] \
        || { ls "$work" && return 1; }
}

# Whether the list, without comment and directories, is what comes on stdin.
lists() {
    sed "/^#/d; s,/lib/modules/$kernel/kernel/,," "$work/image/etc/prepare-root/modules" > "$work/list"
    diff "$work/list" -
}

# Whether every driver is in the list, and the other way round.
complete() {
    diff <(sed '/^#/d; s/.* //' "$work/image/etc/prepare-root/modules" | sort -u) \
        <(cd "$work/image" && find lib/modules -type f -printf '/%p\n' | sort)
}

has() {
    local path
    for path in "$@"; do
        [[ -e $work/image/$path ]] || { echo "$path is not in the image" && return 1; }
    done
}

lacks() {
    local path
    for path in "$@"; do
        [[ ! -e $work/image/$path ]] || { echo "$path is in the image" && return 1; }
    done
}

same() {
    cmp "$1" "$work/image/$2"
}

# --- what is in the image ---------------------------------------------------------------------

test_help_and_version() {
    local version
    version=$("$program" --version)
    mkinitrd --help && grep -q '^usage: prepare-root-mkinitrd ' "$work/log" && [[ $(wc -L < "$work/log") -le 100 ]] \
        && mkinitrd --version && [[ $(cat "$work/log") == "prepare-root-mkinitrd (prepare-root) ${version##* }" ]]
}

test_misuse() {
    local arguments
    for arguments in '--what' '--kver' 'file' '--compress='; do
        mkinitrd "$arguments"
        [[ $? == 2 ]] || { echo "$arguments is no misuse" && return 1; }
        grep -q ': see --help$' "$work/log" || return
    done
}

# Mode, owner and path of all that is in the archive.
listing() {
    cpio --list --verbose --numeric-uid-gid --quiet < "$work/initrd" | awk '{ print $1, $3, $4, $9, $10, $11 }' | sed 's/ *$//'
}

test_everything_in_it() {
    build --modules virtio_blk && same "$program" init \
        && same "$root/usr/lib/modules/$kernel/kernel/block/virtio_blk.ko.xz" "lib/modules/$kernel/kernel/block/virtio_blk.ko.xz" \
        && listing | diff - <(
            cat << END
drwxr-xr-x 0 0 dev
drwxr-xr-x 0 0 etc
drwxr-xr-x 0 0 etc/prepare-root
-rw-r--r-- 0 0 etc/prepare-root/modules
-rwxr-xr-x 0 0 init
drwxr-xr-x 0 0 lib
drwxr-xr-x 0 0 lib/modules
drwxr-xr-x 0 0 lib/modules/$kernel
drwxr-xr-x 0 0 lib/modules/$kernel/kernel
drwxr-xr-x 0 0 lib/modules/$kernel/kernel/block
-rw-r--r-- 0 0 lib/modules/$kernel/kernel/block/virtio_blk.ko.xz
drwxr-xr-x 0 0 proc
drwxr-xr-x 0 0 run
drwxr-xr-x 0 0 sbin
lrwxrwxrwx 0 0 sbin/modprobe -> ../init
drwxr-xr-x 0 0 sys
drwxr-xr-x 0 0 sysroot
END
        )
}

# --- which drivers ----------------------------------------------------------------------------

test_dependencies_come_first_and_once() {
    build --modules ahci,virtio_scsi && complete && lists << 'END'
block/scsi_common.ko.xz
block/scsi_mod.ko.xz
block/libata.ko.xz
block/libahci.ko.xz
block/ahci.ko.xz
block/sd_mod.ko.xz
block/virtio_scsi.ko.xz
END
}

# Soft dependencies by alias and by name, such as are not there or built in, and those that come after.
test_file_systems_wait_until_they_are_asked_for() {
    build --modules erofs,ext4,virtio_blk,xfs && complete && lists << 'END'
block/virtio_blk.ko.xz
fs-erofs lib/crc32c-fast.ko.xz
fs-erofs lib/crc32c-slow.ko.xz
fs-erofs lib/libcrc32c.ko.xz
fs-erofs fs/erofs.ko.xz
fs-ext4 lib/crc32c-fast.ko.xz
fs-ext4 fs/jbd2.ko.xz
fs-ext4 fs/ext4.ko.xz
fs-ext4 lib/late.ko.xz
fs-ext3 lib/crc32c-fast.ko.xz
fs-ext3 fs/jbd2.ko.xz
fs-ext3 fs/ext4.ko.xz
fs-ext3 lib/late.ko.xz
fs-xfs lib/crc32c-fast.ko.xz
fs-xfs lib/crc32c-slow.ko.xz
fs-xfs lib/libcrc32c.ko.xz
fs-xfs fs/xfs.ko.xz
END
}

test_what_is_loaded_at_the_start_is_not_asked_for_again() {
    build --modules xfs,libcrc32c && complete && lists << 'END'
lib/crc32c-fast.ko.xz
lib/crc32c-slow.ko.xz
lib/libcrc32c.ko.xz
fs-xfs fs/xfs.ko.xz
END
}

# Other machines refuse hv_vmbus, and then these have no symbols.
test_drivers_of_hyper_v_wait_for_its_bus() {
    build --modules hv_storvsc,scsi && complete && lists << 'END'
block/hv_vmbus.ko.xz
/sys/bus/vmbus block/scsi_common.ko.xz
/sys/bus/vmbus block/scsi_mod.ko.xz
/sys/bus/vmbus block/scsi_transport_fc.ko.xz
/sys/bus/vmbus block/hv_storvsc.ko.xz
block/scsi_common.ko.xz
block/scsi_mod.ko.xz
block/sd_mod.ko.xz
END
}

test_default() {
    build && complete && lists << 'END' && grep -q '^absent .* virtio_mmio vmd ata_piix ' "$work/log"
block/virtio_blk.ko.xz
block/scsi_common.ko.xz
block/scsi_mod.ko.xz
block/virtio_scsi.ko.xz
block/sd_mod.ko.xz
block/libata.ko.xz
block/libahci.ko.xz
block/ahci.ko.xz
block/xen-blkfront.ko.xz
block/hv_vmbus.ko.xz
/sys/bus/vmbus block/scsi_transport_fc.ko.xz
/sys/bus/vmbus block/hv_storvsc.ko.xz
fs-ext4 lib/crc32c-fast.ko.xz
fs-ext4 fs/jbd2.ko.xz
fs-ext4 fs/ext4.ko.xz
fs-ext4 lib/late.ko.xz
fs-ext3 lib/crc32c-fast.ko.xz
fs-ext3 fs/jbd2.ko.xz
fs-ext3 fs/ext4.ko.xz
fs-ext3 lib/late.ko.xz
fs-xfs lib/crc32c-fast.ko.xz
fs-xfs lib/crc32c-slow.ko.xz
fs-xfs lib/libcrc32c.ko.xz
fs-xfs fs/xfs.ko.xz
fs-overlay fs/overlay.ko.xz
fs-erofs lib/crc32c-fast.ko.xz
fs-erofs lib/crc32c-slow.ko.xz
fs-erofs lib/libcrc32c.ko.xz
fs-erofs fs/erofs.ko.xz
END
}

test_default_and_more() {
    build --modules=default,lonely && grep -q 'xfs' "$work/image/etc/prepare-root/modules" \
        && [[ $(grep -c lonely "$work/image/etc/prepare-root/modules") == 1 ]]
}

test_names_with_dashes_and_underscores() {
    build --modules xen_blkfront,virtio-blk,crc32c_slow && lists << 'END'
block/xen-blkfront.ko.xz
block/virtio_blk.ko.xz
lib/crc32c-slow.ko.xz
END
}

test_built_in_drivers_are_there() {
    build --modules virtio_pci,btrfs,nvme && lists < /dev/null && lacks lib && ! grep ' btrfs' "$work/log"
}

test_missing_driver_is_fatal() {
    refuses "--modules nothing: kernel $kernel has no such driver" --modules virtio,nothing
    refuses "--modules f2fs: kernel" --modules default,f2fs
}

test_missing_group_is_fatal() {
    refuses "--modules mmc: kernel $kernel has no such driver" --modules mmc
}

test_missing_dependency_is_fatal() {
    without_driver libahci
    refuses 'has no driver libahci, which another needs' --modules ahci
}

test_loop_is_for_old_kernels() {
    pretend_kernel 6.11.99-old
    local kernel=6.11.99-old
    build --kver "$kernel" && grep -q '^/.*/loop.ko.xz$' "$work/image/etc/prepare-root/modules"
}

test_loop_by_name() {
    build --modules loop && lists << 'END'
block/loop.ko.xz
END
}

# --- configuration and keys -------------------------------------------------------------------

test_configuration_of_both_places() {
    configure '[composefs]\nenabled=no\n'
    mkdir -p "$root/usr/lib/ostree"
    echo '# of the system' > "$root/usr/lib/ostree/prepare-root.conf"
    build && same "$root/etc/ostree/prepare-root.conf" etc/ostree/prepare-root.conf \
        && same "$root/usr/lib/ostree/prepare-root.conf" usr/lib/ostree/prepare-root.conf
}

test_key() {
    configure '[composefs]\nenabled=signed\nkeypath=/etc/keys/signing key.pub\n'
    mkdir -p "$root/etc/keys"
    echo 'y8FOwu8KBmnWbcVwfDzkVKwiHvXXcbB5Ag9KZ2ItE4Q=' > "$root/etc/keys/signing key.pub"
    build && same "$root/etc/keys/signing key.pub" 'etc/keys/signing key.pub'
}

test_signed_without_key_is_fatal() {
    configure '[composefs]\nenabled=signed\n'
    refuses 'needs public keys, and .*/etc/ostree/initramfs-root-binding.key is missing'
}

test_hidden_key_is_fatal() {
    configure '[composefs]\nenabled=signed\nkeypath=/sysroot/key\n'
    refuses 'keypath=/sysroot/key will be hidden'
}

test_unusable_configuration_is_fatal() {
    configure '[sysroot]\nreadonly = true # really\n'
    refuses 'prepare-root.conf cannot be used'
}

# A program that does not run here judges no configuration.
test_program_for_another_machine() {
    configure '[sysroot]\nreadonly = true # really\n'
    # The machine's number in the ELF header: none.
    printf '\0\0' | dd of="$root/usr/lib/prepare-root/ostree-prepare-root" bs=1 seek=18 conv=notrunc status=none
    build && same "$root/usr/lib/prepare-root/ostree-prepare-root" init
}

test_program_missing_is_fatal() {
    rm "$root/usr/lib/prepare-root/ostree-prepare-root"
    refuses 'ostree-prepare-root is missing: reinstall'
}

test_package_missing_is_fatal() {
    cp "$root/usr/sbin/prepare-root-mkinitrd" "$work/copy"
    rm -r "$root/usr/lib/prepare-root"
    refuses 'requirements.sh is missing: reinstall'
}

# Whoever names the disk and its file system has not thought of these.
test_configured_drivers_are_added() {
    configure '[composefs]\nenabled=yes\n'
    build --modules virtio_blk && complete && lists << 'END'
block/virtio_blk.ko.xz
fs-overlay fs/overlay.ko.xz
fs-erofs lib/crc32c-fast.ko.xz
fs-erofs lib/crc32c-slow.ko.xz
fs-erofs lib/libcrc32c.ko.xz
fs-erofs fs/erofs.ko.xz
END
}

test_composefs_without_erofs_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    refuses "prepare-root.conf needs drivers that kernel $kernel lacks: erofs:"
}

test_composefs_with_built_in_erofs() {
    configure '[composefs]\nenabled=yes\n'
    without_driver erofs
    echo kernel/fs/erofs.ko >> "$root/usr/lib/modules/$kernel/modules.builtin"
    build --modules virtio_blk && lists << 'END'
block/virtio_blk.ko.xz
fs-overlay fs/overlay.ko.xz
END
}

test_maybe_without_erofs_warns() {
    configure '[composefs]\nenabled=maybe\n'
    without_driver erofs
    build && grep -q 'warning: .* lacks drivers: erofs: deployments' "$work/log"
}

test_transient_etc_without_overlay_is_fatal() {
    configure '[etc]\ntransient=true\n'
    without_driver overlay
    refuses 'lacks: overlay:'
}

test_old_kernel_without_loop_is_fatal() {
    configure '[composefs]\nenabled=yes\n'
    mv "$root/usr/lib/modules/$kernel" "$root/usr/lib/modules/6.11.99-old"
    local kernel=6.11.99-old
    without_driver loop
    refuses 'needs drivers that kernel 6.11.99-old lacks: loop:'
}

# --- compression ------------------------------------------------------------------------------

test_every_compression_has_the_same_archive() {
    local how
    mkinitrd --output "$work/plain" --compress none || return
    for how in zstd xz gzip; do
        mkinitrd --output "$work/initrd" --compress "$how" && "$how" -dc < "$work/initrd" | cmp - "$work/plain" || return
    done
    # The kernel's decoder knows no other checksum.
    mkinitrd --output "$work/initrd.xz" --compress xz && [[ $(xz --robot --list "$work/initrd.xz" | cut -f 7 | tail -n 1) == CRC32 ]]
}

# Only with the tools of every Debian.
with_few_tools() {
    local tool
    mkdir -p "$work/bin"
    for tool in bash cat chmod grep gzip head mktemp mv realpath rm sed sort stat sync tr "$@"; do
        ln -sf "$(type -P "$tool")" "$work/bin/$tool"
    done
    PATH=$work/bin
}

test_gzip_where_there_is_no_zstd() {
    (with_few_tools && mkinitrd --output "$work/initrd") && gzip -t < "$work/initrd" && grep -q 'bytes, gzip' "$work/log"
}

test_zstd_otherwise() {
    mkinitrd --output "$work/initrd" && zstd -tq < "$work/initrd" && grep -q 'bytes, zstd' "$work/log"
}

test_missing_compressor_is_fatal() {
    (with_few_tools cat ls && refuses 'xz is not installed' --compress xz)
}

test_unknown_compression_is_fatal() {
    refuses '--compress lz4: it can be' --compress lz4
}

test_kernel_that_cannot_decompress_is_fatal() {
    edit config '/RD_ZSTD/d'
    refuses 'cannot read an image compressed with zstd (CONFIG_RD_ZSTD)' --compress zstd
}

test_kernel_that_cannot_decompress_drivers() {
    edit config '/MODULE_DECOMPRESS/d'
    build --modules virtio_blk,xfs && complete && grep -q '^drivers .*, decompressed$' "$work/log" \
        && [[ $(cat "$work/image/lib/modules/$kernel/kernel/fs/xfs.ko") == "this is fs/xfs of $kernel" ]] \
        && lacks "lib/modules/$kernel/kernel/fs/xfs.ko.xz"
}

test_kernel_that_decompresses_others() {
    edit config 's/MODULE_COMPRESS_XZ/MODULE_COMPRESS_ZSTD/'
    build --modules xfs && has "lib/modules/$kernel/kernel/fs/xfs.ko"
}

test_kernel_with_unknown_configuration() {
    rm "$root/usr/lib/modules/$kernel/config"
    build --modules xfs && has "lib/modules/$kernel/kernel/fs/xfs.ko" || return
    (with_few_tools ls && refuses 'is not known to read compressed drivers .*, and xz is not installed' --modules xfs)
}

test_configuration_of_the_kernel_in_boot() {
    mkdir "$root/boot"
    mv "$root/usr/lib/modules/$kernel/config" "$root/boot/config-$kernel"
    build --modules xfs && has "lib/modules/$kernel/kernel/fs/xfs.ko.xz"
}

test_drivers_with_other_compressions() {
    local modules=$root/usr/lib/modules/$kernel
    edit config '/MODULE_DECOMPRESS/d'
    edit modules.dep 's/xfs.ko.xz/xfs.ko.zst/; s/virtio_blk.ko.xz/virtio_blk.ko.gz/; s/loop.ko.xz/loop.ko/'
    (cd "$modules/kernel" && xz -d fs/xfs.ko.xz block/{virtio_blk,loop}.ko.xz && zstd -q --rm fs/xfs.ko && gzip block/virtio_blk.ko)
    build --modules xfs,virtio_blk,loop && complete && [[ $(cat "$work/image/lib/modules/$kernel"/kernel/{fs/xfs,block/{virtio_blk,loop}}.ko) \
        == "this is fs/xfs of $kernel"$'\n'"this is block/virtio_blk of $kernel"$'\n'"this is block/loop of $kernel" ]]
}

test_damaged_driver_is_fatal() {
    edit config '/MODULE_DECOMPRESS/d'
    echo nonsense > "$root/usr/lib/modules/$kernel/kernel/fs/xfs.ko.xz"
    refuses 'xfs.ko cannot be put into the image'
}

# --- failures in the middle -------------------------------------------------------------------

# A tool of this name that says a few words and fails.
broken() {
    mkdir -p "$work/bin"
    printf '#!/bin/sh\necho half; exit 1\n' > "$work/bin/$1"
    chmod 0755 "$work/bin/$1"
}

test_broken_tools_are_fatal() {
    local tool
    mkdir "$work/tmp"
    for tool in zstd stat sync; do
        broken "$tool"
        PATH=$work/bin:$PATH TMPDIR=$work/tmp refuses 'initrd cannot be written, see above' --compress zstd || { echo "$tool" && return 1; }
        rm "$work/bin/$tool"
        # Nor does anything stay in /tmp.
        [[ ! $(ls "$work/tmp") ]] || { ls "$work/tmp" && return 1; }
    done
}

# --- the same bytes ---------------------------------------------------------------------------

test_reproducible() {
    configure '[composefs]\nenabled=yes\n'
    local how
    for how in zstd xz gzip none; do
        mkinitrd --output "$work/first.$how" --compress "$how" || return
    done
    # Elsewhere, later, with other rights and inodes, another language and another order of directories.
    cp -r "$root" "$work/elsewhere"
    find "$work/elsewhere" -type f -exec touch {} +
    chmod -R go-rwx "$work/elsewhere"
    for how in zstd xz gzip none; do
        (umask 077 && cd / && TZ=Pacific/Kiritimati LC_ALL=C.UTF-8 TMPDIR=$work/elsewhere "$work/elsewhere/usr/sbin/prepare-root-mkinitrd" \
            --root "$work/elsewhere" --output "$work/second" --compress "$how" > "$work/log" 2>&1) || return
        cmp "$work/first.$how" "$work/second" && [[ $(stat -c %a "$work/second") == 644 ]] || return
    done
}

dates() {
    TZ=UTC cpio --list --verbose --quiet < "$work/initrd" | awk '{ print $6, $7, $8, $9 }'
}

test_source_date_epoch() {
    SOURCE_DATE_EPOCH=1000000000 build && ! dates | grep -v '^Sep 9 2001 ' && build && ! dates | grep -v '^Jan 1 1970 ' || return
    SOURCE_DATE_EPOCH=yesterday refuses 'must be a number'
}

# --- kernels ----------------------------------------------------------------------------------

test_output_beside_the_kernel() {
    mkinitrd && zstd -tq < "$root/usr/lib/modules/$kernel/initramfs.img"
}

test_one_of_several_kernels_must_be_named() {
    pretend_kernel 6.13.0-other
    refuses 'has several kernels: name one with --kver: 6.12.1-test 6.13.0-other' || return
    mkinitrd --kver 6.13.0-other && [[ -e $root/usr/lib/modules/6.13.0-other/initramfs.img && ! -e $root/usr/lib/modules/$kernel/initramfs.img ]]
}

test_all_kernels() {
    pretend_kernel 6.13.0-other
    # A kernel that was removed.
    mkdir "$root/usr/lib/modules/6.10.0-gone"
    touch "$root/usr/lib/modules/6.10.0-gone/modules.dep"
    mkinitrd --kver all --output "$work/%v.img" && [[ $(cd "$work" && echo ./*.img) == './6.12.1-test.img ./6.13.0-other.img' ]] || return
    refuses 'all images would have the same name' --kver all
}

# One that fails does not keep the others from being made.
test_all_kernels_but_one() {
    pretend_kernel 6.13.0-other
    rm "$root/usr/lib/modules/$kernel/modules.dep"
    ! mkinitrd --kver all --output "$work/%v.img" && grep -q "$kernel/modules.dep is missing: run depmod $kernel" "$work/log" \
        && [[ $(cd "$work" && echo ./*.img) == ./6.13.0-other.img ]]
}

test_no_kernel() {
    rm -r "$root/usr/lib/modules/$kernel"
    mkinitrd --kver all && refuses 'has no kernel: install one'
}

test_unknown_kernel_is_fatal() {
    refuses 'there is no kernel 6.12.2 in' --kver 6.12.2 && refuses 'this is no version' --kver ../6.12.2
}

test_output_that_cannot_be_written() {
    ! mkinitrd --output "$work/nowhere/initrd" && grep -q 'nowhere/initrd cannot be written, see above' "$work/log"
}

# --- when chosen ------------------------------------------------------------------------------

hook() {
    local directory=$1
    shift
    mkdir -p "$work/bin"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nexec "%s" --root "%s" "$@"\n' "$root/usr/sbin/prepare-root-mkinitrd" "$root" > "$work/bin/prepare-root-mkinitrd"
    chmod 0755 "$work/bin/prepare-root-mkinitrd"
    PATH=$work/bin:$PATH run-parts --report --exit-on-error --arg="$1" --arg="/boot/vmlinuz-$1" \
        "$root/usr/share/kernel/$directory.d" > "$work/log" 2>&1
}

test_hooks_do_nothing_unless_chosen() {
    local image=$root/usr/lib/modules/$kernel/initramfs.img
    hook postinst "$kernel" && [[ ! -s $work/log && ! -e $image ]] || return
    choose '# not yet\ngenerate=no\nmodules=loop\n'
    hook postinst "$kernel" && [[ ! -s $work/log && ! -e $image ]] || return
    : > "$image"
    hook postrm "$kernel" && [[ -e $image ]]
}

test_hooks_when_chosen() {
    local image=$root/usr/lib/modules/$kernel/initramfs.img
    choose 'generate = yes\nmodules = virtio_blk, loop\ncompress=gzip\n'
    hook postinst "$kernel" && gzip -dc < "$image" > "$work/plain" && unpack "$work/plain" && lists << 'END' || return
block/virtio_blk.ko.xz
block/loop.ko.xz
END
    hook postrm "$kernel" && [[ ! -e $image ]]
}

test_hooks_and_what_dpkg_does() {
    local image=$root/usr/lib/modules/$kernel/initramfs.img
    choose 'generate=yes\n'
    DEB_MAINT_PARAMS='abort-upgrade 1.0' hook postinst "$kernel" && [[ ! -e $image ]] || return
    DEB_MAINT_PARAMS='configure 1.0' hook postinst "$kernel" && [[ -e $image ]] || return
    DEB_MAINT_PARAMS='upgrade 1.0' hook postrm "$kernel" && [[ -e $image ]] || return
    DEB_MAINT_PARAMS=remove hook postrm "$kernel" && [[ ! -e $image ]] || return
    DEB_MAINT_PARAMS=purge hook postrm "$kernel"
}

test_hook_fails_with_the_image() {
    choose 'generate=yes\nmodules=nothing\n'
    ! hook postinst "$kernel" && grep -q 'has no such driver' "$work/log"
}

test_output_of_the_configuration() {
    choose 'output=/boot/solo-%v.img\nmodules=nothing\n'
    mkdir "$root/boot"
    mkinitrd --modules loop && [[ -s $root/boot/solo-$kernel.img ]] || return
    choose 'output=boot/solo.img\n'
    ! mkinitrd --modules loop && grep -q 'output= must be an absolute path' "$work/log"
}

test_unusable_choice_is_fatal() {
    choose 'generate=yes\nmodule=virtio\n'
    refuses 'mkinitrd.conf: only .* can be there, and not: module=virtio' && choose 'generate=perhaps\n' && refuses 'generate= must be yes or no'
}

# --- a real kernel ----------------------------------------------------------------------------

# What modprobe of the tree would load for $1, in its order.
modprobe_loads() {
    chroot "$tree" modprobe --show-depends --set-version "$kernel" "$1" > "$work/modprobe" 2>&1 || { cat "$work/modprobe" && return 1; }
    sed -n "s,^insmod \(.*[^ ]\) *$,\1,p" "$work/modprobe"
}

tree_drivers_at_the_start_are_those_of_modprobe() {
    local driver
    build && complete || return
    for driver in virtio_blk virtio_scsi sd_mod ahci ata_piix xen_blkfront hv_storvsc; do
        modprobe_loads "$driver" > "$work/loads" || { cat "$work/loads" && return 1; }
        sed 's,^/sys/bus/vmbus ,,' "$work/image/etc/prepare-root/modules" | grep -Fx -f "$work/loads" | sort > "$work/listed"
        sort "$work/loads" | diff - "$work/listed" || { echo "for $driver" && return 1; }
    done
}

# But for btrfs, of whose softdep lines modprobe takes the first.
tree_drivers_of_file_systems_are_those_of_modprobe() {
    local name
    build --modules xfs,overlay,erofs || return
    for name in xfs overlay erofs; do
        modprobe_loads "$name" > "$work/loads" || { cat "$work/loads" && return 1; }
        sed -n "s/^fs-$name //p" "$work/image/etc/prepare-root/modules" | diff "$work/loads" - || { echo "for $name" && return 1; }
    done
}

tree_default_image_is_small() {
    local most=3000000
    # XFS has grown by half a megabyte since.
    [[ $kernel == 6.* ]] || most=3400000
    mkinitrd --output "$work/initrd" && [[ $(stat -c %s "$work/initrd") -le $most ]]
}

tree_configured_drivers_are_there() {
    configure '[composefs]\nenabled=yes\n[etc]\ntransient=true\n'
    build --modules virtio,ext4 && grep -q '^fs-erofs ' "$work/image/etc/prepare-root/modules" \
        && grep -q '^fs-overlay ' "$work/image/etc/prepare-root/modules"
}

# --- all of them ------------------------------------------------------------------------------

mapfile -t tests < <(sed -n "s/^\(${kind}[a-z0-9_]*\)() {$/\1/p" "${BASH_SOURCE[0]}")
for name in "${tests[@]}"; do
    [[ $name == *${ONLY-}* ]] || continue
    fresh
    : > "$work/log"
    if "$name" > "$work/why" 2>&1; then
        echo "test ${name#"$kind"} ... ok"
        ((passed += 1))
    else
        echo "test ${name#"$kind"} ... FAILED"
        sed 's/^/    /' "$work/why"
        tail -n 15 "$work/log" | sed 's/^/    | /'
        names+=("${name#"$kind"}")
        ((failed += 1))
    fi
done

echo
if ((failed)); then
    printf 'failures:\n'
    printf '    %s\n' "${names[@]}"
    echo "test result: FAILED. $passed passed; $failed failed; 0 ignored"
    exit 1
fi
echo "test result: ok. $passed passed; 0 failed; 0 ignored"
