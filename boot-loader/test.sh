#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs esp-sync and assess on trees that are made up, also where esp-sync is interrupted at every command and where the ESP
# is full.
#
#   boot-loader/test.sh      as root, for a tmpfs of its own

# Made-up commands are written down as they are.
# shellcheck disable=SC2016
set -u

# The mounts below are nobody else's.
if [[ ${ESP_SYNC_TEST-} != unshared ]]; then
    ESP_SYNC_TEST=unshared exec unshare --mount --propagation private "$0" "$@"
fi

here=$(realpath "${BASH_SOURCE[0]%/*}")
work=$(mktemp -d)
trap 'umount --lazy "$work"; rmdir "$work"' EXIT
mount -t tmpfs -o mode=0755 tmpfs "$work"
mount -t tmpfs tmpfs /run
passed=0 failed=0
names=()

# --- a machine --------------------------------------------------------------------------------

# machine ENTRY=KERNEL...: /boot as OSTree leaves it.
machine() {
    rm -rf "${work:?}"/boot/{loader,loader.0,ostree}
    mkdir -p "$work/boot/loader.0/entries" "$work/boot/ostree" "$work/efi"
    ln -s loader.0 "$work/boot/loader"
    local pair
    for pair; do
        mkdir -p "$work/boot/ostree/os-${pair#*=}"
        echo "kernel ${pair#*=}" > "$work/boot/ostree/os-${pair#*=}/vmlinuz"
        printf 'title of %s\nlinux /ostree/os-%s/vmlinuz\n' "$pair" "${pair#*=}" > "$work/boot/loader/entries/${pair%=*}.conf"
    done
}

# An ESP of this size.
esp_of() {
    mkdir -p "$work/efi"
    mount -t tmpfs -o "size=$1" tmpfs "$work/efi"
}

sync_esp() {
    PATH=$work/bin:$PATH "$here/esp-sync" "$@" "$work/boot" "$work/efi" 2> "$work/log"
}

# program NAME TEXT: a command of the machine's.
program() {
    mkdir -p "$work/bin"
    printf '#!/bin/sh\n%s\n' "$2" > "$work/bin/$1"
    chmod 0755 "$work/bin/$1"
}

# deploys BOOTED DEPLOYMENT...: the last is the first in the menu. OSTree numbers entries and boot links anew, with every
# change in the other of its two boot versions. A deployment is a commit: a is a.0, and a.1 is the same once more.
deploys() {
    local name number=0 pairs=()
    program ostree "printf '  %s %s.0\n* %s %s (pending)\n    Version: 1\n' debian fade debian $(whole "$1")"
    shift
    for name; do
        pairs+=("ostree-$((number += 1))=$name")
    done
    machine "${pairs[@]}"
    other=$((1 - ${other:-0})) number=0
    rm -rf "$work"/ostree/*
    for name; do
        mkdir -p "$work/ostree/boot.$other/debian/$name" "$work/ostree/deploy/debian/deploy/$(whole "$name")"
        ln -s "../../../deploy/debian/deploy/$(whole "$name")" "$work/ostree/boot.$other/debian/$name/0"
        printf 'version %s\noptions root=x ostree=/ostree/boot.%s/debian/%s/0 rw\n' "$((number += 1))" "$other" "$name" \
            >> "$work/boot/loader/entries/ostree-$number.conf"
    done
}

whole() {
    case $1 in
        *.*) echo "$1" ;;
        *) echo "$1.0" ;;
    esac
}

# What is on the ESP, as ENTRY=DEPLOYMENT.
counted() {
    local entry found=()
    for entry in "$work"/efi/loader/entries/*; do
        found+=("$(basename "$entry" .conf)=$(sed -n 's|^options .*boot.*/debian/\(.*\)/0 rw|\1|p' "$entry")")
    done
    [[ ${found[*]} == "$*" ]] || { echo "expected $*, found ${found[*]}" && return 1; }
}

# renamed OLD NEW: as the boot loader renames an entry.
renamed() {
    mv "$work/efi/loader/entries/$1.conf" "$work/efi/loader/entries/$2.conf"
}

# The ESP has the entries and kernels of /boot, and no others of OSTree's.
same() {
    diff -r "$work/boot/ostree" "$work/efi/ostree" && diff -r "$work/boot/loader/entries" "$work/efi/loader/entries"
}

# becomes ENTRY=KERNEL...: OSTree changes its entries, and the ESP follows.
becomes() {
    machine "$@" && sync_esp && same
}

# Every entry on the ESP has its kernel, and one of them has this kernel.
boots() {
    local kernel
    while read -r kernel; do
        [[ -s $work/efi$kernel ]] || { echo "$kernel is gone" && return 1; }
    done < <(sed -n 's/^linux //p' "$work"/efi/loader/entries/*.conf)
    grep -q "^linux /ostree/os-$1/" "$work"/efi/loader/entries/*.conf || { echo "no entry has kernel $1" && return 1; }
}

# --- the tests --------------------------------------------------------------------------------

test_follows() {
    becomes ostree-1=a && becomes ostree-1=a ostree-2=b && becomes ostree-1=b ostree-2=c && becomes ostree-1=c && sync_esp && same
}

# The same kernel and another order: `ostree admin set-default`.
test_follows_a_change_of_order() {
    becomes ostree-1=a ostree-2=b && becomes ostree-1=b ostree-2=a && boots a
}

# The path unit would not tell.
test_follows_what_changes_meanwhile() {
    machine ostree-1=a && program cp "[ -e $work/changed ] || { : > $work/changed && mkdir -p $work/boot/ostree/os-b && echo b > $work/boot/ostree/os-b/vmlinuz && echo 'linux /ostree/os-b/vmlinuz' > $work/boot/loader/entries/ostree-2.conf; }; exec /bin/cp \"\$@\"" \
        && sync_esp && [[ -e $work/boot/loader/entries/ostree-2.conf ]] && same && boots b
}

test_leaves_others_alone() {
    becomes ostree-1=a && mkdir -p "$work/efi/EFI/Linux" && echo 'linux /ostree/os-a/x' > "$work/efi/loader/entries/other.conf" \
        && echo uki > "$work/efi/EFI/Linux/other.efi" && : > "$work/efi/loader/entries/third.conf.new" && machine ostree-1=b && sync_esp \
        && [[ -e $work/efi/loader/entries/other.conf && -e $work/efi/loader/entries/third.conf.new && $(< "$work/efi/EFI/Linux/other.efi") == uki ]]
}

# As with GRUB, which finds the entries on the root's file system.
test_paths_with_a_prefix() {
    machine ostree-1=a && sed -i 's,/ostree/,/boot/ostree/,' "$work/boot/loader/entries/ostree-1.conf" && sync_esp && boots a
}

# The directory of OSTree's entries cannot be read.
test_without_entries() {
    becomes ostree-1=a ostree-2=b && cp -a "$work/efi" "$work/before" && rm "$work/boot/loader" && ! sync_esp \
        && grep -q "$work/boot/loader/entries has no entry" "$work/log" && diff -r "$work/before" "$work/efi"
}

# All that is on the ESP is of deployments that are gone.
test_an_old_esp() {
    becomes ostree-1=a ostree-2=b && becomes ostree-1=c ostree-2=d && boots d
}

# There is room for two kernels, not for three.
test_makes_room() {
    local kernel pairs
    esp_of 128k
    for pairs in 'ostree-1=a ostree-2=a' 'ostree-1=a ostree-2=b' 'ostree-1=b ostree-2=c' 'ostree-1=c ostree-2=d'; do
        # shellcheck disable=SC2086
        machine $pairs
        for kernel in "$work"/boot/ostree/*/vmlinuz; do
            head -c 40960 /dev/zero > "$kernel"
        done
        sync_esp && same || return
    done
}

# A new deployment is counted, the booted one is not, and without --tries none is.
test_counts_a_new_deployment() {
    deploys a a && sync_esp --tries 3 && counted ostree-1=a \
        && deploys a a b && sync_esp --tries 3 && counted ostree-1=a ostree-2+3=b && sync_esp --tries 3 && counted ostree-1=a ostree-2+3=b \
        && sync_esp && counted ostree-1=a ostree-2=b
}

# What the boot loader has counted stays, whatever OSTree calls the entry now.
test_keeps_what_was_counted() {
    deploys a a b && sync_esp --tries 3 && renamed ostree-2+3 ostree-2+2-1 && deploys b a b && sync_esp --tries 3 \
        && counted ostree-1=a ostree-2+2-1=b && renamed ostree-2+2-1 ostree-2+0-3 && deploys a a b && sync_esp --tries 3 \
        && counted ostree-1=a ostree-2+0-3=b && deploys a b a c && sync_esp --tries 3 && counted ostree-1+0-3=b ostree-2=a ostree-3+3=c
}

# A deployment that was good is not counted again.
test_keeps_what_was_good() {
    deploys a a b && sync_esp --tries 3 && renamed ostree-2+3 ostree-2 && deploys b b c && sync_esp --tries 3 \
        && counted ostree-1=b ostree-2+3=c && deploys c b c && sync_esp --tries 2 && counted ostree-1=b ostree-2+3=c \
        && deploys a c b && sync_esp --tries 2 && counted ostree-1+3=c ostree-2=b
}

# A rollback exchanges the names of the two.
test_keeps_what_was_good_in_a_rollback() {
    deploys a a && sync_esp --tries 3 && deploys a a b && sync_esp --tries 3 && renamed ostree-2+3 ostree-2 && deploys b b a \
        && sync_esp --tries 3 && counted ostree-1=b ostree-2=a
}

# A power loss while a kernel was renamed on FAT leaves both names, and the same clusters for both; or a file without its
# contents.
test_mends_what_a_power_loss_left() {
    becomes ostree-1=a && machine ostree-1=a ostree-2=b && mkdir "$work/efi/ostree/os-b" && echo 'kernel ?' > "$work/efi/ostree/os-b/vmlinuz" \
        && : > "$work/efi/ostree/os-b/vmlinuz.new" && sync_esp && same \
        && : > "$work/efi/ostree/os-b/vmlinuz" && sync_esp && same
}

# systemd-bless-boot finds a deployment good while its entry is being copied: it is not counted again, and it is still there.
test_keeps_what_was_just_found_good() {
    local number=0
    while ((number += 1)); do
        rm -rf "${work:?}"/{bin,efi,used,late}
        deploys a a b && sync_esp --tries 3 && renamed ostree-2+3 ostree-2+2-1 && deploys b a c b && : > "$work/used" || return
        program sync "echo >> $work/used; [ \"\$(wc -l < $work/used)\" != $number ] || mv $work/efi/loader/entries/ostree-2+2-1.conf \
            $work/efi/loader/entries/ostree-2.conf || : > $work/late; exec /bin/sync \"\$@\""
        sync_esp --tries 3 || return
        [[ $(wc -l < "$work/used") -ge $number ]] || break
        # OSTree may have called it something else by then, and systemd-bless-boot does not find it.
        [[ ! -e $work/late ]] || break
        counted ostree-1=a ostree-2+3=c ostree-3=b || { echo "renamed at sync $number" && return 1; }
    done
    ((number > 8)) || { echo "it was renamed in only $((number - 1)) places" && return 1; }
}

# An overlay of the initramfs (`ostree admin deploy --overlay-initrd`) is in a directory that all entries share.
test_overlays() {
    local overlays=ostree/initramfs-overlays
    esp_of 128k
    machine ostree-1=a && mkdir "$work/boot/$overlays" && echo one > "$work/boot/$overlays/1.img" && sync_esp && same \
        && head -c 262144 /dev/zero > "$work/boot/$overlays/2.img" && ! sync_esp || return
    [[ $(< "$work/efi/$overlays/1.img") == one && ! -e $work/efi/$overlays/2.img.new ]] || { echo 'the one before is gone' && return 1; }
    echo two > "$work/boot/$overlays/2.img" && sync_esp && same && rm "$work/boot/$overlays/1.img" && sync_esp && same
}

# OSTree removes an old kernel while a new one is copied.
test_follows_what_disappears_meanwhile() {
    local old kernels=$work/boot/ostree
    # One comes before the new one in the list, and one after, whatever the order is in which the directory lists them.
    becomes ostree-1=a && machine ostree-1=b && mv "$kernels/os-b" "$work/" || return
    for old in os-y os-b os-z; do
        mkdir "$kernels/$old" && echo "$old" > "$kernels/$old/vmlinuz" || return
    done
    program cp "case \$1 in */os-b/*) rm -rf $kernels/os-y $kernels/os-z ;; esac; exec /bin/cp \"\$@\"" && sync_esp && boots b && same
}

# A directory that cannot be read: no entry comes without its kernel.
test_what_cannot_be_listed() {
    becomes ostree-1=a && machine ostree-1=a ostree-2=b && program find 'case $PWD in */boot/ostree) /usr/bin/find "$@" -not -path "*/os-b/*"; exit 1 ;; esac; exec /usr/bin/find "$@"' && ! sync_esp \
        && [[ ! -e $work/efi/loader/entries/ostree-2.conf ]] && boots a
}

# The message is there whatever else fails.
test_an_esp_that_is_read_only() {
    machine ostree-1=a && esp_of 1m && mkdir "$work/efi/loader" && mount -o remount,ro "$work/efi" && ! sync_esp \
        && grep -q 'the command above failed' "$work/log" && [[ ! $(ls -d /run/tmp.* 2> /dev/null) ]]
}

# An entry whose contents are lost is none that boots: the others stay as long as there is no room.
test_an_empty_entry_does_not_count() {
    esp_of 64k
    becomes ostree-2=a && : > "$work/efi/loader/entries/ostree-1.conf" && machine ostree-1=b \
        && head -c 131072 /dev/zero > "$work/boot/ostree/os-b/vmlinuz" && ! sync_esp && grep -q os-a "$work/efi/loader/entries/ostree-2.conf"
}

# What was on the ESP before boots were counted is not new.
test_begins_to_count() {
    deploys a a b && sync_esp && sync_esp --tries 3 && counted ostree-1=a ostree-2=b && deploys a b a && sync_esp --tries 3 \
        && counted ostree-1=b ostree-2=a
}

# Links that lead nowhere, and an OSTree that says nothing.
test_counts_only_deployments() {
    deploys a a b && rm -r "$work/ostree" && sync_esp --tries 3 && counted ostree-1=a ostree-2=b
}

# A machine with GRUB: /boot is the real one's place, and commands are made up.
with_grub() {
    mkdir -p "$work/boot/grub" "$work/ostree" /ostree "$work/var"
    printf '# GRUB\nprepare_root_tries=\n' > "$work/boot/grub/grubenv"
    program systemctl '[ "$1" != list-units ] || printf "a.service x\\nb.service y\\n"; [ "${4-}" != reboot.target ] || echo reboot; [ "$2" != is-active ]'
    program grub-editenv 'file=$1; shift 2; for pair; do sed -i "/^${pair%%=*}=/d" "$file"; echo "$pair" >> "$file"; done'
    mount --bind "$work/boot" /boot && mount --bind "$work/ostree" /ostree && mount --bind "$work/var" /var/lib
}
note_on() {
    cat "/var/lib/prepare-root/assess/debian/$(whole "$1")"
}
assess() {
    PATH=$work/bin:$PATH "$here/assess" "$@" > "$work/said" 2>&1
}
environment() {
    local found
    found=$(grep '^prepare_root' /boot/grub/grubenv | grep -v '^prepare_root_all=' | sort | tr '\n' ' ')
    [[ $found == "$1 " ]] || { echo "expected $1, found $found" && return 1; }
}
grub_tries() {
    sed -i "s/^prepare_root_tries=.*/prepare_root_tries=$1/" /boot/grub/grubenv
}
a_life_with_grub() {
    assess arm && environment 'prepare_root_assess=debian/a.0 prepare_root_tries=' || return
    deploys a a b && assess arm && environment 'prepare_root_assess=debian/b.0 prepare_root_tries=3' || return
    # A boot of it failed, but then it was removed and is deployed anew: it has all its tries.
    deploys b a b && grub_tries 2 && assess failed && deploys a a && assess arm && deploys a a b && assess arm && [[ ! -e /var/lib/prepare-root/assess/debian/b.0 ]] || return
    # b has another number of tries for what it deploys itself.
    deploys b a b && grub_tries 2 && mkdir -p /etc/kernel && mount -t tmpfs tmpfs /etc/kernel && echo 2 > /etc/kernel/tries && assess failed && umount /etc/kernel \
        && [[ $(note_on b) == '1 of 3 boots failed: a.service, b.service' ]] && rm /var/lib/prepare-root/assess/debian/b.0 || return
    # b's first boot fails, its second is good.
    deploys b a b && grub_tries 2 && assess arm && assess failed && grep -q '^reboot$' "$work/said" || return
    [[ $(< /var/lib/prepare-root/assess/debian/b.0) == '1 of 3 boots failed: a.service, b.service' ]] || return
    # GRUB does not count: not for ever.
    assess failed && ! grep -q '^reboot$' "$work/said" && grep -q 'does not count' "$work/said" || return
    grub_tries 1 && assess good && environment 'prepare_root_assess=debian/b.0 prepare_root_tries=' || return
    [[ ! -e /var/lib/prepare-root/assess/debian/b.0 ]] || return
    # Boots are not counted any more, so a failed one is not repeated.
    assess failed && ! grep -q '^reboot$' "$work/said" && [[ ! -e /var/lib/prepare-root/assess/debian/b.0 ]] || return
    # c uses its tries up, and a runs again: it stays.
    deploys b b c && assess arm && environment 'prepare_root_assess=debian/c.0 prepare_root_tries=3' || return
    deploys b b c && grub_tries 0 && assess arm && assess good && environment 'prepare_root_assess=debian/c.0 prepare_root_tries=0' || return
    # Nobody could write down why.
    [[ $(note_on c) == '3 of 3 boots failed: of the last is nothing known' ]] || return
    # An updater deploys the same commit again, as if it were new.
    deploys b b c.1 && assess arm && environment 'prepare_root_assess=debian/c.1 prepare_root_tries=0' || return
    # How many boots there are is another number now: what is known of c is still the same.
    mkdir -p /etc/kernel && mount -t tmpfs tmpfs /etc/kernel && echo 5 > /etc/kernel/tries && assess arm && umount /etc/kernel \
        && [[ $(note_on c.1) == '3 of 3 boots'* ]] || return
    # /boot is not mounted: nothing is the first deployment.
    mount -t tmpfs tmpfs /boot && mkdir -p /boot/grub && cp "$work/boot/grub/grubenv" /boot/grub && assess arm \
        && environment 'prepare_root_assess=debian/c.1 prepare_root_tries=0' && umount /boot || return
    # c is removed, and what there was to say of it.
    deploys b b && assess arm && assess good && [[ ! -e /var/lib/prepare-root/assess/debian/c.0 ]] || return
    environment 'prepare_root_assess=debian/b.0 prepare_root_tries=' || return
    # Counted by a release that assesses; it itself does not, so nobody would say that it is good.
    deploys b b d && assess arm && environment 'prepare_root_assess=debian/d.0 prepare_root_tries=3' || return
    program systemctl 'exit 1'
    deploys d b d && assess arm && environment 'prepare_root_assess=debian/d.0 prepare_root_tries='
}
# By the entry of the deployment that runs, wherever that was booted from.
a_life_with_systemd_boot() {
    deploys a a b && sync_esp --tries 3 && renamed ostree-2+3 ostree-2+2-1 || return
    # What is moved has to be locked, or esp-sync might write it again.
    program mv 'case $1 in */loader/entries/*) ! flock --nonblock /boot/efi true || { echo not locked && exit 1; } ;; esac; exec /bin/mv "$@"'
    # a, through the entry of b with another kernel argument: it is not the one that is counted.
    assess good && assess failed && ! grep -q '^reboot$' "$work/said" && counted ostree-1=a ostree-2+2-1=b || return
    deploys b a b && assess failed && grep -q '^reboot$' "$work/said" || return
    [[ $(< /var/lib/prepare-root/assess/debian/b.0) == '1 of 3 boots failed: a.service, b.service' ]] || return
    # The boot was good: what fails later is nothing to boot again for.
    assess good && counted ostree-1=a ostree-2=b && [[ ! -e /var/lib/prepare-root/assess/debian/b.0 ]] || return
    assess failed && ! grep -q '^reboot$' "$work/said" || return
    # It was not counted down: this boot came about in another way.
    deploys b b c && mkdir -p /var/lib/prepare-root/assess/debian && echo '1 of 3 boots failed: a.service' > /var/lib/prepare-root/assess/debian/c.0 \
        && sync_esp --tries 3 && [[ ! -e /var/lib/prepare-root/assess/debian/c.0 ]] && deploys c b c && assess failed && ! grep -q '^reboot$' "$work/said" || return
    # The boot itself was good.
    local systemctl
    systemctl=$(< "$work/bin/systemctl")
    renamed ostree-2+3 ostree-2+2-1 && program systemctl '[ "${4-}" != reboot.target ] || echo reboot' && assess failed \
        && ! grep -q '^reboot$' "$work/said" || return
    # c fails, and an update that was staged meanwhile must not take the place of b.
    mkdir -p /run/ostree && : > /run/ostree/staged-deployment && renamed ostree-2+2-1 ostree-2+0-3 && echo "$systemctl" > "$work/bin/systemctl" \
        && assess failed && grep -q '^reboot$' "$work/said" && [[ -e /run/ostree/staged-deployment-locked ]] || return
    # It is deployed once more: whoever did that did not know. What is said of it stays.
    deploys b b c.1 && assess good && sync_esp --tries 3 && counted ostree-1=b ostree-2+0-3=c.1 && assess arm && assess good || return
    [[ $(note_on c.1) == '3 of 3 boots failed: a.service, b.service' ]] || return
    # Somebody starts it from the menu, and it is good: from now on the commit is.
    deploys c.1 b c.1 && assess good && counted ostree-1=b ostree-2=c.1 && [[ ! $(ls /var/lib/prepare-root/assess/debian) ]] || return
    deploys b b c.2 && sync_esp --tries 3 && counted ostree-1=b ostree-2+3=c.2 || return
    # Of the commit that is running another deployment failed, by its kernel arguments perhaps.
    echo '3 of 3 boots failed: a.service' > /var/lib/prepare-root/assess/debian/b.1 && deploys b.2 b.2 b.3 && sync_esp --tries 3 \
        && counted ostree-1=b.2 ostree-2+3=b.3
}
# The ESP cannot be mounted, and the boot loader counts on it.
test_an_esp_that_is_not_mounted() {
    local status=1
    deploys b a b && with_grub && rm "$work/boot/grub/grubenv" && mkdir "$work/efivars" || return
    says_loader LoaderInfo 'systemd-boot 257' && says_loader LoaderBootCountPath '\loader\entries\ostree-2+1-2.conf'
    if EFIVARS=$work/efivars assess failed && grep -q '^reboot$' "$work/said" && [[ $(note_on b) == '2 of 3 boots failed: a.service, b.service' ]]; then
        # A healthy one cannot be told to the boot loader: not in silence.
        ! EFIVARS=$work/efivars assess good && grep -q 'b.0: its boots are counted on' "$work/said" && [[ $(note_on b) ]]
        status=$?
    fi
    umount /boot /ostree /var/lib && rmdir --ignore-fail-on-non-empty /ostree
    return "$status"
}
# says_loader VARIABLE TEXT
says_loader() {
    printf %s "$2" | sed 's/./&\x00/g; s/^/\x06\x00\x00\x00/' > "$work/efivars/$1-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
}
# What cannot be written down does not keep entries from the ESP.
test_notes_that_cannot_be_written() {
    local status=1
    deploys a a b && with_grub && grub_tries 0 && sed -i 's/^prepare_root_assess=.*//' "$work/boot/grub/grubenv" \
        && echo prepare_root_assess=debian/b.0 >> "$work/boot/grub/grubenv" && mount -o remount,bind,ro /var/lib && assess arm \
        && grep -q 'b.0: it is not kept' "$work/said"
    status=$?
    umount /boot /ostree /var/lib && rmdir --ignore-fail-on-non-empty /ostree
    return "$status"
}
# Whoever wants boots counted is told that nobody does.
test_nobody_counts() {
    local status
    deploys a a && with_grub && rm "$work/boot/grub/grubenv" && assess arm && grep -q 'no boot loader is known to count boots' "$work/said"
    status=$?
    umount /boot /ostree /var/lib && rmdir --ignore-fail-on-non-empty /ostree
    return "$status"
}
test_systemd_boot() {
    local status
    deploys a a && with_grub && rm "$work/boot/grub/grubenv" && mkdir "$work/boot/efi" "$work/efi/loader" \
        && mount --bind "$work/efi" /boot/efi && a_life_with_systemd_boot
    status=$?
    [[ $status == 0 ]] || { cat "$work/said" && ls "$work/efi/loader/entries"; }
    umount --recursive /boot && umount /ostree /var/lib && rmdir --ignore-fail-on-non-empty /ostree
    return "$status"
}
test_grub() {
    local status
    deploys a a && with_grub && a_life_with_grub
    status=$?
    [[ $status == 0 ]] || cat "$work/said" /boot/grub/grubenv
    umount /boot /ostree /var/lib && rmdir --ignore-fail-on-non-empty /ostree
    return "$status"
}

# Each command fails from its first, second, third... use on, until one run is through. Wherever that is, each entry
# has its kernel, and there is one for the system that runs, which has kernel b.
test_interrupted_anywhere() {
    local step number runs=0
    mkdir -p "$work/bin"
    for step in cp mv rm sync sed; do
        number=0
        printf '#!/bin/sh\necho >> "%s"\n[ "$(wc -l < "%s")" -lt "${FAILS_AT-1000}" ] || exit 1\nexec /bin/%s "$@"\n' \
            "$work/used" "$work/used" "$step" > "$work/bin/$step"
        chmod 0755 "$work/bin/$step"
        while ((number += 1)); do
            rm -rf "$work/efi"
            becomes ostree-1=a ostree-2=b && machine ostree-1=b ostree-2=c || return
            : > "$work/used"
            FAILS_AT=$number PATH=$work/bin:$PATH "$here/esp-sync" "$work/boot" "$work/efi" 2> "$work/log"
            ((runs += 1))
            boots b || { echo "$step fails at its use $number" && return 1; }
            [[ $(wc -l < "$work/used") -ge $number ]] || break
            { sync_esp && same; } || { echo "after $step failed at its use $number" && return 1; }
        done
        rm "$work/bin/$step"
    done
    # It would be few if the commands were not found there.
    ((runs >= 20)) || { echo "only $runs runs" && return 1; }
}

# The power fails while a file is replaced, and FAT has lost both. Wherever that is, there is an entry that boots.
test_torn_anywhere() {
    local number before after
    mkdir "$work/bin"
    printf '#!/bin/sh\necho >> "%s"\n[ "$(wc -l < "%s")" = "$TORN_AT" ] || exec /bin/mv "$@"\nrm -r "$1" && rm -f "$2" && exit 1\n' \
        "$work/used" "$work/used" > "$work/bin/mv"
    chmod 0755 "$work/bin/mv"
    while read -r before after; do
        number=0
        while ((number += 1)); do
            rm -rf "$work/efi"
            # shellcheck disable=SC2086
            becomes ${before//,/ } && machine ${after//,/ } && sed -i '$a options new' "$work"/boot/loader/entries/* || return
            : > "$work/used"
            TORN_AT=$number PATH=$work/bin:$PATH "$here/esp-sync" "$work/boot" "$work/efi" 2> "$work/log"
            boots b || { echo "$before to $after: lost at mv $number" && return 1; }
            [[ $(wc -l < "$work/used") -ge $number ]] || break
            { sync_esp && same; } || { echo "$before to $after: after mv $number" && return 1; }
        done
        ((number > 1)) || { echo "$before to $after: nothing was torn" && return 1; }
    done << 'END'
ostree-1=b ostree-1=b,ostree-2=b
ostree-1=a,ostree-2=b ostree-1=b,ostree-2=c
ostree-1=a,ostree-2=b ostree-1=b
END
}

# A full ESP: what was there boots still, the message tells, and when there is room all is well.
test_full() {
    esp_of 64k
    becomes ostree-1=a && cp -a "$work/efi" "$work/before" && machine ostree-1=a ostree-2=b \
        && head -c 131072 /dev/zero > "$work/boot/ostree/os-b/vmlinuz" || return
    ! sync_esp || { echo 'no error' && return 1; }
    [[ ! -e $work/efi/ostree/os-b.new ]] || { echo 'it is still full' && return 1; }
    grep -q "copy the boot entries of $work/boot to $work/efi" "$work/log" || { echo 'no message' && return 1; }
    diff -r "$work/before/loader" "$work/efi/loader" && cmp "$work/before/ostree/os-a/vmlinuz" "$work/efi/ostree/os-a/vmlinuz" \
        && mount -o remount,size=1m "$work/efi" && sync_esp && same
}

# Called as the units call it: only what is mounted and has systemd-boot's directory is an ESP.
test_finds_the_esp() {
    local status=1
    machine ostree-1=a && mkdir "$work/boot/efi" && mount --bind "$work/boot" /boot || return
    if "$here/esp-sync" && [[ ! $(ls /boot/efi) ]] && mount -t tmpfs tmpfs /boot/efi && "$here/esp-sync" && [[ ! $(ls /boot/efi) ]]; then
        mkdir /boot/efi/loader && "$here/esp-sync" && cmp /boot/ostree/os-a/vmlinuz /boot/efi/ostree/os-a/vmlinuz
        status=$?
    fi
    umount --recursive /boot
    return "$status"
}

# At a shutdown an automounted one is not mounted any more.
test_remembers_the_esp() {
    local status=1
    machine ostree-1=a && mkdir -p "$work/boot/efi" && truncate -s 1M "$work/esp.img" && mkfs.ext4 -q "$work/esp.img" \
        && mount -o loop "$work/esp.img" "$work/efi" && mkdir "$work/efi/loader" && mount --bind "$work/boot" /boot || return
    # As below what is automounted: a mount that has no device.
    mount -t tmpfs below /boot/efi && mount --bind "$work/efi" /boot/efi && "$here/esp-sync" && umount /boot/efi && umount /boot/efi && machine ostree-1=a ostree-2=b && "$here/esp-sync" \
        && same && ! mountpoint -q /run/prepare-root/mounted && umount "$work/efi" && rm "$work/esp.img"
    status=$?
    umount --recursive /boot
    # The device is gone: not in silence. Nor if it is that of /boot.
    [[ $status == 0 ]] && mount --bind "$work/boot" /boot && echo /dev/gone > /run/prepare-root/esp || return
    ! "$here/esp-sync" 2> "$work/log" && mount -t tmpfs tmpfs /boot && ! "$here/esp-sync" 2> "$work/log" && grep -q "no kernels" "$work/log" && umount /boot
    status=$?
    umount --recursive /boot
    return "$status"
}

# Another boot loader says that it started the system, or systemd-boot does.
test_asks_who_started_the_system() {
    local status=1 variable=LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
    machine ostree-1=a && mkdir -p "$work/boot/efi" "$work/efivars" && mount --bind "$work/boot" /boot || return
    mount -t tmpfs tmpfs /boot/efi && mkdir /boot/efi/loader && printf '\6\0\0\0G\0R\0U\0B\0' > "$work/efivars/$variable" \
        && EFIVARS=$work/efivars "$here/esp-sync" && [[ ! -e /boot/efi/ostree ]] \
        && says_loader LoaderInfo 'systemd-boot 257' \
        && EFIVARS=$work/efivars "$here/esp-sync" && cmp /boot/ostree/os-a/vmlinuz /boot/efi/ostree/os-a/vmlinuz
    status=$?
    umount --recursive /boot
    return "$status"
}

# When the system starts, together with those of systemd that have boot-complete.target wait, which the manual page names.
test_the_units_start_in_no_circle() {
    local units=$work/units said
    [[ -e /lib/systemd/system/systemd-boot-check-no-failures.service ]] || { echo 'systemd has no such unit' && return 1; }
    mkdir "$units" && cp "$here"/*.service "$here"/*.path "$units" && mkdir "$units"/{multi-user,emergency,boot-complete}.target.{wants,requires} \
        && ln -s ../prepare-root-{assess,esp,esp-changed}.service "$units/multi-user.target.wants/" \
        && ln -s ../prepare-root-assess-failed.service "$units/emergency.target.wants/" \
        && ln -s /lib/systemd/system/systemd-boot-check-no-failures.service "$units/boot-complete.target.requires/" || return
    said=$(SYSTEMD_UNIT_PATH=$units:/lib/systemd/system systemd-analyze verify --man=no multi-user.target emergency.target shutdown.target 2>&1)
    [[ $said != *"ordering cycle"* && $said != *prepare-root* ]] || { echo "$said" && return 1; }
}

test_lint() {
    shellcheck --external-sources "$here"/{esp-sync,assess,common.sh}
}

# --- all of them ------------------------------------------------------------------------------

for name in $(compgen -A function test_); do
    [[ $name == *${ONLY-}* ]] || continue
    ! mountpoint -q "$work/efi" || umount "$work/efi"
    rm -rf "${work:?}"/* /run/prepare-root
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

echo
if ((failed)); then
    printf 'failures:\n'
    printf '    %s\n' "${names[@]}"
    echo "test result: FAILED. $passed passed; $failed failed; 0 ignored"
    exit 1
fi
echo "test result: ok. $passed passed; 0 failed; 0 ignored"
