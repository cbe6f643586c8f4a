# Two commands do everything on a fresh machine that has Python 3.11 or newer with venv: `make demo` and `make test`.
# All of it happens in .venv, which `make clean` removes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for processes, not for the processor.
WORKERS ?= 4

.PHONY: demo test test-long lint format build clean

demo: $(VENV)/installed
	@$(BIN)/remaphore demo

test: $(VENV)/installed
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -m "not long" -n $(WORKERS) --dist loadgroup $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=90
	$(BIN)/coverage report --include='remaphore/protocol/*' --fail-under=100

# The full counts of what `make test` does in samples.
test-long: $(VENV)/installed
	$(BIN)/python -m pytest --hypothesis-profile=long --timeout=3600 $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# pip older than 25.1 knows no dependency groups, and a venv begins with the pip that its Python came with.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

clean:
	rm -rf $(VENV) dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
