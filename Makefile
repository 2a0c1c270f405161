# potnet: `make test` and `make demo` are all that a fresh clone needs (Python 3.11 or newer, and make).

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= demo-output
ifeq ($(OS),Windows_NT)
  BIN := $(VENV)/Scripts
else
  BIN := $(VENV)/bin
endif
PIP := $(BIN)/python -m pip
STAMP := $(VENV)/.potnet-installed
# Processes that run the tests side by side.
JOBS ?= 2
# How long `make hunt` looks for structure files that do harm, and where it keeps them.
HUNT_MINUTES ?= 60
HUNT_OUTPUT ?= hunt

# What is installed is what was tested: the versions in constraints.txt, which `make lock` writes.
# Torch comes first and without CUDA: from the indexes that pip already knows, else from PyTorch's
# index of CPU builds, else whatever PyPI has. `make setup TORCH="torch --index-url URL"` names another.
ifeq ($(origin TORCH),undefined)
  TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
  CPU_INDEX := https://download.pytorch.org/whl/cpu
  INSTALL_TORCH = $(PIP) install --quiet $(TORCH)+cpu 2>/dev/null \
    || $(PIP) install --quiet $(TORCH) --index-url $(CPU_INDEX) || $(PIP) install --quiet $(TORCH)
  CONSTRAINTS := --constraint constraints.txt
else
  INSTALL_TORCH = $(PIP) install --quiet $(TORCH)
  CONSTRAINTS := --constraint $(VENV)/constraints.txt
endif

.PHONY: help setup lock test test-slow hunt demo demo-short serve check lint types docs package smoke kernels benchmark clean

help:  ## show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything that the targets below need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: PYTHON must be 3.11 or newer, got $$($(PYTHON) --version). Set PYTHON=/path/to/python3."; exit 1; }
	@echo "Installing potnet and its dependencies into $(VENV) (a few minutes, once) ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL_TORCH)
	@grep -v '^torch==' constraints.txt >$(VENV)/constraints.txt  # for a torch of one's own
	$(PIP) install --quiet -e '.[dev]' $(CONSTRAINTS)
	@# How accessible the page is, for tests/browser alone; they skip that without it.
	@command -v npm >/dev/null && npm install --silent --prefix $(VENV)/axe axe-core@4.14.1 || true
	@echo "Preparing the lattice sums (seconds, once) ..."
	@$(BIN)/potnet sums examples/crystals/Si.vasp >/dev/null
	@$(BIN)/potnet predict examples/crystals/Si.vasp --model bulk-modulus >/dev/null
	@touch $@

lock: setup  ## write constraints.txt anew after a change of pyproject.toml (UPGRADE=1: newest versions)
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --quiet \
	  --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) -o constraints.txt

test: setup  ## run the fast tests
	$(BIN)/python -m pytest -m 'not slow' -n $(JOBS)

test-slow: setup  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

hunt: setup  ## fuzz all structure readers for HUNT_MINUTES, minimise what is found (Linux, macOS)
	$(PIP) install --quiet -e '.[hunt]'
	$(BIN)/python scripts/hunt.py --minutes $(HUNT_MINUTES) --output $(HUNT_OUTPUT)

demo: setup  ## predict, train and evaluate on the bundled crystals and data (under 5 minutes)
	$(BIN)/potnet demo --output $(OUTPUT) $(if $(DEMO_FAST),--fast)

demo-short: setup  ## the same in seconds
	$(BIN)/potnet demo --output $(OUTPUT) --fast

check: lint types docs test demo-short smoke package  ## everything that continuous integration runs on one machine

lint: setup  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## pyright: the sources, and in strict mode how users call them
	$(BIN)/pyright

docs: setup  ## build the documentation, warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

package: setup  ## build wheel and source archive, install the wheel in an empty environment, use it
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/python scripts/check_package.py dist

smoke: setup  ## potnet on hostile machines: no HOME, no locale, read-only, full disk, 1 GB of memory
	$(BIN)/python scripts/smoke.py

serve: setup  ## open the page in a browser
	$(BIN)/potnet serve

kernels: setup  ## write src/latticesums/compiled/shipped anew, after a change of the compiled sums
	$(BIN)/python scripts/make_kernels.py

benchmark: setup  ## measure the lattice sums: error and time side by side
	$(BIN)/python benchmarks/bench_sums.py

clean:  ## remove what was built, keep the environment
	rm -rf build dist docs/_build docs/gallery docs/sg_execution_times.rst .pytest_cache .ruff_cache demo-output
