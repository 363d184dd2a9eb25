"""Hands the samples of perf tests to pytest-benchmark, whose table, files and plots then work."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.measure.samples import Measurement
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.plugin.recording import Recording
from pytest_llmperf.report.model import SessionView, TestReportView


def publish(
    config: pytest.Config, held: Sequence[Recording], measurement: Measurement, view: SessionView
) -> None:
    """Add one pytest-benchmark result per measured test: its end-to-end durations.

    Every iteration of every process is one round of one iteration, in seconds;
    the LLM metrics (median over processes, and raw samples) and the verdict go into
    ``extra_info``. Does nothing where pytest-benchmark is absent or disabled.
    """
    session: Any = getattr(config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip:
        return
    from pytest_benchmark.stats import Metadata

    for recording, test in zip(held, view.tests, strict=True):
        item = recording.item
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
            extra_info=_extra(recording, measurement, test),
            cprofile_stats=None,
            has_error=False,
        )
        result = Metadata(fixture, iterations=1, options=_options(len(durations)))
        for duration in durations:
            result.update(duration)
        session.benchmarks.append(result)


def _extra(recording: Recording, measurement: Measurement, test: TestReportView) -> dict[str, Any]:
    samples = measurement.tests[recording.item.nodeid]
    extra: dict[str, Any] = {
        "workload": recording.workload.summary,
        "workload_hash": recording.workload.hash,
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
    """Return the options pytest-benchmark prints; the rounds were not run by it."""
    return {
        "disable_gc": False,
        "timer": "perf_counter",
        "min_rounds": rounds,
        "max_time": 0.0,
        "min_time": 0.0,
        "warmup": True,
    }
