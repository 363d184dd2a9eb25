"""Passes the samples of perf tests to pytest-benchmark, for its files, comparisons and plots."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Sequence
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.measure.samples import Measurement, TestSamples
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.plugin.recording import HeldTest
from pytest_llmperf.session.result import SessionResult, TestResult


def publish(
    config: pytest.Config, held: Sequence[HeldTest], measurement: Measurement, result: SessionResult
) -> None:
    """Add one pytest-benchmark result per measured test: its end-to-end durations.

    Every iteration of every process becomes a round of one iteration, in seconds;
    the LLM metrics (median over processes, and raw samples) and the verdict go into
    ``extra_info``. pytest-benchmark's table shows the tests only if one of its options was given:
    this plugin has its own table. Does nothing if pytest-benchmark is absent or disabled.
    """
    session: Any = getattr(config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip:
        return
    from pytest_benchmark.stats import Metadata

    for held_test, test in zip(held, result.tests, strict=True):
        item = held_test.item
        samples = measurement.tests[item.nodeid]
        durations = [value for row in samples.values("end_to_end") for value in row]
        if not durations:
            continue
        callspec = getattr(item, "callspec", None)
        fixture = SimpleNamespace(
            name=item.name,
            fullname=item.nodeid,
            group=None,
            param=callspec.id if callspec is not None else None,
            params=callspec.params if callspec is not None else None,
            extra_info=_extra(samples, test),
            cprofile_stats=None,
            has_error=False,
        )
        benchmark = Metadata(fixture, iterations=1, options=_options(len(durations)))
        for duration in durations:
            benchmark.update(duration)
        session.benchmarks.append(benchmark)
    if not _is_requested(config):
        config.pluginmanager.register(_NotInTable({held_test.item.nodeid for held_test in held}))


class _NotInTable:
    """Hides perf tests from the tables of pytest-benchmark, which it draws from groups.

    Its files are written from the benchmarks, not from the groups.
    """

    def __init__(self, nodeids: set[str]) -> None:
        self._nodeids = nodeids

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_benchmark_group_stats(self) -> Generator[None, Any, Any]:
        groups = yield
        left = (
            (name, [benchmark for benchmark in group if benchmark["fullname"] not in self._nodeids])
            for name, group in groups
        )
        return [(name, group) for name, group in left if group]


def _is_requested(config: pytest.Config) -> bool:
    """Whether a pytest-benchmark option was given: as argument, ``addopts`` or PYTEST_ADDOPTS."""
    given = [
        *map(str, config.invocation_params.args),
        *config.getini("addopts"),
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
    ]
    return any(word.startswith("--benchmark-") for word in given)


def _extra(samples: TestSamples, test: TestResult) -> dict[str, Any]:
    extra: dict[str, Any] = {
        "workload": test.workload,
        "workload_hash": test.workload_hash,
        "verdict": test.worst.kind.value if test.worst else None,
    }
    for name, metric in METRICS.items():
        rows = samples.values(name)
        if rows:
            extra[name] = median(median(row) for row in rows)
            extra[f"{name}_unit"] = metric.unit.value
            extra[f"{name}_samples"] = [list(row) for row in rows]
    return extra


def _options(rounds: int) -> dict[str, Any]:
    """Return the options that pytest-benchmark prints, although it did not run the rounds."""
    return {
        "disable_gc": False,
        "timer": "perf_counter",
        "min_rounds": rounds,
        "max_time": 0.0,
        "min_time": 0.0,
        "warmup": True,
    }
