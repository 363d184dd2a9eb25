"""The environment variables that an engine's process starts with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from pytest_llmperf.engine.launch import LaunchSpec

#: Make coverage.py, or pytest-cov before version 7, measure every Python process.
_COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
_COVERAGE_PREFIX = "COV_CORE_"
#: Ends of the PYTHONPATH entries by which ddtrace-run, newrelic-admin and opentelemetry-instrument
#: reach every Python process.
_AGENTS = (
    ("ddtrace", "bootstrap"),
    ("newrelic", "bootstrap"),
    ("instrumentation", "auto_instrumentation"),
)
#: Debug modes of Python, kept only for engines that run the project's own code.
_DEBUG_MODES = (
    "PYTHONASYNCIODEBUG",
    "PYTHONDEVMODE",
    "PYTHONMALLOC",
    "PYTHONMALLOCSTATS",
    "PYTHONPERFSUPPORT",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONTRACEMALLOC",
    "PYTHONVERBOSE",
)
#: glibc adjusts these while a process runs, depending on where freed blocks happen to lie. The same
#: code then returned memory and took it again (a page fault for each page) with every token in one
#: process and never in another, which was 4% faster. These are the highest values that glibc itself
#: adjusts them to (mallopt(3), M_MMAP_THRESHOLD). Setting either one ends the adjustment of both.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}


def worker_environment(spec: LaunchSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an engine's process, without those that would slow it down.

    Tools that instrument every process of a test run (coverage, an agent) must not slow down a
    measured process. Variables in ``spec.env`` are always set.

    The allocator's thresholds are fixed, unless a variable sets one of them, so that processes
    that run the same code use memory in the same way, wherever the code is.
    """
    left_out = {*_COVERAGE, *(() if spec.kind.runs_project_code else _DEBUG_MODES)}
    kept = {
        name: value
        for name, value in environ.items()
        if name not in left_out and not name.startswith(_COVERAGE_PREFIX)
    }
    if (path := kept.pop("PYTHONPATH", None)) and (rest := _without_agents(path.split(os.pathsep))):
        kept["PYTHONPATH"] = os.pathsep.join(rest)
    kept.update(spec.env)
    return {**_allocator(kept), **kept}


def _allocator(environ: Mapping[str, str]) -> dict[str, str]:
    is_chosen = any(name in environ for name in (*_ALLOCATOR, "GLIBC_TUNABLES"))
    return {} if is_chosen else _ALLOCATOR


def _without_agents(entries: Iterable[str]) -> list[str]:
    return [entry for entry in entries if PurePath(entry).parts[-2:] not in _AGENTS]
