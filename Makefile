# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run demo test test-long browser soak bench lint format lock clean
.DEFAULT_GOAL := run

run: $(VENV)/run ## start everything on http://127.0.0.1:8000
	@$(BIN)/casework up

demo: $(VENV)/run ## work the demo tickets without a person, and check every outcome
	@$(BIN)/casework demo

test: $(VENV)/dev ## every test but the long ones
	$(BIN)/pytest -m "not long"

browser: ## the Chromium that the desk's tests need, on Debian and Ubuntu
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { if [ "$$(id -u)" = 0 ]; then apt-get install -y --no-install-recommends chromium; else sudo apt-get install -y --no-install-recommends chromium; fi; }

test-long: $(VENV)/dev ## workers killed, frozen and cut off at every point of a case
	$(BIN)/pytest -m long
	$(BIN)/python -m tests.soak --seconds 60

SECONDS ?= 180
soak: $(VENV)/dev ## kill, freeze and cut off a loaded service at random; SECONDS=600 SEED=1 for longer, or once more
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/dev ## the service against its floors and a peer, in one run; QUICK=1 for the short one
	$(BIN)/python -m bench.run $(if $(QUICK),--quick) $(BENCH)

lint: $(VENV)/dev ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/dev ## write both lock files anew
	$(BIN)/uv pip compile pyproject.toml --group dev --group build --extra anthropic $(LOCK) -o requirements-dev.lock
	$(BIN)/uv pip compile pyproject.toml --group build $(LOCK) -c requirements-dev.lock -o requirements.lock
LOCK := --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-annotate --no-header --quiet

clean: ## remove the environment and the embedded database
	rm -rf $(VENV) .casework

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Casework needs Python 3.11 or newer; set PYTHON=/path/to/it" && exit 1)
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/run
	@echo "Installing what the tests need …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
