# Two commands: `make demo` and `make test`. Both create .venv and install what they need.
# `make test-all` adds the tests marked slow.
PYTHON ?= python3
ARGS ?=
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
SOURCES := daemon export clients tests benchmarks
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test test-all check format clean

demo: .venv/installed-demo
	$(BIN)/zeroloss demo $(ARGS)

test: .venv/installed-test check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow" $(ARGS)

test-all: .venv/installed-test check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

check: .venv/installed-test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy

format: .venv/installed-test
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

.venv/bin-ready:
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed-demo: .venv/bin-ready pyproject.toml constraints.txt
	$(PIP) --editable ".[cpu]"
	touch $@

.venv/installed-test: .venv/bin-ready pyproject.toml constraints.txt
	$(PIP) --editable ".[cpu,export,hyperspy,test]"
	touch $@ .venv/installed-demo

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
