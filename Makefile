# Two commands: `make book` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
# TORCH=cpu takes the small build of torch, without CUDA; an environment made so remembers it.
TORCH ?= $(if $(wildcard $(VENV)/torch-cpu),cpu)
# Optional: further arguments for pip.
PIP_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check
# The group crosscheck of pyproject.toml.
CROSSCHECK := curvlinops-for-pytorch einconv einops linear_operator
# Which part of the notebooks make anywhere runs.
SHARE ?= 1/1
# What make cluster computes, and where: local, slurm or kubernetes; ARGS goes to snakemake.
PROFILE ?= smoke
ON ?= local
ARGS ?=
# Where make publish puts the book.
TO ?= build/public
PYTEST := $(BIN)/python -m pytest
# One worker more than jobs: many tests wait for a browser, a kernel or a process of their own.
WORKERS := $(shell expr $(JOBS) + 1)
UNIT := tests --ignore tests/notebooks --ignore tests/site
# Lines and branches that the tests' own processes reach; the floor stands in pyproject.toml.
COVER := --cov --cov-report=term

# Kernels and programs that tests start would else compile the package anew, each of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help env book paper smoke pages publish pdf cluster test anywhere audit unit faults test-python test-cluster test-launch notebooks site check status refresh bench clean

help: ## list what can be made
	@echo "Two commands: make book, make test. All:"
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

env: $(STAMP) ## make the environment in .venv from pinned versions

# Made anew when what is needed, or its pins, change; needs no network otherwise.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned versions into $(VENV) (once; some minutes) ..."
	@$(PIP) $(PIP_ARGS) -c constraints.txt -e '.[book,notebooks,test]'
	@$(PIP) $(PIP_ARGS) -c constraints.txt --no-deps $(CROSSCHECK)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info[:3] < (3, 14))' || \
	  { echo "Python 3.11.5 to 3.13 is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# pip has no name for the small build of torch; uv has one. It is used for this alone.
ifeq ($(TORCH),cpu)
$(STAMP): $(VENV)/torch-cpu
else ifneq ($(TORCH),)
$(error TORCH is cpu, or not set for the ordinary build)
endif

$(VENV)/torch-cpu: constraints.txt | $(BIN)/python
	@echo "Installing torch without CUDA into $(VENV) ..."
	@$(PIP) $(PIP_ARGS) uv==0.13.9
	@$(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=cpu --no-deps --reinstall-package torch \
	  -c constraints.txt torch || \
	  { echo "torch without CUDA could not be installed; make env takes the ordinary build."; exit 1; }
	@touch $@

book: $(STAMP) ## run the notebooks (profile book) and build the pages
	@$(BIN)/gfm build --profile book --jobs $(JOBS)

paper: $(STAMP) ## the book at profile paper (long; a GPU helps)
	@$(BIN)/gfm build --profile paper --jobs 1

smoke: $(STAMP) ## the book with tiny settings, profile smoke (minutes)
	@$(BIN)/gfm build --profile smoke --jobs $(JOBS)

pages: $(STAMP) ## only the pages, from what was run before
	@$(BIN)/gfm build --profile book --no-run

test: $(STAMP) ## all tests: unit (with coverage), committed notebooks, built pages
	@$(PYTEST) notebooks -n $(WORKERS) --dist loadfile --no-loadscope-reorder --nbval --nbval-current-env
	@$(PYTEST) tests --keep-outputs -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(COVER)

anywhere: $(STAMP) ## the committed notebooks under other machines' arithmetic (SHARE=2/5: a part of them)
	@$(BIN)/python tests/anywhere.py --jobs $(JOBS) --share $(SHARE)

audit: $(STAMP) ## accessibility of every page, light and dark, on a desktop and a phone (minutes)
	@GFM_AUDIT=every $(PYTEST) tests/site -k audit -n $(JOBS)

publish: PROFILE = book
publish: $(STAMP) ## build, check and lay out a folder for any static host: PROFILE=book TO=build/public
	@$(BIN)/gfm build --profile $(PROFILE) --jobs $(JOBS) $(ARGS)
	@$(BIN)/gfm check || { [ $$? = 1 ] && echo "Claims that fall short are published as what they are."; }
	@$(BIN)/gfm publish $(TO)

pdf: $(STAMP) ## print every page that was built to a PDF (takes Chromium; some minutes)
	@$(BIN)/gfm pdf

cluster: $(VENV)/cluster ## cells, notebooks and pages on several machines: PROFILE=paper ON=slurm ARGS="--jobs 64"
	@$(BIN)/snakemake --snakefile workflow/Snakefile --profile workflow/profiles/$(ON) --config profile=$(PROFILE) $(ARGS)

$(VENV)/cluster: $(STAMP) workflow/constraints.txt
	@echo "Installing snakemake into $(VENV) (once) ..."
	@$(PIP) $(PIP_ARGS) -c constraints.txt -c workflow/constraints.txt -e '.[cluster]'
	@touch $@

test-cluster: $(VENV)/cluster ## the workflow on a Slurm of one node, set up here (Debian or Ubuntu, as root; minutes)
	@$(PYTEST) workflow -x

test-launch: $(STAMP) ## install as Binder does, in a fresh environment, and run a notebook there in 2 GB (minutes)
	@$(BIN)/python tests/launch.py

unit: $(STAMP) ## unit tests only
	@$(PYTEST) $(UNIT) -n $(JOBS) --dist loadfile --no-loadscope-reorder

faults: $(STAMP) ## every bad call, kill and full disk that the tests know (make test: a part), and what became of them
	@$(PYTEST) tests/faults -m "slow or not slow"

test-python: ## unit tests on another Python, in its own environment: PYTHON=python3.12
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && [ -n "$$version" ] || \
	  { echo "$(PYTHON) is no Python: make test-python PYTHON=python3.12"; exit 1; }; \
	  $(MAKE) --no-print-directory unit VENV=.venv-$$version

notebooks: $(STAMP) ## tests of the committed notebooks only
	@$(PYTEST) notebooks -n $(JOBS) --dist loadfile --no-loadscope-reorder --nbval --nbval-current-env
	@$(PYTEST) tests/notebooks --keep-outputs -n $(JOBS)

site: $(STAMP) ## tests of the built pages only
	@$(PYTEST) tests/site -n $(JOBS)

check: $(STAMP) ## hold the claims' values against their bounds
	@$(BIN)/gfm check

status: $(STAMP) ## the matrix of elements
	@$(BIN)/gfm status

refresh: $(STAMP) ## run every committed notebook in place (profile smoke)
	@find notebooks -name '*.ipynb' -not -path '*/.*' | sort | while read -r notebook; do \
	  $(BIN)/gfm run "$$notebook" --in-place || exit 1; done

bench: $(STAMP) ## the benchmarks, one by one
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

clean: ## remove what was built (the environment stays)
	rm -rf build
