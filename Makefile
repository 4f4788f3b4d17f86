# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`. Each sets up .venv if need be,
# `make demo` without the tools for development.
#
#   make help     this text
#   make demo     simulate a dark capture, enhance it, leave everything in demo/
#   make test     the whole test suite, but for
#   make cluster  `expose batch` on two machines (on this one), parts of which are killed; it takes minutes
#   make venv     only the virtual environment, with everything in it
#   make lint types layers    style, static types, order of the imports
#   make format   put the style right where ruff can
#   make ci       all of them, as CI does
#   make docs     the documentation as a site, in site/; a link that leads nowhere is an error
#   make notebooks   execute those in docs/notebooks, and store them with their outputs
#   make sbom     a bill of materials (CycloneDX) of .venv, build/sbom.json, and docs/licences.md anew
#   make man      a man page of the command, build/expose.1
#
# Settings:  PYTHON=python3.12   which Python makes the environment
#            WORKERS=4           test processes
#            TORCH="..."         what pip is given to install PyTorch. By default the pinned version from the index that
#                                pip uses; for another build, name it with its index:
#                                make venv TORCH="torch==2.13.0 --index-url <address from PyTorch's start page>"

PYTHON ?= python3
TORCH ?= torch -c constraints.txt
WORKERS ?= auto
ARGS ?=

BIN := .venv/bin
# What is installed: the package alone, or all of its extras too.
CORE := .venv/.core-installed
STAMP := .venv/.installed

.PHONY: demo help test cluster venv lint format types layers docs notebooks man sbom ci
.DELETE_ON_ERROR:

demo: $(CORE)
	$(BIN)/expose demo -o demo
	@echo
	@echo 'Next, with raw files of your own (--help tells all):'
	@echo '    $(CURDIR)/$(BIN)/expose enhance night.ARW    # -> night-enhanced.dng, beside it'

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

test: venv
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 $(ARGS)

cluster: venv
	$(BIN)/python -m pytest -m cluster $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: venv
	$(BIN)/pyright

layers: venv
	$(BIN)/lint-imports

man: $(CORE)
	@mkdir -p build
	$(BIN)/python docs/man.py > build/expose.1
	@echo 'To read it: man -l build/expose.1'

sbom: venv
	$(BIN)/python -m pip install --quiet -c .venv/constraints.txt -e ".[supply]"
	@mkdir -p build
	$(BIN)/cyclonedx-py environment $(BIN)/python --output-reproducible -o build/sbom.json
	$(BIN)/python docs/licences.py

docs: venv
	$(BIN)/python -m pip install --quiet -c .venv/constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

notebooks: venv
	$(BIN)/python -m pip install --quiet -c .venv/constraints.txt -e ".[docs]"
	$(BIN)/python docs/execute.py

ci:
	.ci/run

venv: $(STAMP)

# PyTorch goes first and is then left as it is, so that TORCH may be of another version than the pinned one.
$(CORE): $(BIN)/python pyproject.toml constraints.txt
	@echo 'Installing PyTorch into .venv; it is large, and may take some minutes ...'
	@$(BIN)/python -m pip install --quiet $(TORCH)
	@grep -v '^torch==' constraints.txt > .venv/constraints.txt
	@echo 'Installing exposurediffusion and what it needs ...'
	@$(BIN)/python -m pip install --quiet -c .venv/constraints.txt -e .
	@touch $@

$(STAMP): $(CORE)
	@echo 'Installing what development, training, the page and the baselines need ...'
	@$(BIN)/python -m pip install --quiet -c .venv/constraints.txt -e ".[dev,baselines,cluster,export,train,web]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo 'Making a virtual environment in .venv ...'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
