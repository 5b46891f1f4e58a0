# `make` alone prints what there is; every target sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SET_UP := $(VENV)/.set-up
BENCH_VENV := .venv-bench
BENCH_SET_UP := $(BENCH_VENV)/.set-up
PACKAGES := providers webhook_api worker runtime local_stack supacal sql

.PHONY: help dev demo test check live bench format clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: $(SET_UP) ## everything on this machine, a tour through one sync, then serve until Ctrl-C
	@$(BIN)/supacal dev --tour

demo: $(SET_UP) ## the same tour on a database of its own, and exit
	@SUPACAL_STATE_DIR=.supacal-demo $(BIN)/supacal dev --reset --tour --exit

test: $(SET_UP) ## the tests
	@$(BIN)/python -m local_stack.node --judges
	@$(BIN)/pytest

check: $(SET_UP) ## formatting, types, imports, SQL, and the Supabase CLI on a real database
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/sqlfluff lint --processes 2 -q sql bench/sql supabase/migrations
	@$(BIN)/squawk supabase/migrations/*.sql
	@$(BIN)/python -m local_stack.node --judges
	@$(BIN)/python -m local_stack.check_cli
	@$(BIN)/python -m local_stack.check_plpgsql

live: $(SET_UP) ## the clients against real providers (docs/providers says with which credentials)
	@$(BIN)/pytest -n 0 -m live tests/conformance

bench: $(SET_UP) $(BENCH_SET_UP) ## every line of docs/measurements.md, beside its peers; 15 minutes
	@$(BIN)/python -m bench --write-docs

format: $(SET_UP) ## put the code into its usual form
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

clean: ## forget the set-up and what local stacks left behind
	rm -rf $(VENV) $(BENCH_VENV) .supacal .supacal-demo node_modules

$(SET_UP): requirements/dev.txt pyproject.toml
	@echo "Setting up $(VENV) (once; about a minute) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@# setuptools warns at length about every editable install of several packages.
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . \
	  2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

# Peers have a venv of their own. One that cannot be installed is missing from the table.
$(BENCH_SET_UP): bench/requirements.txt
	@echo "Setting up $(BENCH_VENV) (once; half a minute) …"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r bench/requirements.txt \
	  && touch $@ || echo "The peers could not be installed: their lines will say so."
