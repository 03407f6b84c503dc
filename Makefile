# Every target installs what it needs into .venv first; `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH ?= $(HOME)/.cache/homolog/bench

.PHONY: help demo demo-llm test lint bench gallery test-lab lab-llm clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(INSTALLED) ## fetch published weights and compare them; reports go to ./reports
	$(BIN)/homolog demo --out reports

demo-llm: $(INSTALLED) ## the same with language models: 331 MB of downloads, 1 GB of scratch space, a few minutes
	$(BIN)/homolog demo --llm --out reports

test: lint ## everything that must pass: lint, types, import order, tests
	$(BIN)/pytest -n 2 --dist loadgroup

lint: $(INSTALLED) ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## time two 4.1 GB checkpoints (made in BENCH=folder, 12.2 GB, if absent)
	$(BIN)/python benchmarks/make_checkpoints.py $(BENCH)
	$(BIN)/python benchmarks/speed.py $(BENCH)

gallery: $(INSTALLED) ## a report for every operation from the zoo (./reports/gallery), and docs/gallery.md (needs chromium)
	$(BIN)/python benchmarks/gallery.py reports/gallery --docs docs

test-lab: $(INSTALLED) ## tests of the lab, and of reading what torch itself writes (installs torch)
	$(BIN)/pip install --quiet -e '.[dev,lab]'
	$(BIN)/pytest -m lab tests lab_tests

lab-llm: $(INSTALLED) ## train SmolLM2-135M on for 120 steps and compare parent and child (./llm; some 45 minutes of processor time, resumes)
	$(BIN)/pip install --quiet -e '.[dev,lab]'
	$(BIN)/homolog lab llm --out llm
	$(BIN)/homolog compare llm/smollm2-135m llm/smollm2-continued; test $$? -eq 1

clean: ## remove .venv, caches and reports
	rm -rf $(VENV) reports build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# the stamp is older than pyproject.toml whenever the dependencies may have changed
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "homolog needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
