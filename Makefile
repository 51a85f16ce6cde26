# Everything a person needs, in a few words: make setup | demo | test | check | docs | label | test-label | help
.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs label test-label

# the first of these that exists; override with make PYTHON=/path/to/python
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3.10 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; found $$($(PYTHON) --version). Try make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[dev,docs]'
	@touch $(STAMP)

setup: $(STAMP)  ## make .venv with all that is needed (about 6 GB, minutes); skipped when it is up to date

demo: $(STAMP)  ## teach a small student on drawn polyps and show the gain (five to six minutes)
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

# MONAI Label: an environment of its own, and a server on this machine only. docs/monai_label.md
LABEL := .venv-label
LABEL_RUN := $(LABEL)/bin/python
LABEL_STAMP := $(LABEL)/.installed
LABEL_PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)

$(LABEL_STAMP): setup.cfg configs/label/requirements.txt
	@$(LABEL_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "MONAI Label needs Python 3.11 or 3.12; found $$($(LABEL_PYTHON) --version). Try make LABEL_PYTHON=/path/to/python3.11"; exit 1; }
	@$(LABEL_PYTHON) -m venv $(LABEL) || { echo "venv failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(LABEL_RUN) -m pip install --quiet --upgrade pip
	$(LABEL_RUN) -m pip install --quiet --requirement configs/label/requirements.txt --editable .
	@touch $(LABEL_STAMP)

# without MODEL and IMAGES: synthetic polyps, and a small student that is trained on them in a minute or two
LABEL_DATA := runs/label/data
LABEL_MODEL := runs/label/synthetic_polyps
LABEL_IMAGES := runs/label/images

$(LABEL_DATA)/.made: | $(LABEL_STAMP)
	$(LABEL_RUN) -c "from monai_difom.data import make_polyps; make_polyps('$(LABEL_DATA)', train=120, test=24, size=128)"
	@touch $@

$(LABEL_IMAGES)/.made: $(LABEL_DATA)/.made
	mkdir -p $(LABEL_IMAGES)
	cp $(LABEL_DATA)/TestDataset/synthetic/images/*.png $(LABEL_IMAGES)
	@touch $@

$(LABEL_MODEL)/parity.json: $(LABEL_DATA)/.made configs/label/train.yaml
	$(LABEL_RUN) -m monai.bundle run training --bundle_root bundles/polyp_difom \
	  --config_file "['bundles/polyp_difom/configs/train.yaml','configs/phases/undistilled.yaml']" \
	  --dataset_dir $(LABEL_DATA) --output_dir runs/label/run --ckpt_dir runs/label/run/models --teachers "{}" --terms "[]" \
	  --image_size 96 --batch_size 8 --epochs "[0,12,0]" --report False
	$(LABEL_RUN) -m monai_difom export --bundle runs/label/run --output $(LABEL_MODEL) --format bundle \
	  --train configs/label/train.yaml

label: $(LABEL_STAMP) $(if $(MODEL),,$(LABEL_MODEL)/parity.json) $(if $(IMAGES),,$(LABEL_IMAGES)/.made)  ## serve a student in MONAI Label on this machine; MODEL=exported/unet IMAGES=folder PORT=8000
	$(LABEL_RUN) -m monai_difom label --model "$(or $(MODEL),$(LABEL_MODEL))" --images "$(or $(IMAGES),$(LABEL_IMAGES))" \
	  --port $(or $(PORT),8000)

test-label: $(LABEL_STAMP)  ## start MONAI Label, segment, label, train and stop again, over HTTP (minutes)
	$(LABEL_RUN) -m pytest -o addopts= -q -rs -m label tests/label
