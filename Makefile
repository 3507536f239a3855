# Every task of this repository. `make demo` and `make test` need Python ≥ 3.11 and nothing else.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup setup-pgbouncer demo dev house test test-system test-pgbouncer test-containers test-compose lint format bench faults chaos lock clean setup-promtool dashboards \
  setup-browser test-browser screenshots

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the pinned dependencies; does nothing when it is up to date

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "GoQueue needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ": make PYTHON=python3.11 …")'
	@echo "Setting up .venv (a minute at most, once)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY) ## Run 1,000 jobs of three types through a temporary stack and check every number
	@$(BIN)/goqueue demo

dev: $(READY) ## Run everything on this machine until Ctrl-C; data stays in .goqueue/
	@$(BIN)/goqueue dev

# Installs the Debian package $(2) where the program $(1) is missing. RUNLEVEL=1: starts no server.
define install_debian
	@PATH="$$PATH:/usr/sbin"; command -v $(1) >/dev/null || { \
	  command -v apt-get >/dev/null || { echo "$(1) is missing, and this is no Debian: its tests are skipped"; exit 0; }; \
	  become=; test "$$(id -u)" = 0 || become="sudo -n"; \
	  echo "Installing $(1) (once)…"; \
	  { $$become apt-get -qq update -o DPkg::Lock::Timeout=120 && \
	    $$become env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends $(2) >/dev/null; } \
	  || echo "$(1) could not be installed: its tests are skipped"; }
endef

setup-pgbouncer: ## Install Debian's pgbouncer, which some tests need, where it is missing
	$(call install_debian,pgbouncer,pgbouncer)

setup-promtool: ## Install promtool of Debian's prometheus, which tests of alerts need, where it is missing
	$(call install_debian,promtool,prometheus)

setup-browser: ## Install Debian's Chromium, with letters for every script, where it is missing
	$(call install_debian,chromium,chromium fonts-dejavu-core fonts-noto-color-emoji)

# A machine that others use as well may starve a process for seconds, and a scenario of ten of them notices. What
# failed runs once more, alone, and has failed when it fails again; the first failure stays in the output.
define run_tests
	@$(BIN)/python -m pytest --numprocesses $(1) --dist worksteal $(2) || { test $$? = 1 && \
	  echo "Once more, alone, what failed:" && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 3 $(2); }
endef

# Three on two cores: a test waits for its servers about as long as it computes.
TEST_PROCESSES ?= 3

test: $(READY) setup-pgbouncer setup-promtool ## Run the tests of code, engine, API, pages and deployment on embedded PostgreSQL and Valkey
	$(call run_tests,$(TEST_PROCESSES),)

test-system: $(READY) ## Kill, stop, cut and deploy whole stacks of real processes, a short chaos run among them
	$(call run_tests,2,tests/system)

test-browser: $(READY) setup-browser ## Run the dashboard in a real Chromium, beside real processes
	$(call run_tests,2,tests/browser)

screenshots: $(READY) setup-browser ## Write every page of the dashboard, in both themes, to docs/screenshots
	@$(BIN)/python -m tests.browser.screenshots

# Those of the engine and its features; tests that choose a database themselves go no way but their own.
CORE := $(patsubst %,tests/integration/test_%.py,breakers broker cancelling chains cleaning consumer cron_scheduler \
  dependencies dispatcher edits expiry failures pauses progress_and_logs queue_settings ramp recorder run_at store_jobs \
  store_ready submit unique_keys workers_and_rescuer)

test-pgbouncer: $(READY) setup-pgbouncer ## Run the tests of the engine through PgBouncer in transaction mode
	@$(BIN)/python -m pytest --pooler --numprocesses 2 --dist worksteal $(CORE)

test-containers: $(READY) ## Run the tests of engine and deployment on PostgreSQL and Redis in containers, where a Docker engine answers
	@if docker info >/dev/null 2>&1; then \
	  TESTCONTAINERS_RYUK_DISABLED=$${TESTCONTAINERS_RYUK_DISABLED:-true} $(BIN)/python -m pytest --servers containers --numprocesses 2 --dist worksteal tests/integration tests/deploy; \
	else echo "skipped: no Docker engine answers on this machine"; fi

test-compose: $(READY) ## Run docker-compose.yml with the demo's jobs, kill containers under load, and check what was promised
	@$(BIN)/python -m tests.system.compose

lint: $(READY) ## Check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## Format the code, and mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

house: $(READY) ## Print what the layout of the package looks like in numbers
	@$(BIN)/python -m tests.support.house.numbers

dashboards: $(READY) ## Write the Grafana dashboards of deploy/grafana again
	@$(BIN)/python -m deploy.grafana.build

bench: $(READY) ## Measure GoQueue, bare Dramatiq and (where Ruby has it) Sidekiq in turn
	@$(BIN)/python -m bench

load: $(READY) ## Send 1,000 and 100,000 jobs through the REST API, count every one, write docs/load.md
	@$(BIN)/python -m bench.load

horizon: $(READY) ## Measure what a transaction that is open for three minutes costs (about seven minutes)
	@$(BIN)/python -m bench.horizon

faults: $(READY) ## Give stock Dramatiq and GoQueue the same faults: a table (under two minutes)
	@$(BIN)/python -m bench.faults

CHAOS_MINUTES ?= 10

chaos: $(READY) ## Kill, stop and cut at random for ten minutes, then drain within one, and count what was lost (nothing may be)
	@$(BIN)/python -m tests.system.chaos --minutes $(CHAOS_MINUTES)

lock: $(READY) ## Pin the newest versions that pyproject.toml allows, and install them
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@{ echo '# Made by `make lock`: what `make setup` installs. Ranges are in pyproject.toml.'; \
	  $(BIN)/uv pip compile pyproject.toml --extra dev --group test --group bench --universal --python-version 3.11 \
	  --no-emit-index-url --no-annotate --no-header --quiet --generate-hashes --upgrade; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@{ echo '# Made by `make lock`: what the image gets, of requirements.lock.'; \
	  $(BIN)/uv pip compile pyproject.toml --extra oidc --extra tracing --universal --python-version 3.11 --constraint requirements.lock \
	  --no-emit-index-url --no-annotate --no-header --quiet --generate-hashes; } > requirements.image.lock.new
	@mv requirements.image.lock.new requirements.image.lock
	@$(MAKE) --no-print-directory setup

clean: ## Remove .venv, the data of `make dev`, and caches
	rm -rf .venv .goqueue .mypy_cache .ruff_cache .pytest_cache .hypothesis
