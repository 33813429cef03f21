#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Commits the releases that come after the one on a disk, and makes their repositories ready for a web server. Run in
# a mount namespace of its own: its mounts end with it.
#
#   releases.sh TOOLS ROOT OUT REF NAME=whole|change=DIRECTORY...
#
# TOOLS is the tree whose ostree does it. ROOT is the disk's root file system; it is told of the remote `vendor`. A
# whole release is a tree as adapt.sh leaves it; a change is put over the release before. OUT/NAME becomes the
# repository as it is when NAME is the newest: with all before it, a summary, and a static delta from the one before.
set -eu
tools=${1:?} disk=${2:?} out=${3:?} ref=${4:?}
shift 4

root=$tools.releases
mkdir "$root"
mount --bind "$tools" "$root"
mkdir -p "$root/sysroot"
mount -o loop "$disk" "$root/sysroot"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --rbind /dev "$root/dev"
mkdir "$root/run/out"
mount --bind "$out" "$root/run/out"
ostree() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 TMPDIR=/run ostree "$@"
}

# What is on the disk is the first release; its repository is nobody's to serve.
before=$(ostree rev-parse --repo=/sysroot/ostree/repo "$ref")
ostree init --repo=/run/out/first --mode=archive
ostree pull-local --repo=/run/out/first /sysroot/ostree/repo "$ref"
last=first
for release; do
    name=${release%%=*} from=${release#*=}
    kind=${from%%=*} from=${from#*=}
    mkdir "$root/run/$name"
    mount --bind "$from" "$root/run/$name"
    # Objects are never written to again; what else changes is replaced.
    cp -al "$out/$last" "$out/$name"
    set -- --repo="/run/out/$name" --branch="$ref" --subject="$name" --bootable
    case $kind in
        whole)
            mv "$from/etc" "$from/usr/etc"
            rm -rf "${from:?}/var" "$from"/tmp/* "$from"/run/*
            mkdir "$from/var"
            ostree commit "$@" --tree=dir="/run/$name"
            ;;
        change) ostree commit "$@" --tree=ref="$ref" --tree=dir="/run/$name" ;;
        *) exit 2 ;;
    esac
    now=$(ostree rev-parse --repo="/run/out/$name" "$ref")
    ostree static-delta generate --repo="/run/out/$name" --disable-bsdiff --from="$before" --to="$now"
    ostree summary --repo="/run/out/$name" --update
    umount "$root/run/$name"
    before=$now last=$name
done
rm -rf "$out/first"

# Where the web server will be, its guests are told when they boot.
ostree admin set-origin --sysroot=/sysroot --index=0 --set=gpg-verify=false vendor http://localhost/ "$ref"
umount "$root/sysroot"
