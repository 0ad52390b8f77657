PYTHON ?= python3
VENV ?= .venv
SERVING ?= .venv-serving
BIN := $(VENV)/bin
WORKERS ?= 2
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist worksteal

.PHONY: help quickstart test test-system test-serving lint pins clean

help:  ## say what each target does, in one line
	@echo "make TARGET [VENV=$(VENV)] [PYTHON=$(PYTHON)] [WORKERS=$(WORKERS)]"
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

quickstart: $(BIN)/pip  ## install pinned, and reproduce a small paper on docstrings, in minutes on a CPU
	$(BIN)/pip install --quiet -c constraints.txt '.[offline]'
	$(BIN)/ragcun reproduce --profile quickstart

test: $(BIN)/pip  ## install pinned, and run lint, types, import contracts and tests
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(MAKE) lint VENV=$(VENV)
	$(PYTEST)

test-system: $(BIN)/pip  ## run tests of minutes, of mteb itself, and of every Python that is installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,mteb]'
	$(PYTEST) -m system

test-serving:  ## run the snippets of docs/guides/serve.md, in an environment of their own
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/pip install --quiet -r tests/serving/requirements.txt
	$(SERVING)/bin/python -m pytest -n $(WORKERS) --dist worksteal --confcutdir tests/serving \
		tests/serving/serve_guide.py

lint:  ## run what `test` checks before the tests: style, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pins: $(BIN)/pip  ## renew constraints.txt from a fresh .venv with the newest versions that fit
	$(BIN)/pip install --quiet --upgrade -e '.[dev,mteb]'
	{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable \
		| sed 's/+.*//' | grep -v -i -E '^(nvidia|triton)'; } > constraints.new
	mv constraints.new constraints.txt

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

clean:  ## remove the environment and the caches of tools; workspaces stay
	rm -rf $(VENV) $(SERVING) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
