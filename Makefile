# One virtual environment in .venv, made on first use. Every target that needs it makes it.
# `make VAR=value target` sets any of the variables below.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXTRAS ?= dev

# The first interpreter of these that runs and is recent enough; PYTHON=/path/to/python overrides.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

TESTS  ?=
JOBS   ?= 2
PYTEST ?= $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup
BENCH  ?= benchmarks
ARGS   ?=

# Idle OpenMP threads sleep instead of spinning, so that several test processes do not take the cores from one another.
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: help setup demo test check lint types fix golden docs bench wheel words vsix lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 17

setup: $(STAMP)  ## make .venv and install nasdsl with everything that development needs

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "nasdsl needs Python 3.11 or later, and none was found: install one, or name it with 'make PYTHON=/path/to/python3.11 $(or $(MAKECMDGOALS),setup)'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nasdsl needs Python 3.11 or later; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing nasdsl and its dependencies into $(VENV): a few minutes the first time"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[$(EXTRAS)]"
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true  # on all cores; pip would use one
	@command -v dot >/dev/null || echo "note: Graphviz's 'dot' was not found; 'nasdsl draw' can write .dot files only (on Debian and Ubuntu: apt-get install graphviz)"
	@touch $@

demo: $(STAMP)  ## the main job: check, compile and shrink HR-NAS, and compare with even thinning
	$(BIN)/nasdsl demo $(ARGS)

test: $(STAMP)  ## run the tests; TESTS=tests/test_x.py for some of them, ARGS for more options
	$(PYTEST) $(ARGS) $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test  ## everything that must pass: lint, layout of the text, types, tests

fix: $(STAMP)  ## repair what can be repaired: imports, simple lint, layout of the text
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)  ## rewrite the expected files of the tests; then read the diff
	$(PYTEST) --golden -q $(ARGS) $(TESTS)

docs: $(STAMP)  ## build the site into build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -q -j auto docs build/docs $(ARGS)
	@echo "the site is build/docs/index.html"

bench: $(STAMP)  ## measure speed; ARGS for the options of the benchmarks
	$(BIN)/python -m $(BENCH) $(ARGS)

wheel: $(STAMP)  ## build the wheel into dist/
	@rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

words: $(STAMP)  ## write the words of the language into the grammars for editors
	$(BIN)/python -m nasdsl.editor.textmate
	$(BIN)/python -m nasdsl.editor.treesitter

vsix:  ## pack the extension for VS Code into editors/vscode/dist/; needs Node.js 20 or later
	@command -v npm >/dev/null || { echo "packing the extension needs Node.js with npm: https://nodejs.org" >&2; exit 1; }
	cd editors/vscode && npm ci --no-audit --no-fund && npm run package

lock: $(STAMP)  ## write constraints.txt anew with the newest versions, torch kept
	@torch=$$(sed -n 's/^torch==//p' constraints.txt) && scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	"$(PYTHON)" -m venv "$$scratch" && "$$scratch/bin/pip" install --quiet "torch==$$torch" -e ".[$(EXTRAS)]" && \
	{ sed -n '/^#/p' constraints.txt; "$$scratch/bin/pip" freeze --all --exclude pip --exclude-editable \
	| sed -E 's/^(torch==[0-9.]+)\+.*/\1/' | LC_ALL=C sort -f; } > "$$scratch/lock" && cp "$$scratch/lock" constraints.txt

clean:  ## remove builds and caches; .venv stays
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
