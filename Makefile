# The handful of commands people type; `make` alone lists them.

DESTDIR   :=
ARCH      := $(shell uname -m)
TARGET    := $(ARCH)-unknown-linux-musl
BIN       := target/$(TARGET)/release/ostree-prepare-root
QEMU_TOOL := cargo run --quiet --release --locked --package prepare-root-qemu --
LIBDIR     = $(DESTDIR)/usr/lib
MANDIR     = $(DESTDIR)/usr/share/man
# Everything expects the program below target/.
unexport CARGO_TARGET_DIR

.PHONY: help build boot test check matrix sabotage guests faults fuzz install dependencies

help:
	@echo 'make boot      boot a Debian OSTree system in QEMU with our program in its initramfs'
	@echo '               (SUITE=trixie|forky, ARGS=--console to watch)'
	@echo 'make test      everything: format, lints, unit tests, comparison with libostree, QEMU'
	@echo 'make check     the same without QEMU and with a selection of the comparison: minutes'
	@echo 'make matrix    every QEMU scenario, and the table docs/boot-matrix.md: an hour and a half'
	@echo '               (ONLY=TEXT: those with TEXT in their names; no table is written)'
	@echo 'make sabotage  break the program in ten ways: the comparison with libostree must notice'
	@echo 'make guests    all namespace tests inside Linux 6.1 and 6.12: hours (make test has most)'
	@echo 'make faults    every system call fails, or the program is killed there: half an hour (make check has a sample)'
	@echo 'make fuzz      fuzz the parsers and whole disks, SECONDS=600 each (needs cargo-fuzz)'
	@echo 'make build     the static program: $(BIN)'
	@echo 'make install   put program, what dracut and initramfs-tools need, and manual pages below DESTDIR'

build:
	cargo build --release --locked --package prepare-root --target $(TARGET)

SUITE := trixie
boot: dependencies build
	$(QEMU_TOOL) boot --suite $(SUITE) $(ARGS)

test: dependencies
	tests/run test

check: dependencies
	tests/run check

ONLY :=
matrix: dependencies build
	$(QEMU_TOOL) matrix $(ONLY)

sabotage: dependencies
	tests/sabotage

guests: dependencies build
	$(QEMU_TOOL) namespaces all

faults: dependencies build
	PREPARE_ROOT_FAULTS=all cargo test --quiet --locked --package prepare-root --test faults

SECONDS := 600
fuzz:
	fuzz/run $(SECONDS)

# Says what it installs: Debian packages and Rust targets that are not there yet.
dependencies:
	@tests/install-dependencies

install:
	install -D -m 0755 $(BIN) $(LIBDIR)/prepare-root/ostree-prepare-root
	install -m 0644 initramfs/requirements.sh $(LIBDIR)/prepare-root/requirements.sh
	install -m 0755 initramfs/after-failure.sh $(LIBDIR)/prepare-root/after-failure
	install -d $(LIBDIR)/dracut/modules.d/40ostree
	install -m 0755 dracut/40ostree/*.sh $(LIBDIR)/dracut/modules.d/40ostree/
	install -m 0644 dracut/40ostree/*.service $(LIBDIR)/dracut/modules.d/40ostree/
	install -D -m 0644 dracut/50-prepare-root.conf $(LIBDIR)/dracut/dracut.conf.d/50-prepare-root.conf
	install -D -m 0755 initramfs-tools/hooks/ostree-prepare-root \
		$(DESTDIR)/usr/share/initramfs-tools/hooks/ostree-prepare-root
	install -D -m 0755 initramfs-tools/scripts/init-bottom/00-ostree-prepare-root \
		$(DESTDIR)/usr/share/initramfs-tools/scripts/init-bottom/00-ostree-prepare-root
	install -D -m 0644 docs/troubleshooting.md $(DESTDIR)/usr/share/doc/prepare-root/troubleshooting.md
	install -D -m 0644 docs/ostree-prepare-root.8 $(MANDIR)/man8/ostree-prepare-root.8
	install -D -m 0644 docs/prepare-root.conf.5 $(MANDIR)/man5/prepare-root.conf.5
