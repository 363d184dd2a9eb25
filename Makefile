# Each target does its own set-up; a second run of it installs nothing.
#
#   make perf      the perf tests, their verdicts, and an exit status for a gate
#   make test      the test suite
#   make gpu-test  the tests of tests/gpu, on a GPU or Debian's software Vulkan device
#   make lint      ruff (lint, format) and mypy --strict
#   make docs      the tables of the docs that are generated from the code, and the site (build/docs/site)
#   make setup     only the set-up
#   make clean     remove .venv, .venv-gpu and what tools left behind (the wheel cache stays)
#
# PYTHON=python3.12     the interpreter .venv is made of (3.10 or newer)
# ENGINE=cuda           cpu, cuda, vulkan or metal: docs/engine-builds.md
#                       (gpu-test: vulkan unless named)
# CMAKE_ARGS_EXTRA=...  further flags for the engine's build
# ARGS="-k short"       further arguments for pytest
# WORKERS=0             processes that share the test suite (pytest-xdist); 0: one, for a debugger
PYTHON ?= python3
ENGINE ?= cpu
ARGS ?=
# Tests mostly wait for the engines they start, so three keep two cores busy.
WORKERS ?= 3

IN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := .venv/$(IN)/python -m
# An environment of its own, so that the CPU build of .venv stays where it is.
GPU_ENGINE := $(if $(filter file,$(origin ENGINE)),vulkan,$(ENGINE))
GPU_RUN := .venv-gpu/$(IN)/python -m
export CMAKE_ARGS_EXTRA

.PHONY: perf test gpu-test lint docs setup clean

perf: setup
	@$(RUN) pytest -m perf tests/perf $(ARGS)

test: setup
	@$(RUN) pytest -n $(WORKERS) --dist worksteal $(ARGS)

# llama.cpp leaves software devices alone, unless one is named.
gpu-test: export GGML_VK_VISIBLE_DEVICES ?= 0
gpu-test:
	@"$(PYTHON)" tools/setup.py "$(GPU_ENGINE)" .venv-gpu
	@$(GPU_RUN) pytest tests/gpu $(ARGS)

lint: setup
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy --strict pytest_llmperf tools benchmarks

docs: setup
	@.venv/$(IN)/python tools/docs_reference.py
	@.venv/$(IN)/python tools/docs_site.py

setup:
	@"$(PYTHON)" tools/setup.py "$(ENGINE)"

clean:
	rm -rf .venv .venv-gpu .pytest_cache .mypy_cache .ruff_cache .benchmarks .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
