# What a person types. Each target installs what it lacks (make setup) and says so.
#
#   make demo    real cables across a line that loses 5 % in bursts
#   make test    everything that can fail, in under 15 minutes
#   make bench   the measurements of docs/benchmarks.md
#   make lint    formatting and clippy
#   make build   the release programs, in target/release
#   make install the programs, manuals, units and example configurations, below DESTDIR

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr
HOSTS ?= sender receiver
TOKEN_MODULE := target/sk-dummy.so
SAMPLES := tests/samples/telegram.txt tests/samples/annex.pdf tests/samples/photograph.png
RELEASE := target/release
BENCH_OPTIONS ?=

.PHONY: all build setup demo test lint fmt bench bench-quick install clean

all: build

# The system packages that the build and valise-loopback need, by what shows their presence.
# Root is used for apt-get only, and only when something is missing.
setup:
	@missing=(); \
	command -v cc >/dev/null || missing+=(gcc libc6-dev); \
	command -v pkg-config >/dev/null || missing+=(pkg-config); \
	pkg-config --exists libsystemd 2>/dev/null || missing+=(libsystemd-dev); \
	command -v ssh-keygen >/dev/null || missing+=(openssh-client); \
	if [ $${#missing[@]} -gt 0 ]; then \
	  echo "make: Debian packages are missing and will be installed: $${missing[*]}"; \
	  if [ "$$(id -u)" = 0 ]; then sudo=(); \
	  elif command -v sudo >/dev/null; then sudo=(sudo); echo "make: this needs root, once, for apt-get"; \
	  else echo "make: as root, run: apt-get install $${missing[*]}"; exit 3; fi; \
	  "$${sudo[@]}" apt-get update -qq && \
	  "$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" || exit 3; \
	fi; \
	command -v $(CARGO) >/dev/null || { \
	  echo "make: cargo is missing; install Rust 1.91 or later, as https://rustup.rs says, and run make again"; exit 3; }

build: setup
	$(CARGO) build --release --workspace --bins

demo: build
	@echo
	@echo "== The sample cables, over a line that loses 5 % in bursts, reorders, duplicates and corrupts"
	$(RELEASE)/valise-loopback --loss 5% --burst 5ms --reorder 2% --duplicate 1% --corrupt 0.1% \
	  --rate "100 Mbit/s" $(SAMPLES)
	@echo
	@echo "== One generated cable of 200 MB, over the same line"
	$(RELEASE)/valise-loopback --loss 5% --burst 5ms --reorder 2% --duplicate 1% --corrupt 0.1% \
	  --rate "400 Mbit/s" --count 1 --size 200000000

test: setup $(if $(VALISE_TOKEN_MODULE),,$(TOKEN_MODULE))
	$(CARGO) test --workspace

# OpenSSH's own test module, which makes and uses security keys without hardware. It is taken out of Debian's package:
# installing that would bring another OpenSSH. Nothing of it is part of what is built.
$(TOKEN_MODULE):
	@mkdir -p target && folder=$$(mktemp -d "$$PWD/target/openssh-tests.XXXXXX") && cd "$$folder" || exit 3; \
	trap 'rm -rf "$$folder"' EXIT; \
	fetch() { apt-get -qq download openssh-tests 2>fetched; }; \
	{ fetch || { [ "$$(id -u)" = 0 ] && apt-get update -qq && fetch; }; } && dpkg -x openssh-tests_*.deb . && \
	mv usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so "$(CURDIR)/$@" || { [ ! -s fetched ] || cat fetched >&2; \
	  echo "make: $@ is missing: with a network, run apt-get update as root and make $@ again;" >&2; \
	  echo "make: or name the module sk-dummy.so of OpenSSH's regression tests in VALISE_TOKEN_MODULE" >&2; exit 3; }

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

bench: build
	$(RELEASE)/valise-bench --json target/bench.json $(BENCH_OPTIONS)

bench-quick: build
	$(RELEASE)/valise-bench --quick --json target/bench.json $(BENCH_OPTIONS)

# Installs what `make` built, for both hosts or for one (HOSTS=sender); as root on a running system also makes the
# users and folders.
install:
	@test -x $(RELEASE)/valise-sender && test -x $(RELEASE)/valise-receiver || { echo "make: run make first, as yourself"; exit 3; }
	for host in $(HOSTS); do \
	  install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/valise-$$host && \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system config/systemd/valise-$$host-*.service && \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d config/sysusers/valise-$$host.conf && \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d config/tmpfiles/valise-$$host.conf && \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/valise config/$$host.toml && \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/valise-$$host.8 || exit 3; \
	  if [ -z "$(DESTDIR)" ] && command -v systemd-sysusers >/dev/null; then \
	    systemd-sysusers valise-$$host.conf && systemd-tmpfiles --create valise-$$host.conf || exit 3; fi; \
	done
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/udev/rules.d config/udev/*.rules
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/valise README.md docs/*.md config/trust.toml

clean:
	$(CARGO) clean
