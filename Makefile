# potnet: `make test` and `make demo` are all that a fresh clone needs (Python 3.11 or newer, and make).

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= demo-output
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
STAMP := $(VENV)/.potnet-installed

# Torch comes first and without CUDA: from the indexes that pip already knows, else from PyTorch's
# index of CPU builds, else whatever PyPI has. `make setup TORCH="torch --index-url URL"` names another.
ifeq ($(origin TORCH),undefined)
  TORCH := torch==2.13.0
  CPU_INDEX := https://download.pytorch.org/whl/cpu
  INSTALL_TORCH = $(PIP) install --quiet $(TORCH)+cpu 2>/dev/null \
    || $(PIP) install --quiet $(TORCH) --index-url $(CPU_INDEX) || $(PIP) install --quiet $(TORCH)
else
  INSTALL_TORCH = $(PIP) install --quiet $(TORCH)
endif

.PHONY: help setup test test-slow demo demo-short check lint types docs benchmark clean

help:  ## show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything that the targets below need

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: PYTHON must be 3.11 or newer, got $$($(PYTHON) --version). Set PYTHON=/path/to/python3."; exit 1; }
	@echo "Installing potnet and its dependencies into $(VENV) (a few minutes, once) ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL_TORCH)
	$(PIP) install --quiet -e '.[dev]'
	@echo "Compiling the lattice sums (half a minute, once) ..."
	@$(BIN)/potnet sums examples/crystals/Si.vasp >/dev/null
	@$(BIN)/potnet predict examples/crystals/Si.vasp --model bulk-modulus >/dev/null
	@touch $@

test: setup  ## run the fast tests
	$(BIN)/python -m pytest -m 'not slow'

test-slow: setup  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

demo: setup  ## predict, train and evaluate on the bundled crystals and data (under 5 minutes)
	$(BIN)/potnet demo --output $(OUTPUT) $(if $(DEMO_FAST),--fast)

demo-short: setup  ## the same in seconds
	$(BIN)/potnet demo --output $(OUTPUT) --fast

check: lint types docs test  ## everything that continuous integration runs

lint: setup  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## pyright
	$(BIN)/pyright

docs: setup  ## build the documentation, warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

benchmark: setup  ## measure the lattice sums: error and time side by side
	$(BIN)/python benchmarks/bench_sums.py

clean:  ## remove what was built, keep the environment
	rm -rf build dist docs/_build .pytest_cache .ruff_cache demo-output
