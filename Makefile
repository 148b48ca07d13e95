# Every target can be run again. `make demo` and `make test` need Rust and a Debian, and bring the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test chaos lint sqlx bench bench-queue
BENCH := .jobctl/bench
PHOTO := jobs/photos/Kleiber_by_Lukas_Baubkus.jpg

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Judge real photographs and known damage to them, with a private Postgres (PHOTOS=DIR: yours)
	deploy/setup.sh
	cargo build --release
	jobs/demo.sh

test: ## Run all tests
	deploy/setup.sh test
	cargo test --no-fail-fast

chaos: ## Let everything die for up to 30 minutes, and see that nothing is lost (CHAOS_SEED=N: the same again)
	deploy/setup.sh test
	cargo test --test it --no-run
	CHAOS_SEED=$${CHAOS_SEED:-$$RANDOM} CHAOS_ROUNDS=$${CHAOS_ROUNDS:-340} CHAOS_MINUTES=$${CHAOS_MINUTES:-28} CHAOS_SLOTS=$${CHAOS_SLOTS:-18} \
	  cargo test --test it chaos::every_job_ends_once_whatever_dies -- --exact --nocapture

lint: ## Check format, clippy's lints, dependencies and shell scripts
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then (set -x; cargo deny check); \
	  else echo 'lint: no cargo-deny: `cargo install cargo-deny --locked` brings it'; fi
	@if command -v shellcheck >/dev/null; then (set -x; shellcheck deploy/*.sh deploy/slurm/*.sbatch jobs/*.sh .ci/run); \
	  else echo 'lint: no shellcheck: `apt-get install shellcheck` brings it'; fi
	@for tool in 'systemd-analyze verify deploy/systemd/jobctl-worker@.service' 'hadolint deploy/compose/Dockerfile' \
	  'promtool check rules deploy/prometheus/jobctl.rules.yml' 'promtool test rules deploy/prometheus/jobctl.rules.test.yml' \
	  'kubernetes-validate --strict deploy/kubernetes/worker.yaml' \
	  'check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/docker-compose.yml'; do \
	  command -v "$${tool%% *}" >/dev/null \
	    || { echo "lint: not here, so not run: $$tool"; continue; }; \
	  (set -x; $$tool); \
	done

sqlx: ## Check the queries against a fresh database and renew .sqlx
	@command -v cargo-sqlx >/dev/null || { echo 'sqlx: first `cargo install sqlx-cli --version 0.9.0 --no-default-features --features postgres,rustls`' >&2; exit 1; }
	[[ -x target/debug/jobctl ]] || cargo build
	@url=$$(env -u DATABASE_URL target/debug/jobctl db url); \
	export DATABASE_URL=$${url%/*}/sqlx SQLX_OFFLINE=false; \
	(set -x; cargo sqlx database reset -y; cargo sqlx prepare -- --all-targets)

bench: ## Time the metrics against the Python libraries that define them
	deploy/setup.sh bench
	[[ -x $(BENCH)/bin/pip ]] || python3 -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet numpy scikit-image opencv-python-headless pillow torch torchmetrics
	[[ -e jobs/photos ]] || jobs/photos.sh jobs/photos
	cargo build --release
	$(BENCH)/bin/python benches/peers.py target/release/jobctl $(PHOTO)

bench-queue: ## Time the queue against riverqueue and Procrastinate, on one private Postgres (QUEUE="--rounds 1 …")
	deploy/setup.sh bench
	[[ -x $(BENCH)/bin/pip ]] || python3 -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet 'procrastinate==3.10.0' 'psycopg[binary,pool]'
	cargo build --release
	cargo build --manifest-path benches/peers/queue/Cargo.toml --target-dir target/peers
	url=$$(env -u DATABASE_URL target/release/jobctl db url); \
	$(BENCH)/bin/python benches/queues.py target/release/jobctl target/peers/debug/queue-peer $(BENCH)/bin/python "$$url" $(QUEUE)
