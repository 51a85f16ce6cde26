# Everything a person needs, in six words: make setup | demo | test | check | docs | help
.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs

# the first of these that exists; override with make PYTHON=/path/to/python
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3.10 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; found $$($(PYTHON) --version). Try make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[dev,docs]'
	@touch $(STAMP)

setup: $(STAMP)  ## make .venv with all that is needed (about 6 GB, minutes); skipped when it is up to date

demo: $(STAMP)  ## distil a small student on synthetic polyps and show the gain (about 5 minutes on 2 cores)
	$(RUN) -m monai_difom demo

test: $(STAMP)  ## run the tests
	$(RUN) -m pytest -m "not processes"
	$(RUN) -m pytest -n 0 -m processes

check: $(STAMP)  ## format, lint and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

docs: $(STAMP)  ## write these pages and the reference as HTML to build/docs; a broken link fails
	$(RUN) -m sphinx -W --keep-going -q -c docs . build/docs
	@echo "open build/docs/docs/index.html"
