#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes the small disk from which cloud-init learns what machine this is to be.
#
#   seed.sh SEED USER-DATA
set -eu
seed=${1:?} user_data=${2:?}

# The label is how cloud-init knows it.
mkfs.vfat -C -n CIDATA "$seed" 1024
printf '%s\n' "$user_data" > "$seed.text"
mcopy -i "$seed" "$seed.text" ::/user-data
printf 'instance-id: prepare-root-check\n' > "$seed.text"
mcopy -i "$seed" "$seed.text" ::/meta-data
rm "$seed.text"
