#!/bin/sh
# dracut's "pre-mount" hook: asks ostree-prepare-root to mount /var itself.
mkdir -p /run/ostree
: > /run/ostree/initramfs-mount-var
