#!/bin/sh
# Makes a key pair that signs one disk's commit: the private half as KEY, the
# public one where the initramfs will look for it.
#
#   key.sh KEY PUBLIC-KEY
set -eu
key=${1:?} public=${2:?}

openssl genpkey -algorithm ed25519 -out "$key"
mkdir -p "${public%/*}"
# The last 32 bytes of the standard's wrapping are the key itself.
openssl pkey -in "$key" -pubout -outform DER | tail -c 32 | base64 > "$public"
