PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Each has a broker of its own; more of them than cores and tests of faults run into their limits.
TEST_PROCESSES ?= 2

.PHONY: help setup setup-dev demo test test-long check kafka bench eval eval-full fmt clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(VENV)/.runtime: pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.runtime  ## virtual environment with every command

setup-dev: $(VENV)/.dev  ## the same, with what the tests need

demo: setup  ## a hidden campaign, found and stopped on an embedded Kafka (ARGS=--once to end by itself)
	@$(BIN)/streamdetect demo $(ARGS)

check: setup-dev  ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

test: setup-dev check  ## the whole default suite; says which broker it had
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: setup-dev  ## what takes minutes: workers and brokers killed many times, long outages
	@$(BIN)/python -m pytest -m long $(ARGS)

kafka: setup-dev  ## a local Kafka in the foreground, the strongest this machine can run (ARGS="--nodes 3 --port 9092")
	@$(BIN)/python -m streamdetect.sandbox $(ARGS)

bench: setup-dev  ## every benchmark, about forty minutes on a quiet machine; tables in benchmarks/results (ARGS=--smoke: small)
	@$(BIN)/python benchmarks/run.py $(ARGS)

eval: setup-dev  ## product and baselines on all scenarios, in minutes; writes benchmarks/results (ARGS="--rows C2 L5")
	@$(BIN)/python benchmarks/evaluate.py $(ARGS)

eval-full: setup-dev  ## the same with three seeds, in three quarters of an hour of one core
	@$(BIN)/python benchmarks/evaluate.py --profile full --output benchmarks/results/evaluation-full $(ARGS)

fmt: setup-dev  ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches
	@rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache
