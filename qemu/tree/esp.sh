#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes an EFI system partition with a boot loader from the tree's packages.
#
#   esp.sh TREE BOOT-COPY ESP systemd-boot|grub
#
# systemd-boot reads FAT only: boot entry, kernel and initramfs are copied from
# BOOT-COPY. GRUB reads them where OSTree wrote them.
set -eu
tree=${1:?} boot=${2:?} esp=${3:?} loader=${4:?}

mkfs.vfat -C -F 32 -n ESP "$esp" 262144
copy() {
    mcopy -s -i "$esp" "$@"
}
text() {
    cat > "$esp.text"
    copy "$esp.text" "$1"
    rm "$esp.text"
}
mmd -i "$esp" ::/EFI ::/EFI/BOOT

# Where firmware looks on a disk that it has no entry for.
removable=::/EFI/BOOT/BOOTX64.EFI
case $loader in
    systemd-boot)
        copy "$tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$removable"
        mmd -i "$esp" ::/loader
        echo 'timeout 0' | text ::/loader/loader.conf
        copy "$boot/loader/entries" ::/loader/
        copy "$boot/ostree" ::/
        ;;
    grub)
        # grub-install would make the same of the disk it runs on. `bli` tells the
        # system who started it.
        chroot "$tree" grub-mkimage --format=x86_64-efi --prefix=/EFI/debian --output=/tmp/grub.efi \
            part_gpt fat ext2 search normal bli blsuki linux loadenv test
        copy "$tree/tmp/grub.efi" "$removable"
        rm "$tree/tmp/grub.efi"
        mmd -i "$esp" ::/EFI/debian
        # With this an upgrade has nothing to do but write its entry.
        cat - "$tree/usr/share/prepare-root/grub-assess.cfg" > "$esp.grub" <<'END'
search --set=root --label prepare-root
set timeout=0
set default=0
blscfg --path ($root)/boot/loader/entries
END
        copy "$esp.grub" ::/EFI/debian/grub.cfg
        rm "$esp.grub"
        # As the administrator has it count.
        chroot "$tree" sh -c 'grub-editenv /tmp/grubenv create && grub-editenv /tmp/grubenv set prepare_root_tries='
        copy "$tree/tmp/grubenv" ::/EFI/debian/grubenv
        rm "$tree/tmp/grubenv"
        ;;
    *) exit 2 ;;
esac
