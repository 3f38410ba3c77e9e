# `make smoke` and `make test` set themselves up: Python 3.11 to 3.13 and make are enough.
.DEFAULT_GOAL := help
.PHONY: help env smoke test soak lint types imports wheel-test clean

VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
ARGS ?=

# Installation compiles nothing. Where this is set, every start compiles timm anew (13 s); empty counts as unset.
export PYTHONDONTWRITEBYTECODE :=
# Processes share the cores here: a thread pool in each would make them wait for one another.
test soak wheel-test: export OMP_NUM_THREADS := 1

help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

env:  ## the environment: made once, refreshed when what it is made from changes
	@VENV=$(VENV) sh scripts/setup-env.sh

smoke: env  ## the whole way in minutes: train, record, report
	$(BIN)/vitkd run smoke $(ARGS)
	@echo "leaderboard: runs/smoke/report/leaderboard.md"

test: env  ## the tests (ARGS="-k copy" for some)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

soak: env  ## the tests that take minutes each
	$(BIN)/python -m pytest -m soak --timeout=3600 $(ARGS)

lint: env  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env  ## mypy, strict
	$(BIN)/mypy

imports: env  ## a room imports rooms of lower levels only
	$(BIN)/lint-imports

wheel-test: env  ## build the wheel, run it away from the checkout
	$(BIN)/python -m pytest -m wheel $(ARGS)

clean:  ## what the tools left; not the environment, not runs/
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find vitkd_bench tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
