# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
#
# The story of local.rs.

state=/var/lib/story

part_layer() {
    mkdir -p "$state"
    deployment 0 > "$state/before"
    make_package
    layer
    check 'the layer is deployed' ostree admin deploy local/layered
    check 'an image is made of a static program' make_image
    check 'a container runs' container
    check 'containers are in /var' [ "$(podman info --format '{{.Store.GraphRoot}}')" = /var/lib/containers/storage ]
    reboots
}

make_package() {
    package=$state/package
    mkdir -p "$package/DEBIAN" "$package/usr/bin"
    printf 'Package: layered\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: layered\n' \
        > "$package/DEBIAN/control"
    printf '#!/bin/sh\necho layered\n' > "$package/usr/bin/layered"
    chmod 0755 "$package/usr/bin/layered"
    dpkg-deb --build --root-owner-group "$package" "$state/layered.deb"
}

# A commit that has the booted one for its parent. What is checked out are links to the repository's objects, and dpkg
# replaces files, it does not write into them.
layer() {
    # On the repository's file system, and not in its tmp: OSTree clears that of what seems old.
    tree=/ostree/layer
    ostree checkout -H "$(deployment 0)" "$tree"
    check 'the package is installed' dpkg --root="$tree" --admindir="$tree/usr/lib/sysimage/dpkg" --install "$state/layered.deb"
    check 'the layer is committed' ostree commit --branch=local/layered --parent="$(deployment 0)" --bootable \
        --link-checkout-speedup --tree=dir="$tree"
    rm -r "$tree"
}

make_image() {
    mkdir -p "$state/image" \
        && cp /usr/lib/prepare-root/ostree-prepare-root "$state/image/program" \
        && tar -C "$state/image" -cf "$state/image.tar" . && podman import "$state/image.tar" localhost/program
}

container() {
    [ "$(podman run --rm --network=none localhost/program /program --version)" = "$(/usr/lib/prepare-root/ostree-prepare-root --version)" ]
}

part_layered() {
    check 'the layer is booted, the system as it was is second' says "$state/before" "$(deployment 1)"
    check "the layer's parent is that" says "$state/before" "$(ostree rev-parse local/layered^)"
    check "the package's program runs" [ "$(layered)" = layered ]
    check 'dpkg knows it' dpkg --status layered
    check 'making it left the objects of the repository alone' ostree fsck --quiet
    check 'a container runs' container
    ostree admin set-default 1
    reboots
}

part_without() {
    check 'the system is as it was' says "$state/before" "$(deployment 0)"
    check 'the package is gone' not command -v layered
    check 'dpkg does not know it' not dpkg --status layered
    check 'a container runs' container
    if is_soft_rebooted; then
        after_soft_reboot
    else
        soft_reboots
    fi
}
