# Two commands do all the set-up on a fresh machine: `make demo` (Python only) and `make test`.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml verifier/pyproject.toml | cksum | cut -d' ' -f1)
DEV_STAMP := $(VENV)/.installed-dev-$(shell cat requirements-dev.lock pyproject.toml verifier/pyproject.toml | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
SOURCES := domain storage stores merkle chain streams projections api cli contracts simulator benchmarks tests verifier

# what decides and what proves is covered branch by branch
COVERAGE := --cov=domain --cov=merkle --cov=stores --cov=verifier/daicho_verify --cov-branch --cov-fail-under=100 \
	--cov-report=term-missing:skip-covered

.PHONY: help demo test lint format bench up down demo-cluster chaos mutants contracts clean

help:  ## show these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(RUN_STAMP)  ## play the whole story on this machine, then keep serving (ARGS=--exit ends instead)
	@$(BIN)/daicho demo $(ARGS)

test: $(DEV_STAMP) lint  ## run every check and every test
	$(BIN)/python -m pytest tests/unit tests/contract $(COVERAGE) $(ARGS)
	$(BIN)/python -m pytest tests/integration tests/e2e tests/faults tests/cluster $(ARGS)

lint: $(DEV_STAMP)  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy domain storage stores merkle chain streams projections api cli contracts simulator verifier/daicho_verify
	PYTHONPATH=.:verifier $(BIN)/lint-imports

format: $(DEV_STAMP)  ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(DEV_STAMP)  ## measure side by side and write build/bench.json
	$(BIN)/python -m benchmarks $(ARGS)

up:  ## start the cluster of docker-compose.yml in containers (docs/cluster.md)
	@deploy/up.sh

down:  ## stop the containers; what they have stored stays
	@deploy/need-compose.sh
	docker compose down

demo-cluster: $(DEV_STAMP)  ## play the demo's story on Kafka, PostgreSQL and a chain, as docker-compose.yml says
	@$(BIN)/python -W ignore -m tests.cluster.demo $(ARGS)

chaos: $(DEV_STAMP)  ## kill and pause everything of a cluster at random under load, then audit it (15 minutes)
	@$(BIN)/python -m tests.cluster.chaos $(ARGS)

mutants: $(DEV_STAMP)  ## take one safeguard after the other away, in a copy, and show which test notices
	@$(BIN)/python -m tests.mutants $(ARGS)

contracts:  ## rebuild the contract's artefact (needs Node.js; only after a change of contracts/*.sol)
	cd contracts && npm ci --ignore-scripts --no-audit --no-fund && node build.mjs

clean:  ## remove what the targets made, but not ./data
	rm -rf $(VENV) build .mypy_cache .ruff_cache .import_linter_cache .coverage

$(VENV)/bin/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { echo "Daicho needs Python 3.11, 3.12 or 3.13: install one and run make again (or make PYTHON=/path/to/python)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: install it (Debian: python3-venv) and run make again." >&2; exit 1; }

$(RUN_STAMP): $(VENV)/bin/python
	@echo "Installing the pinned packages into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e . -e verifier
	@touch $@

$(DEV_STAMP): $(VENV)/bin/python
	@echo "Installing the pinned packages for tests into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e . -e verifier
	@touch $@ $(RUN_STAMP)
