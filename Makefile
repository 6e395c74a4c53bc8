# Two commands on a fresh clone: `make demo` and `make test`. Each sets up what it needs; nothing but packages is fetched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COLBERT := $(BIN)/colbert-mcp --config config.toml --index .demo-index

.PHONY: demo test soak check format clean

demo: $(VENV)/.installed
	$(COLBERT) index examples
	$(COLBERT) search --limit 1 "What should I do when the starter smells of nail varnish?"
	$(COLBERT) search --limit 1 "How many days apart should spring inspections be to prevent swarming?"
	$(COLBERT) search --limit 1 "How do I know that the air in the cellar is safe to breathe?"

test: $(VENV)/.installed-dev check
	$(BIN)/pytest

soak: $(VENV)/.installed-dev
	$(BIN)/pytest -m soak

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .demo-index .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The pip that comes with an older Python tries hundreds of combinations before it finds the one that fits.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
