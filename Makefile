# Every task of this repository. `make demo` and `make test` need Python ≥ 3.11 and nothing else.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test lint format bench faults chaos lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the pinned dependencies; does nothing when it is up to date

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "GoQueue needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ": make PYTHON=python3.11 …")'
	@echo "Setting up .venv (a minute at most, once)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY) ## Run 1,000 jobs of three types through a temporary stack and check every number
	@$(BIN)/goqueue demo

dev: $(READY) ## Run everything on this machine until Ctrl-C; data stays in .goqueue/
	@$(BIN)/goqueue dev

test: $(READY) ## Run the whole test suite on embedded PostgreSQL and Valkey, in two processes
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(READY) ## Check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## Format the code, and mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: $(READY) ## Measure GoQueue and bare Dramatiq in turn: a table and JSON
	@$(BIN)/python -m bench

faults: $(READY) ## Give stock Dramatiq and GoQueue the same faults: a table (under two minutes)
	@$(BIN)/python -m bench.faults

chaos: $(READY) ## Kill, stop and cut at random for ten minutes, then count what was lost (nothing may be)
	@$(BIN)/python -m tests.system.chaos --minutes 10

lock: $(READY) ## Pin the newest versions that pyproject.toml allows, and install them
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@{ echo '# Made by `make lock`: what `make setup` installs. Ranges are in pyproject.toml.'; \
	  $(BIN)/uv pip compile pyproject.toml --extra dev --group test --universal --python-version 3.11 \
	  --no-emit-index-url --no-annotate --no-header --quiet --upgrade; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@$(MAKE) --no-print-directory setup

clean: ## Remove .venv, the data of `make dev`, and caches
	rm -rf .venv .goqueue .mypy_cache .ruff_cache .pytest_cache .hypothesis
