# Two words are enough: `make run` shows the system at work, `make test` proves it. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# One recipe is one script, so that its variables live until its end.
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Outside the clone: a second clone builds from what the first one left. Two clones that build at the same time need a
# folder each: `CARGO_TARGET_DIR=/tmp/other make test`.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/capibara6/target
# Where rustup puts cargo; a shell opened before the installation does not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
PROGRAMS := $(CARGO_TARGET_DIR)/debug
# Beside a C compiler, which is asked for with its headers.
NEEDED := cmake pkg-config
test: NEEDED += pebble redis-server
test: SERVER := postgresql
# Tests of the API that say themselves where things are kept: they would be the same on other servers.
NAMING_THEIR_SERVERS := engines::|jobs_killed::|jobs_redis::|a_batch_is_answered_on_

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target meaning; do
		printf '  make %-13s %s\n' "$$target" "$$meaning"
	done

.PHONY: run
run: NEEDED += curl
run: build ## Start gateway and two backends with a throw-away certificate; prints requests to try
	@exec conf/run-local.sh "$(PROGRAMS)"

.PHONY: test
test: tools ## Check format and lints, build, run every test
	@set -x
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	# Without what can be left out.
	cargo clippy -p gateway --no-default-features --locked -- -D warnings
	# The journey tests start the programs themselves, so those are built first.
	cargo build --workspace --locked
	# Doc tests come before the rest, so that the last lines are the summaries of the many.
	cargo test --workspace --locked --doc
	# At last the tests of the API once more, on a Postgres and a Redis that end with them. The whole workspace is named,
	# so that nothing is built with other features.
	if cargo nextest --version > /dev/null 2>&1; then
		cargo nextest run --workspace --locked
		"$(PROGRAMS)/with-servers" cargo nextest run --workspace --locked --test api \
			-E 'not test(/$(NAMING_THEIR_SERVERS)/)'
	else
		cargo test --workspace --locked --lib --bins --tests
		"$(PROGRAMS)/with-servers" cargo test --workspace --locked --test api -- \
			$(foreach name,$(subst |, ,$(NAMING_THEIR_SERVERS)),--skip $(name))
	fi

.PHONY: conformance
conformance: build ## Hold the API against schemathesis, the audit of GraphQL over HTTP and OpenAI's SDK
	@for program in python3 npm; do
		if ! command -v "$$program" > /dev/null; then
			echo "$$program is missing. Debian's names: python3 python3-venv nodejs npm" >&2
			exit 1
		fi
	done
	export CONFORMANCE_PYTHON="$(CARGO_TARGET_DIR)/conformance"
	set -x
	python3 -m venv "$$CONFORMANCE_PYTHON"
	"$$CONFORMANCE_PYTHON/bin/pip" install --quiet --requirement backend/tests/conformance/requirements.txt
	npm ci --prefix backend/tests/conformance
	cargo nextest run --workspace --locked --run-ignored only --no-capture \
		-E 'test(/conformance::|openais_sdk/)'

# Seconds for all targets together, and the one target that gets them all.
FUZZ_SECONDS ?= 60
FUZZ_ONLY ?=
# By these libFuzzer sees which branches an input took and what it was compared with. Every stable compiler knows them.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1

.PHONY: fuzz
fuzz: NEEDED += g++
fuzz: tools ## Feed what reads bytes from outside with what nobody expects (FUZZ_SECONDS=60, FUZZ_ONLY=path)
	@host=$$(rustc -vV | sed -n 's/^host: //p')
	# With a target named, build scripts and macros are built as ever.
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --manifest-path gateway/fuzz/Cargo.toml --target "$$host"
	fuzzer="$(CARGO_TARGET_DIR)/$$host/debug/gateway-fuzz"
	left="$(CARGO_TARGET_DIR)/fuzz"
	read -r -d '' -a targets <<< "$(or $(FUZZ_ONLY),$$("$$fuzzer" 2> /dev/null))" || true
	each=$$(( ($(FUZZ_SECONDS) + $${#targets[@]} - 1) / $${#targets[@]} ))
	failed=()
	for target in "$${targets[@]}"; do
		seeds="gateway/fuzz/seeds/$$target" words="gateway/fuzz/words/$$target.dict"
		corpus="$$left/corpus/$$target" broken="$$left/broken/$$target" log="$$left/$$target.log"
		mkdir -p "$$corpus" "$$broken"
		options=(-max_total_time="$$each" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$$broken/")
		if [[ -e "$$words" ]]; then options+=(-dict="$$words"); fi
		if FUZZ_TARGET="$$target" "$$fuzzer" "$${options[@]}" "$$corpus" "$$seeds" > "$$log" 2>&1; then
			printf '%-16s held for %s inputs\n' "$$target" "$$(sed -n 's/^stat::number_of_executed_units: *//p' "$$log")"
			continue
		fi
		failed+=("$$target")
		printf '%-16s is broken; all of it is in %s\n' "$$target" "$$log" >&2
		grep -A 4 -e 'panicked at' -e 'ERROR: libFuzzer' -e 'FUZZ_TARGET' "$$log" >&2 || tail -n 20 "$$log" >&2
		input=$$(sed -n 's/.*Test unit written to //p' "$$log")
		echo "once more: FUZZ_TARGET=$$target $$fuzzer $${input:-$$seeds/*}" >&2
	done
	if (( $${#failed[@]} > 0 )); then
		echo "Broken: $${failed[*]}" >&2
		exit 1
	fi

.PHONY: soak
soak: build ## The tests that wait for things to go wrong, for longer
	@set -x
	SOAK=1 cargo nextest run --workspace --locked -E 'test(/under_load/)' --no-capture

.PHONY: measure
measure: build ## Print what limits and their store cost on this machine
	@set -x
	cargo nextest run --workspace --locked --release --run-ignored only -E 'test(/measure_/)' --no-capture

.PHONY: bench
bench: NEEDED += nginx haproxy wrk h2load=nghttp2-client
bench: tools ## Measure what a request costs the gateway and its peers; writes benches/results/side-by-side.md
	@set -x
	cargo build --release --locked -p gateway -p benches
	mkdir -p benches/results
	# The first core is for the proxy alone.
	taskset -c "1-$$(( $$(nproc --all) - 1 ))" \
		"$(CARGO_TARGET_DIR)/release/side-by-side" "$(CARGO_TARGET_DIR)/release/gateway" > "$(CARGO_TARGET_DIR)/side-by-side.md"
	mv "$(CARGO_TARGET_DIR)/side-by-side.md" benches/results/side-by-side.md
	cat benches/results/side-by-side.md

.PHONY: bench-backend
bench-backend: SERVER := postgresql
bench-backend: tools ## Measure how long users of the backend wait; writes benches/results/backend.md
	@set -x
	cargo build --release --locked -p backend -p benches
	mkdir -p benches/results
	"$(CARGO_TARGET_DIR)/release/backend-load" "$(CARGO_TARGET_DIR)/release/backend" > "$(CARGO_TARGET_DIR)/backend.md"
	mv "$(CARGO_TARGET_DIR)/backend.md" benches/results/backend.md
	cat benches/results/backend.md

.PHONY: build
build: tools ## Build both programs for development
	@set -x
	cargo build --workspace --locked

.PHONY: fmt
fmt: tools ## Format the code
	@set -x
	cargo fmt --all

.PHONY: lint
lint: tools ## Check format, lints, and (where cargo-deny is installed) licences, bans and sources
	@set -x
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	if cargo deny --version > /dev/null 2>&1; then cargo deny --locked check bans licenses sources; fi

.PHONY: docs
docs: build ## Write the generated pages of docs/ anew
	@write() {
		# A program that fails must not leave half a page behind.
		"$${@:2}" > "$(CARGO_TARGET_DIR)/$$1"
		mv "$(CARGO_TARGET_DIR)/$$1" "docs/$$1"
		echo "docs/$$1"
	}
	write configuration.md "$(PROGRAMS)/gateway" manual
	write gateway.schema.json "$(PROGRAMS)/gateway" schema
	write errors.md "$(PROGRAMS)/gateway" errors
	write backend-configuration.md "$(PROGRAMS)/backend" manual
	write openapi.json "$(PROGRAMS)/backend" openapi

.PHONY: web
web: ## Fetch GraphiQL's files, so that the backend serves them at /graphql/ide without asking another host
	@if ! command -v npm > /dev/null; then
		echo "npm is missing. Install Node.js with it (Debian's names: nodejs npm)." >&2
		exit 1
	fi
	set -x
	npm ci --prefix backend/web
	mkdir -p backend/web/dist
	cp backend/web/node_modules/react/umd/react.production.min.js \
		backend/web/node_modules/react-dom/umd/react-dom.production.min.js \
		backend/web/node_modules/graphiql/graphiql.min.js \
		backend/web/node_modules/graphiql/graphiql.min.css backend/web/dist/

# Other bases, for a registry of one's own or none: make images BUILD_BASE=… BASE=…
BUILD_BASE ?=
BASE ?=
VERSION := $(shell sed -n '/^.workspace.package/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: images
images: ## Build both container images, with docker, podman or buildah
	@tool=""
	for candidate in docker podman buildah; do
		# A docker without its daemon builds nothing.
		if "$$candidate" info > /dev/null 2>&1; then tool="$$candidate"; break; fi
	done
	if [[ -z "$$tool" ]]; then
		echo "None of docker, podman and buildah works here; one of them is needed." >&2
		exit 1
	fi
	arguments=()
	if [[ -n "$(BUILD_BASE)" ]]; then arguments+=(--build-arg "BUILD_BASE=$(BUILD_BASE)"); fi
	if [[ -n "$(BASE)" ]]; then arguments+=(--build-arg "BASE=$(BASE)"); fi
	# The format of OCI has no health checks.
	if [[ "$$tool" != docker ]]; then arguments+=(--format docker); fi
	for program in gateway backend; do
		(set -x; "$$tool" build "$${arguments[@]}" --file "Dockerfile.$$program" --tag "localhost/capibara6/$$program:$(VERSION)" .)
	done

.PHONY: secrets
secrets: ## Make the secrets that containers mount, at random, in .secrets/; those that are there stay
	@conf/make-secrets.sh .secrets

.PHONY: up
up: secrets ## Start the whole house in containers, for looking at (https://localhost:8443, admin / admin123)
	@set -x
	docker compose --file docker-compose.yml --file conf/compose/development.yaml up --build --wait

.PHONY: down
down: ## Stop it again; the database stays
	@set -x
	docker compose down

.PHONY: clean
clean: ## Remove what was built and what `make run` left (database, certificate, logs)
	@rm -rf .run
	cargo clean

.PHONY: tools
tools: ## Install what building needs and is missing (Debian, Ubuntu); check Rust
	@missing=()
	# A compiler without the C library's headers builds nothing, so a header is asked for as well.
	echo | cc -fsyntax-only -include stdlib.h -x c - 2> /dev/null || missing+=(build-essential)
	# A program, or program=package where Debian has another name for it.
	for needed in $(NEEDED); do
		command -v "$${needed%%=*}" > /dev/null || missing+=("$${needed#*=}")
	done
	# Debian keeps this server's programs out of the search path.
	if [[ -n "$(SERVER)" ]] && ! compgen -G "/usr/lib/$(SERVER)/*/bin/initdb" > /dev/null && ! command -v initdb > /dev/null; then
		missing+=("$(SERVER)")
	fi
	if (( $${#missing[@]} > 0 )); then
		install="apt-get install --yes --no-install-recommends $${missing[*]}"
		if ! command -v apt-get > /dev/null; then
			echo "Missing: $${missing[*]} (Debian's names). Install them with the package manager of this system." >&2
			exit 1
		elif [[ $$(id -u) == 0 ]]; then
			as_root=(env DEBIAN_FRONTEND=noninteractive)
		elif command -v sudo > /dev/null; then
			as_root=(sudo env DEBIAN_FRONTEND=noninteractive)
		else
			echo "Missing: $${missing[*]}. Run as root: $$install" >&2
			exit 1
		fi
		echo "Installing: $${missing[*]} ($${as_root[*]} $$install)"
		"$${as_root[@]}" apt-get update
		"$${as_root[@]}" $$install
	fi
	if ! command -v cargo > /dev/null; then
		echo "cargo is missing. Install Rust $(RUST_VERSION) or newer: https://rustup.rs" >&2
		exit 1
	fi
	found=$$(rustc --version | cut -d ' ' -f 2)
	if [[ $$(printf '%s\n' "$(RUST_VERSION)" "$$found" | sort -V | head -n 1) != "$(RUST_VERSION)" ]]; then
		echo "Rust $$found is too old, $(RUST_VERSION) or newer is needed: rustup update stable" >&2
		exit 1
	fi
	if ! cargo fmt --version > /dev/null 2>&1 || ! cargo clippy --version > /dev/null 2>&1; then
		echo "rustfmt or clippy is missing: rustup component add rustfmt clippy" >&2
		exit 1
	fi
