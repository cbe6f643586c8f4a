# Two commands do everything on a fresh machine that has Python 3.11 or newer with venv: `make demo` and `make test`.
# All of it happens in .venv, which `make clean` removes.

PYTHON ?= python3
VENV := .venv
# What is measured has the packages of a user beside it, not those of a developer: structlog imports rich where it is.
BENCH := .venv-bench
HOURS ?= 1
BIN := $(VENV)/bin
# Most tests wait for processes, not for the processor.
WORKERS ?= 4
MEASURED ?= --source=remaphore.protocol

.PHONY: demo test coverage places test-long test-lowest bench bench-short soak fleet lint format docs build clean

demo: $(VENV)/installed
	@$(BIN)/remaphore demo

# Compiled beforehand: the tests start processes by the thousand, and not every environment lets them keep the bytecode.
# Only the lines of the protocol are counted, all of which must run: `make coverage` counts all, which takes a third longer.
# pytest keeps the bytecode of its assertions likewise: else each worker would make all of it.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/installed $(VENV)/assertions
	rm -f .coverage .coverage.*
	$(BIN)/python -m compileall -q remaphore plugins
	$(BIN)/coverage run $(MEASURED) -m pytest -m "not long" -n $(WORKERS) --dist loadgroup $(ARGS) </dev/null
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='remaphore/protocol/*' --fail-under=100

coverage:
	$(MAKE) test MEASURED=
	$(BIN)/coverage report --fail-under=90

# What a new reason, hook, finding, key, command, log event or public name lacks, one line each, in seconds.
places: $(VENV)/installed
	@$(BIN)/python -m pytest -q --no-header --tb=line -m places -n 2 $$(grep -rl --include='test_*.py' mark.places tests) </dev/null

# The full counts of what `make test` does in samples.
test-long: $(VENV)/installed
	$(BIN)/python -m pytest --hypothesis-profile=long --timeout=3600 $(ARGS)

# The oldest versions of what we depend on, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lowest/bin/python -m pip install --quiet --editable . --group test --group docs --constraint tests/lowest.txt
	$(VENV)-lowest/bin/python -m pytest -m "not long" -n $(WORKERS) --dist loadgroup $(ARGS)

# docs/performance.md says what it prints; results are kept in .bench/. The short form is for busy machines.
bench: $(BENCH)/installed
	$(BENCH)/bin/python -m benchmarks --json .bench/bench.json $(ARGS)

bench-short: $(BENCH)/installed
	$(BENCH)/bin/python -m benchmarks --short --json .bench/bench-short.json $(ARGS)

soak: $(BENCH)/installed
	$(BENCH)/bin/python -m benchmarks.soak --hours $(HOURS) --output .bench/soak $(ARGS)

fleet: $(BENCH)/installed
	$(BENCH)/bin/python -m benchmarks.fleet --output .bench/fleet $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in .site/: .site/index.html is where to begin. The variable is about the generator's own future.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

build: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

# pip older than 25.1 knows no dependency groups, and a venv begins with the pip that its Python came with.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

# With those of the test files that have changed, by two processes. What cannot be imported is a matter of the tests.
$(VENV)/assertions: $(VENV)/installed $(shell find tests -name 'test_*.py')
	@printf '%s\n' $(filter %.py,$?) | xargs -n 180 -P 2 $(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1; touch $@

$(BENCH)/installed: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH)/bin/python -m pip install --quiet --editable '.[embedded,metrics]' --group bench
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest $(BENCH) .bench .site dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
