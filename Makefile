PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist worksteal

.PHONY: quickstart test test-system lint pins clean

quickstart: $(BIN)/pip  ## install pinned, and run the three experiments on docstrings
	$(BIN)/pip install --quiet -c constraints.txt '.[offline]'
	$(BIN)/ragcun reproduce --profile quickstart

test: $(BIN)/pip  ## install pinned, and run lint, types, import contracts and tests
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(MAKE) lint VENV=$(VENV)
	$(PYTEST)

test-system: $(BIN)/pip  ## tests of minutes, of mteb itself, and of every Python that is installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,mteb]'
	$(PYTEST) -m system

lint:  ## what `test` checks before the tests
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

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
