# Light-MoE. `make` alone prints what there is.
#
# Every target that runs Python first brings .venv up to date; the stamp makes that free when
# pyproject.toml has not changed since the last installation.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup search test lint format soak bench gpu-check clean

help: ## Print this list
	@echo "Light-MoE: tuned CuTe kernels for mixture-of-experts layers"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "ARGS='...' is passed on by search, test, soak, bench and gpu-check; PYTHON=... picks the Python."

setup: $(STAMP) ## Create .venv and install everything into it (the other targets do so too)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 10) \
	    and f"error: Light-MoE needs Python 3.10 or newer, this is {v}: say make PYTHON=python3.X")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@

search: $(STAMP) ## Search good kernels for a real MoE layer, on a GPU or without one
	$(BIN)/python -m tuner.search --op grouped_gemm $(ARGS)

test: $(STAMP) ## Run the tests (those marked gpu or soak are left out where they cannot run)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(STAMP) ## Check style and types: ruff, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Lay the code out and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(STAMP) ## Run the tests that are too long for every change
	$(BIN)/python -m pytest -m soak $(ARGS)

bench: $(STAMP) ## Measure what a kernel costs the compiler (no GPU needed)
	$(BIN)/python scripts/bench_compile.py $(ARGS)

gpu-check: $(STAMP) ## Run every GPU test on this machine and write down the result
	PYTHON=$(BIN)/python scripts/gpu_check.sh $(ARGS)

clean: ## Remove build results and tool caches (.venv and tuning DBs stay)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
