# The commands for a person. Each target installs the packages that it lacks (make setup), and prints that.
#
#   make demo    real cables across a line that loses 5 % in bursts, and across a noisy serial line
#   make test    every test, in about 20 minutes on two cores
#   make sim SEED=n  one simulated run with its log; make sim-long runs SEEDS of them (100000)
#   make bench   the measurements of docs/benchmarks.md
#   make sweep   faults in single system calls of each role, and every promise checked after each (root; SWEEP="--full")
#   make soak    both hosts at work for ten minutes over a bad line; memory, files, queues, latency (SOAK="--hours 8")
#   make fuzz    every parser with libFuzzer, FUZZ_SECONDS (600) each; TARGET=name for one, FUZZ_JOBS=2 at a time
#   make lint    formatting, clippy, the documentation, licences, sources and unused dependencies
#   make build   the release programs, in target/release
#   make deb     the Debian packages, in target/debian; make deb-test installs them on a booted system (root)
#   make install the programs, manuals, units and example configurations, below DESTDIR, for systems without dpkg
#   make appliance-test  the packages on two hosts under systemd, with the commands of README.md (root; APPLIANCE=--short)
#   make appliance-vm    the same in two virtual machines, whose power is cut (root)

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr
HOSTS ?= sender receiver tools
# Puts PREFIX into the paths in installed units, configurations and pages.
AT_PREFIX = sed -e 's,/usr/\(bin/valise-\|share/doc/valise\),$(PREFIX)/\1,g'
DEBIAN ?= bookworm trixie
# Tools of cargo, each at one version.
CARGO_TOOLS := target/tools
CARGO_DEB := $(CARGO_TOOLS)/cargo-deb@3.8.0
CARGO_CYCLONEDX := $(CARGO_TOOLS)/cargo-cyclonedx@0.5.9
CARGO_DENY := $(CARGO_TOOLS)/cargo-deny@0.20.2
CARGO_MACHETE := $(CARGO_TOOLS)/cargo-machete@0.9.2
CARGO_FUZZ := $(CARGO_TOOLS)/cargo-fuzz@0.13.2
APPLIANCE ?=
TOKEN_MODULE := target/sk-dummy.so
SAMPLES := tests/samples/telegram.txt tests/samples/annex.pdf tests/samples/photograph.png
RELEASE := target/release
DEB_RELEASE := target/deb/release
BENCH_OPTIONS ?=
SEED ?= 1
SEEDS ?= 100000
FUZZ_TOOLCHAIN ?= nightly
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 1
# Bytes of a target's committed corpus.
FUZZ_CORPUS_BYTES ?= 25000
FUZZ_PROGRAMS ?= target/fuzz/build/x86_64-unknown-linux-gnu/release
TARGET ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

SWEEP ?=
SOAK ?=

.PHONY: all build setup demo test sim sim-long lint fmt bench bench-quick strace sweep soak fuzz fuzz-setup fuzz-seeds fuzz-build fuzz-minimize install deb deb-lint deb-test deb-reproduce appliance-setup appliance-test appliance-vm clean

all: build

# The system packages that the build and valise-loopback need, each with a check of its presence.
# Root is used only for apt-get, and only if something is missing.
setup:
	@missing=(); \
	command -v cc >/dev/null || missing+=(gcc libc6-dev); \
	command -v pkg-config >/dev/null || missing+=(pkg-config); \
	pkg-config --exists libsystemd 2>/dev/null || missing+=(libsystemd-dev); \
	command -v ssh-keygen >/dev/null || missing+=(openssh-client); \
	tests/install-packages "$${missing[@]}" || exit 3; \
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
	@echo
	@echo "== The telegram, over a serial line of 115,200 baud that loses and changes bytes"
	$(RELEASE)/valise-loopback --link serial --baud 115200 --loss 0.01% --corrupt 0.01% \
	  tests/samples/telegram.txt

test: setup strace $(if $(VALISE_TOKEN_MODULE),,$(TOKEN_MODULE))
	$(CARGO) test --workspace --no-fail-fast

# OpenSSH's own test module, which makes and uses security keys without hardware. It is taken out of Debian's package,
# because installing the package would install another OpenSSH. No part of it goes into the programs.
$(TOKEN_MODULE):
	@mkdir -p target && folder=$$(mktemp -d "$$PWD/target/openssh-tests.XXXXXX") && cd "$$folder" || exit 3; \
	trap 'rm -rf "$$folder"' EXIT; \
	fetch() { apt-get -qq download openssh-tests 2>fetched; }; \
	{ fetch || { [ "$$(id -u)" = 0 ] && apt-get update -qq && fetch; }; } && dpkg -x openssh-tests_*.deb . && \
	mv usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so "$(CURDIR)/$@" || { [ ! -s fetched ] || cat fetched >&2; \
	  echo "make: $@ is missing: with a network, run apt-get update as root and make $@ again;" >&2; \
	  echo "make: or name the module sk-dummy.so of OpenSSH's regression tests in VALISE_TOKEN_MODULE" >&2; exit 3; }

# Needs root and /dev/fuse: the hosts' disks are mounted.
sim: setup
	$(CARGO) build --release -p valise-tests --bin valise-sim
	$(RELEASE)/valise-sim $(SEED)

sim-long: setup
	$(CARGO) build --release -p valise-tests --bin valise-sim
	@half=$$(( $(SEEDS) / 2 )); \
	$(RELEASE)/valise-sim 1 --count $$half --once --processor 0 & \
	$(RELEASE)/valise-sim $$(( half + 1 )) --count $$(( $(SEEDS) - half )) --once --processor 1; two=$$?; \
	wait $$!; one=$$?; exit $$(( one > two ? one : two ))

lint: setup $(CARGO_DENY) $(CARGO_MACHETE)
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	$(CARGO_DENY)/bin/cargo-deny --locked check licenses bans sources
	$(CARGO_MACHETE)/bin/cargo-machete

fmt:
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

bench: build
	$(RELEASE)/valise-bench --json target/bench.json $(BENCH_OPTIONS)

bench-quick: build
	$(RELEASE)/valise-bench --quick --json target/bench.json $(BENCH_OPTIONS)

# The tests also break a few system calls, and need strace for that.
strace:
	@missing=(); command -v strace >/dev/null || missing+=(strace); tests/install-packages "$${missing[@]}"

sweep: build strace
	$(RELEASE)/valise-sweep $(SWEEP)

soak: build
	$(RELEASE)/valise-soak $(SOAK)

# libFuzzer needs a nightly compiler, which rustup installs, and a C++ compiler.
fuzz-setup: setup $(CARGO_FUZZ)
	@missing=(); command -v c++ >/dev/null || missing+=(g++); tests/install-packages "$${missing[@]}"
	@command -v rustup >/dev/null || { echo "make: rustup is missing; it brings the nightly compiler, as https://rustup.rs says"; exit 3; }
	@rustup run $(FUZZ_TOOLCHAIN) rustc --version >/dev/null 2>&1 || rustup toolchain install --profile minimal $(FUZZ_TOOLCHAIN)

fuzz-seeds: setup
	$(CARGO) run --quiet -p valise-tests --bin valise-fuzz-seeds -- target/fuzz/seeds

RUN_FUZZ = RUSTUP_TOOLCHAIN=$(FUZZ_TOOLCHAIN) $(CARGO_FUZZ)/bin/cargo-fuzz
FUZZ_OPTIONS = --fuzz-dir fuzz --target-dir target/fuzz/build

fuzz-build: fuzz-setup
	$(RUN_FUZZ) build $(FUZZ_OPTIONS)

# New inputs go to target/fuzz/corpus, inputs that show a fault to fuzz/artifacts; the log of each target is in target/fuzz.
fuzz: fuzz-seeds fuzz-build
	@one() { \
	  mkdir -p target/fuzz/corpus/$$1; \
	  $(RUN_FUZZ) run $(FUZZ_OPTIONS) $$1 target/fuzz/corpus/$$1 fuzz/corpus/$$1 target/fuzz/seeds/$$1 -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
	    >target/fuzz/$$1.log 2>&1 || { tail -40 target/fuzz/$$1.log; echo "$$1: see target/fuzz/$$1.log"; return 1; }; \
	  echo "$$1: $$(grep -E '^#[0-9]+.*cov:' target/fuzz/$$1.log | tail -1)"; \
	}; \
	export -f one; printf '%s\n' $(TARGET) | xargs -P $(FUZZ_JOBS) -I {} bash -c 'one {}'

# Rewrites fuzz/corpus: the fewest inputs that reach code which the seeds do not reach, and of those the smallest.
fuzz-minimize: fuzz-seeds fuzz-build
	@set -e; for target in $(TARGET); do \
	  new=target/fuzz/minimized/$$target; rm -rf $$new; mkdir -p $$new target/fuzz/corpus/$$target fuzz/corpus/$$target; \
	  cp target/fuzz/seeds/$$target/* $$new; \
	  $(FUZZ_PROGRAMS)/$$target -set_cover_merge=1 -use_counters=0 -max_len=65536 -rss_limit_mb=2048 $$new \
	    fuzz/corpus/$$target target/fuzz/corpus/$$target >target/fuzz/$$target-minimize.log 2>&1; \
	  (cd $$new && rm $$(ls ../../seeds/$$target)); \
	  find $$new -type f -printf '%s %p\n' | sort -n | awk '(sum += $$1) > $(FUZZ_CORPUS_BYTES) { print $$2 }' | xargs -r rm; \
	  rm -r fuzz/corpus/$$target; mv $$new fuzz/corpus/$$target; \
	  echo "$$target: $$(ls fuzz/corpus/$$target | wc -l) inputs"; \
	done

$(CARGO_TOOLS)/%:
	@rm -rf $@.part
	$(CARGO) install --quiet --locked --root $@.part $* && mv $@.part $@ || { rm -rf $@.part; exit 3; }

# Builds in target/deb, apart from the programs of `make build`: packaged programs contain no path of this machine.
deb: setup $(CARGO_DEB) $(CARGO_CYCLONEDX)
	@missing=(); command -v dpkg-shlibdeps >/dev/null || missing+=(dpkg-dev); tests/install-packages "$${missing[@]}"
	PATH="$(CURDIR)/$(CARGO_DEB)/bin:$(CURDIR)/$(CARGO_CYCLONEDX)/bin:$$PATH" packaging/build

deb-lint: deb
	@missing=(); command -v lintian >/dev/null || missing+=(lintian); tests/install-packages "$${missing[@]}"
	lintian --allow-root --fail-on error target/debian/*.deb

# Installs, upgrades (with a cable in transit), removes and purges the packages, on a booted system of each release.
deb-test: deb
	@missing=(); \
	command -v mmdebstrap >/dev/null || missing+=(mmdebstrap); \
	command -v systemd-nspawn >/dev/null || missing+=(systemd-container); \
	tests/install-packages "$${missing[@]}"
	@set -e; for debian in $(DEBIAN); do echo "== $$debian"; packaging/test $$debian; done

deb-reproduce: deb
	PATH="$(CURDIR)/$(CARGO_DEB)/bin:$(CURDIR)/$(CARGO_CYCLONEDX)/bin:$$PATH" packaging/reproduce

# Installs the output of `make`: a host (HOSTS=sender or HOSTS=receiver), or the tools for any PC (HOSTS=tools). As root on a
# running system it also makes the users and folders. It never touches an existing configuration.
install:
	@test -x $(RELEASE)/valise-sender && test -x $(RELEASE)/valise-receiver && test -x $(RELEASE)/valise-wire || { \
	  echo "make: run make first, as yourself"; exit 3; }
	@set -e; for host in $(HOSTS); do case $$host in \
	tools) \
	  install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/valise-loopback $(RELEASE)/valise-verify \
	    $(RELEASE)/valise-wire $(RELEASE)/valise-bench; \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/*.1 ;; \
	sender|receiver) \
	  install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/valise-$$host; \
	  for unit in config/systemd/valise-$$host-*.service; do \
	    $(AT_PREFIX) $$unit | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}; done; \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d config/sysusers/valise-$$host.conf; \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d config/tmpfiles/valise-$$host.conf; \
	  $(AT_PREFIX) config/systemd/valise-$$host-generator | \
	    install -D -m 0755 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system-generators/valise-$$host-generator; \
	  $(AT_PREFIX) config/$$host.toml | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/doc/valise/$$host.toml; \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/valise-$$host.8; \
	  for page in valise-$$host.toml.5 valise-trust.toml.5; do \
	    $(AT_PREFIX) docs/man/$$page | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/man/man5/$$page; done; \
	  install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man7 docs/man/valise.7; \
	  install -d -m 0755 $(DESTDIR)/etc/valise; \
	  if [ -z "$(DESTDIR)" ] && command -v systemd-sysusers >/dev/null; then \
	    systemd-sysusers valise-$$host.conf; systemd-tmpfiles --create valise-$$host.conf; \
	    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi; fi ;; \
	*) echo "make: HOSTS is sender, receiver or tools, not $$host"; exit 2 ;; esac; \
	done
	@install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/udev/rules.d config/udev/*.rules
	@set -e; for page in README.md LICENSE CHANGELOG.md docs/*.md config/trust.toml; do \
	  $(AT_PREFIX) $$page | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/share/doc/valise/$${page##*/}; done
	@echo "installed below $(DESTDIR)$(PREFIX): $(HOSTS)"

# Two hosts, installed by README.md and docs/operations.md, in containers with a systemd of their own. The test's own program
# is built with the packages.
appliance-setup: deb
	@missing=(); \
	command -v mmdebstrap >/dev/null || missing+=(mmdebstrap); \
	command -v systemd-nspawn >/dev/null || missing+=(systemd-container); \
	command -v nft >/dev/null || missing+=(nftables); \
	command -v ip >/dev/null || missing+=(iproute2); \
	command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs); \
	tests/install-packages "$${missing[@]}"

appliance-test: appliance-setup
	@set -e; for debian in $(DEBIAN); do $(DEB_RELEASE)/valise-appliance --debian $$debian $(APPLIANCE); done

appliance-vm: appliance-setup
	@missing=(); \
	command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86); \
	command -v ssh >/dev/null || missing+=(openssh-client); \
	tests/install-packages "$${missing[@]}"
	$(DEB_RELEASE)/valise-appliance --vm $(APPLIANCE)

clean:
	$(CARGO) clean
