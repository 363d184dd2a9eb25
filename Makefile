# Each target does its own set-up; a second run of it installs nothing.
#
#   make perf    the perf tests, their verdicts, and an exit status for a gate
#   make test    the test suite
#   make lint    ruff (lint, format) and mypy --strict
#   make setup   only the set-up
#   make clean   remove .venv and what tools left behind (the wheel cache stays)
#
# PYTHON=python3.12     the interpreter .venv is made of (3.10 or newer)
# ENGINE=cuda           cpu, cuda, vulkan or metal: docs/engine-builds.md
# CMAKE_ARGS_EXTRA=...  further flags for the engine's build
# ARGS="-k short"       further arguments for pytest
PYTHON ?= python3
ENGINE ?= cpu
ARGS ?=

BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
RUN := $(BIN)/python -m
export CMAKE_ARGS_EXTRA

.PHONY: perf test lint setup clean

perf: setup
	@$(RUN) pytest -m perf tests/perf $(ARGS)

test: setup
	@$(RUN) pytest $(ARGS)

lint: setup
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@$(RUN) mypy --strict tools benchmarks

setup:
	@"$(PYTHON)" tools/setup.py "$(ENGINE)"

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .benchmarks .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
