# The handful of commands people type; `make` alone lists them.

DESTDIR   :=
PREFIX    := /usr
ARCH      := $(shell uname -m)
TARGET    := $(ARCH)-unknown-linux-musl
BIN       := target/$(TARGET)/release/ostree-prepare-root
QEMU_TOOL := cargo run --quiet --release --locked --package prepare-root-qemu --
LIB        = $(DESTDIR)$(PREFIX)/lib
SHARE      = $(DESTDIR)$(PREFIX)/share
DEB_ARCH   = $(shell dpkg --print-architecture)
# Everything expects the program below target/.
unexport CARGO_TARGET_DIR

.PHONY: help build boot test check matrix lifecycle others sabotage guests boot-times bench boot-compare faults fuzz toolchain install deb deb-check dependencies

help:
	@echo 'make boot      boot a Debian OSTree system in QEMU with our program in its initramfs'
	@echo '               (SUITE=trixie|forky, ARGS=--console to watch)'
	@echo 'make test      everything: format, lints, unit tests, comparison with libostree, QEMU'
	@echo 'make check     the same without QEMU and with a selection of the comparison: minutes'
	@echo 'make matrix    every system and way to boot, and the table docs/boot-matrix.md: an hour'
	@echo '               (ONLY=TEXT: those with TEXT in their names; no table is written)'
	@echo 'make lifecycle build, serve, install, upgrade, roll back, extend, and the table docs/lifecycle.md: an hour'
	@echo '               (ONLY=TEXT: the stories with TEXT in their names)'
	@echo 'make others    the scenarios outside of the matrix: what goes wrong, and what is asked for'
	@echo 'make sabotage  break the program in ten ways: the comparison with libostree must notice'
	@echo 'make guests    all namespace tests inside Linux 6.1 and 6.12: hours (make test has most)'
	@echo 'make boot-times'
	@echo '               how long until init, with every initramfs, and docs/benchmarks.md: ten minutes'
	@echo 'make bench     the program beside libostree'"'"'s and the floor, real boots of both, what images grow by:'
	@echo '               docs/benchmarks.md and the pictures: half an hour (RUNS=20, ONLY=TEXT: a part, nothing written)'
	@echo 'make boot-compare'
	@echo '               only the part of that in QEMU: twenty minutes'
	@echo 'make faults    every system call fails, or the program is killed there: half an hour (make check has a sample)'
	@echo 'make fuzz      fuzz the parsers and whole disks, SECONDS=600 each (needs cargo-fuzz)'
	@echo 'make build     the static program: $(BIN)'
	@echo 'make install   put the program, what initramfs generators need, and manual pages below DESTDIR'
	@echo 'make deb       the Debian package, in target/deb (DEB_ARCH=amd64|arm64)'
	@echo 'make deb-check build it twice and compare; lint, install and purge it in trixie and forky'

# Panics name source files: without the option, the program would tell where Cargo keeps the crates. Flags that
# a distribution has for its compiler's linker mean nothing to ours, so RUSTFLAGS does not count.
build: toolchain
	CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}/registry/src=/crates" \
		cargo build --release --locked --package prepare-root --target $(TARGET)

# Says what is missing, where Cargo would show a page of errors.
toolchain:
	@tests/toolchain $(TARGET)

SUITE := trixie
boot: dependencies build
	$(QEMU_TOOL) boot --suite $(SUITE) $(ARGS)

test: dependencies
	tests/run test

check: dependencies
	tests/run check

ONLY :=
RUNS :=
matrix: dependencies build
	$(QEMU_TOOL) matrix $(if $(ONLY),"$(ONLY)")

lifecycle: dependencies build
	$(QEMU_TOOL) lifecycle $(if $(ONLY),"$(ONLY)")

others: dependencies build
	$(QEMU_TOOL) test others

sabotage: dependencies
	tests/sabotage

guests: dependencies build
	$(QEMU_TOOL) namespaces all

boot-times: dependencies build
	$(QEMU_TOOL) boot-times

# Measures what the machine does: the driver itself need not be fast. It fails when a mark is missed.
bench: dependencies build
	cargo build --quiet --release --locked --package prepare-root-bench-programs --target $(TARGET)
	status=0; \
	cargo run --quiet --locked --package prepare-root-bench -- $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only "$(ONLY)") || status=1; \
	$(if $(RUNS)$(ONLY),:,$(QEMU_TOOL) compare) || status=1; \
	exit $$status

boot-compare: dependencies build
	$(QEMU_TOOL) compare

faults: dependencies build
	PREPARE_ROOT_FAULTS=all cargo test --quiet --locked --package prepare-root --test faults

SECONDS := 600
fuzz:
	fuzz/run $(SECONDS)

test matrix lifecycle others guests deb-check: NEEDED := all
# Says what it installs: Debian packages and Rust targets that are not there yet.
dependencies:
	@tests/install-dependencies $(NEEDED)

install:
	@[ '$(PREFIX:/=)' = /usr ] || { echo 'PREFIX=$(PREFIX): dracut, initramfs-tools and mkinitcpio look only below /usr;' \
		'leave PREFIX out, and name another root directory with DESTDIR=' >&2; exit 1; }
	install -D -m 0755 $(BIN) "$(LIB)/prepare-root/ostree-prepare-root"
	install -m 0644 initramfs/requirements.sh "$(LIB)/prepare-root/requirements.sh"
	install -m 0755 initramfs/after-failure.sh "$(LIB)/prepare-root/after-failure"
	install -m 0755 boot-loader/esp-sync boot-loader/assess "$(LIB)/prepare-root/"
	install -m 0644 boot-loader/common.sh "$(LIB)/prepare-root/"
	install -D -m 0644 boot-loader/80-prepare-root.preset "$(LIB)/systemd/system-preset/80-prepare-root.preset"
	install -D -m 0644 boot-loader/grub-assess.cfg "$(SHARE)/prepare-root/grub-assess.cfg"
	install -d "$(LIB)/systemd/system/multi-user.target.wants"
	install -m 0644 $(wildcard boot-loader/*.service boot-loader/*.path) "$(LIB)/systemd/system/"
	set -e; for unit in prepare-root-esp.service prepare-root-esp-changed.service; do \
		ln -sfn "../$$unit" "$(LIB)/systemd/system/multi-user.target.wants/$$unit"; done
	install -d "$(LIB)/dracut/modules.d/40ostree"
	install -m 0755 dracut/40ostree/*.sh "$(LIB)/dracut/modules.d/40ostree/"
	install -m 0644 dracut/40ostree/*.service "$(LIB)/dracut/modules.d/40ostree/"
	install -D -m 0644 dracut/50-prepare-root.conf "$(LIB)/dracut/dracut.conf.d/50-prepare-root.conf"
	set -e; for file in $(wildcard initramfs-tools/hooks/* initramfs-tools/scripts/*/*); do \
		install -D -m 0755 $$file "$(SHARE)/$$file"; done
	set -e; for file in $(wildcard mkinitcpio/install/* mkinitcpio/hooks/*); do \
		install -D -m 0755 $$file "$(LIB)/initcpio/$${file#mkinitcpio/}"; done
	install -D -m 0755 mkinitrd/prepare-root-mkinitrd "$(DESTDIR)$(PREFIX)/sbin/prepare-root-mkinitrd"
	set -e; for file in $(wildcard mkinitrd/kernel/*/*); do \
		install -D -m 0755 $$file "$(SHARE)/$${file#mkinitrd/}"; done
	install -D -m 0644 debian/copyright "$(SHARE)/doc/prepare-root/copyright"
	install -D -m 0644 docs/troubleshooting.md "$(SHARE)/doc/prepare-root/troubleshooting.md"
	install -D -m 0644 examples/prepare-root.conf "$(SHARE)/doc/prepare-root/examples/prepare-root.conf"
	install -m 0644 examples/mkinitrd.conf "$(SHARE)/doc/prepare-root/examples/mkinitrd.conf"
	install -D -m 0644 docs/ostree-prepare-root.8 "$(SHARE)/man/man8/ostree-prepare-root.8"
	install -D -m 0644 docs/prepare-root-mkinitrd.8 "$(SHARE)/man/man8/prepare-root-mkinitrd.8"
	install -D -m 0644 docs/prepare-root-assess.service.8 "$(SHARE)/man/man8/prepare-root-assess.service.8"
	install -D -m 0644 docs/prepare-root.conf.5 "$(SHARE)/man/man5/prepare-root.conf.5"

deb:
	@tests/install-dependencies deb
	debian/build $(DEB_ARCH)

deb-check: dependencies
	tests/deb
