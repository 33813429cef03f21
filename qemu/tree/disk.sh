#!/bin/sh
# Commits the tree and deploys it on new file systems. Run in a mount namespace of
# its own: its mounts end with it.
#
#   disk.sh TREE TOOLS PARTS BOOT-COPY REF [KERNEL-ARGUMENT...]
#
# TOOLS is the tree whose ostree does it, often TREE itself. Each file system is a
# file in PARTS: root.img, and those of other partitions (assemble.sh). BOOT-COPY
# receives what /boot of the disk holds: the boot entry, kernel and initramfs that
# the boot loader of a real machine would read. In the environment:
#
#   FILESYSTEM=...     the root's: ext4, xfs or btrfs
#   ROOT_SIZE=...      its size
#   LOADER=grub        the boot loader reads the entries from the root's file system
#   PARTITIONS=...     names of partitions; boot and var get file systems of their own
#   VAR=used           /var as after a first boot
#   IMAGE=plain        a composefs image as `ostree admin deploy` makes it
#   IMAGE=signed       one with digests, named by a commit that is signed with KEY;
#                      what is to be sealed is left for a guest that can (seal.rs)
#   SEAL               the program that seals
#   HOTFIX=yes         the layer of `ostree admin unlock --hotfix`
#   NEWER=yes          a newer deployment as well, with the same kernel (not with IMAGE=signed)
#   UPDATE             what is in an update and not in TREE; it waits in a repository at /updates
#                      of the disk, from where `ostree admin upgrade` is to get it
#
# The kernel argument root=UUID=root gets the UUID that the root has.
set -eu
tree=${1:?} tools=${2:?} parts=$3 boot=$4 ref=$5
shift 5

mv "$tree/etc" "$tree/usr/etc"
rm -rf "${tree:?}/var" "$tree"/tmp/* "$tree"/run/*
mkdir "$tree/var"

has_partition() {
    case " $PARTITIONS " in
        *" $1 "*) ;;
        *) return 1 ;;
    esac
}

# PARTITION SIZE LABEL KIND [MKFS-ARGUMENT...]
file_system() {
    file=$parts/$1.img label=$3 kind=$4
    truncate -s "$2" "$file"
    shift 4
    "mkfs.$kind" -q -L "$label" "$@" "$file"
}

features=
[ "$FILESYSTEM $IMAGE" != 'ext4 signed' ] || features='-O verity'
# shellcheck disable=SC2086 # two words
file_system root "$ROOT_SIZE" prepare-root "$FILESYSTEM" $features
! has_partition boot || file_system boot 256M boot ext4
! has_partition var || file_system var 256M var ext4

# The tools as the root that ostree runs in, with the disk, the kernel's file
# systems and the tree mounted; the tree, without any of them, to be committed.
root=$tree.tools
mkdir "$root"
mount --bind "$tools" "$root"
mkdir -p "$root/sysroot"
mount --bind "$tree" "$root/tmp"
mount -o loop "$parts/root.img" "$root/sysroot"
if [ "$FILESYSTEM" = btrfs ]; then
    # As Debian's installer does.
    btrfs subvolume create "$root/sysroot/@rootfs"
    umount "$root/sysroot"
    mount -o loop,subvol=@rootfs "$parts/root.img" "$root/sysroot"
fi
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --rbind /dev "$root/dev"
ostree() {
    chroot "$root" env -i -C "${directory:-/}" PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 ostree "$@"
}
repo=/sysroot/ostree/repo

# Writes {'ostree.sign.ed25519': <[signature]>} as GVariant a{sv}; its only parts
# that are not zero-ended text: 0x40, where the signature ends in the list of
# them, 0x14, where the key ends, and 0x5e, where the entry does. No Debian ostree
# can sign with Ed25519.
sign() {
    commit=$(ostree rev-parse --repo="$repo" "$ref")
    object=$root$repo/objects/$(echo "$commit" | cut -c 1-2)/$(echo "$commit" | cut -c 3-).commit
    openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$object" -out "$tree.signature"
    {
        printf 'ostree.sign.ed25519\0\0\0\0\0'
        cat "$tree.signature"
        printf '\100\0aay\024\136'
    } > "${object}meta"
    # ostree reads it as what it is meant to be.
    ostree show --repo="$repo" --print-detached-metadata-key=ostree.sign.ed25519 "$commit"
}

# Puts an image into the deployment that has what `ostree admin deploy` leaves out
# where it finds no fs-verity: the digests. Beside it, an attacker's.
write_images() {
    spare=$root/sysroot/spare
    mkdir -p "$spare" "$root/run/other/usr/lib"
    echo 'not what was signed' > "$root/run/other/usr/lib/os-release"
    ostree commit --repo="$repo" --branch=other --tree=ref="$ref" --tree=dir=/run/other
    directory=/sysroot/spare
    ostree checkout --repo="$repo" --composefs "$ref" image.cfs
    ostree checkout --repo="$repo" --composefs other other.cfs
    directory=
    cp "$spare/image.cfs" "$spare/unsealed.cfs"
    chattr -i "$deployment"
    mv "$spare/image.cfs" "$deployment/.ostree.cfs"
    chattr +i "$deployment"

    cp "$SEAL" "$spare/seal"
    {
        (cd "$root/sysroot" && find ostree/repo/objects -name '*.file' -type f)
        echo spare/other.cfs
        echo "${deployment#"$root/sysroot/"}/.ostree.cfs"
    } > "$spare/list"
}

ostree admin init-fs /sysroot
! has_partition boot || mount -o loop "$parts/boot.img" "$root/sysroot/boot"
# There is no boot loader that ostree would have to tell of the entry.
ostree config --repo="$repo" set sysroot.bootloader none
# Paths in an entry are those of the file system that GRUB finds it on.
[ "$LOADER" != grub ] || ostree config --repo="$repo" set sysroot.bootprefix true
[ "$IMAGE" = none ] || ostree config --repo="$repo" set ex-integrity.composefs true
ostree admin os-init debian --sysroot=/sysroot
digest=
[ "$IMAGE" != signed ] || digest=--generate-composefs-metadata
ostree commit --repo="$repo" --branch="$ref" --subject="$ref" --bootable ${digest:+"$digest"} --tree=dir=/tmp
[ "$IMAGE" != signed ] || sign
for karg; do
    [ "$karg" != root=UUID=root ] || karg=root=UUID=$(blkid -p -s UUID -o value "$parts/root.img")
    kargs="${kargs-} --karg=$karg"
done
# shellcheck disable=SC2086 # one word per argument: a kernel argument has no space
ostree admin deploy --sysroot=/sysroot --os=debian ${kargs-} "$ref"
ostree admin status --sysroot=/sysroot
stateroot=$root/sysroot/ostree/deploy/debian
deployment=$(echo "$stateroot"/deploy/*.0)
[ "$IMAGE" = none ] || [ -s "$deployment/.ostree.cfs" ]
[ "$IMAGE" != signed ] || write_images
if [ "$NEWER" = yes ]; then
    mkdir -p "$root/run/newer/usr/lib/prepare-root-check"
    echo 'newer' > "$root/run/newer/usr/lib/prepare-root-check/witness"
    ostree commit --repo="$repo" --branch="$ref" --bootable --tree=ref="$ref" --tree=dir=/run/newer
    # It takes over the kernel arguments.
    ostree admin deploy --sysroot=/sysroot --os=debian "$ref"
    ostree admin status --sysroot=/sysroot
fi
if [ -n "${UPDATE-}" ]; then
    updates=/sysroot/updates
    ostree init --repo="$updates" --mode=bare
    ostree pull-local --repo="$updates" "$repo" "$ref"
    cp -a "$UPDATE" "$root/run/update"
    ostree commit --repo="$updates" --branch="$ref" --bootable --tree=ref="$ref" --tree=dir=/run/update
    ostree admin set-origin --sysroot=/sysroot --index=0 --set=gpg-verify=false vendor "file://$updates" "$ref"
fi
# The tree's own ostree, where another had to do this, would not open such a repository.
[ "$tools" = "$tree" ] || ostree config --repo="$repo" unset ex-integrity.composefs

if [ "$VAR" = used ]; then
    # The first boot of this machine is past: tmpfiles.d and services have filled /var.
    mount --bind "$stateroot/var" "$deployment/var"
    mount -t proc proc "$deployment/proc"
    chroot "$deployment" systemd-tmpfiles --create --prefix=/var
    sed -n 's/^StateDirectory=//p' "$deployment"/usr/lib/systemd/system/*.service | tr ' ' '\n' |
        while read -r state; do mkdir -p "$deployment/var/lib/$state"; done
    umount "$deployment/proc" "$deployment/var"
fi

if [ "$HOTFIX" = yes ]; then
    chattr -i "$deployment"
    mkdir -m 0755 "$deployment/.usr-ovl-upper" "$deployment/.usr-ovl-work"
    chattr +i "$deployment"
    mkdir -p "$deployment/.usr-ovl-upper/lib/prepare-root-check"
    echo 'hotfixed' > "$deployment/.usr-ovl-upper/lib/prepare-root-check/witness"
    printf '\nunlocked=hotfix\n' >> "$deployment.origin"
fi

cp -a "$root/sysroot/boot" "$boot"
! has_partition boot || umount "$root/sysroot/boot"
umount "$root/sysroot"
