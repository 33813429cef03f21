# The handful of commands people type. `make help` lists them.
#
#   make boot    boot a real Debian OSTree system in QEMU with our program in its initramfs
#   make test    everything: format, lints, unit, namespace and QEMU tests
#   make check   the same without QEMU, in a few minutes
#   make install DESTDIR= PREFIX=/usr

PREFIX  ?= /usr
DESTDIR ?=
TARGET  ?= $(shell uname -m)-unknown-linux-musl
BIN     := target/$(TARGET)/release/ostree-prepare-root

.PHONY: build install
build:
	cargo build --release --locked --target $(TARGET)

install:
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/lib/prepare-root/ostree-prepare-root
	install -d $(DESTDIR)$(PREFIX)/lib/dracut/modules.d/40ostree
	install -m 0755 dracut/40ostree/*.sh $(DESTDIR)$(PREFIX)/lib/dracut/modules.d/40ostree/
	install -m 0644 dracut/40ostree/*.service $(DESTDIR)$(PREFIX)/lib/dracut/modules.d/40ostree/
	install -D -m 0644 dracut/50-prepare-root.conf $(DESTDIR)$(PREFIX)/lib/dracut/dracut.conf.d/50-prepare-root.conf
