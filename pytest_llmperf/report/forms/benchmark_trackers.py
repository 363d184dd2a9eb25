"""Measurements for tools that store them: Bencher, and github-action-benchmark."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pytest_llmperf.metric_types import Direction
from pytest_llmperf.report.forms.measurements import StorableFigure, measurements
from pytest_llmperf.text import json_text, printable

if TYPE_CHECKING:
    from pytest_llmperf.report.reported import ReportedSession

#: Longest names of a benchmark and of a measure that Bencher accepts, in characters.
LONGEST_BENCHMARK, LONGEST_MEASURE = 1024, 64


def bencher_metric_format(session: ReportedSession) -> str:
    """Return Bencher Metric Format: a test is a benchmark, a metric is a measure.

    Values are in base units, with the ends of their interval if there is one. See
    https://bencher.dev/docs/reference/bencher-metric-format.
    """
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for figure in measurements(session):
        benchmark = benchmarks.setdefault(shortened(figure.test.nodeid, LONGEST_BENCHMARK), {})
        ends = {"lower_value": figure.check.low, "upper_value": figure.check.high}
        benchmark[shortened(figure.check.name, LONGEST_MEASURE)] = {
            "value": figure.value,
            **{name: end for name, end in ends.items() if end is not None},
        }
    return json_text(benchmarks)


def action_benchmark(session: ReportedSession, direction: Direction) -> str:
    """Return entries for github-action-benchmark's ``customSmallerIsBetter`` or its opposite.

    A file has a single direction, so a session needs two files. See
    https://github.com/benchmark-action/github-action-benchmark.
    """
    entries = [_entry(item) for item in measurements(session) if item.check.direction is direction]
    return json_text(entries)


def _entry(figure: StorableFigure) -> dict[str, Any]:
    check = figure.check
    entry: dict[str, Any] = {
        # Results of two commits are matched by this name.
        "name": printable(f"{figure.test.nodeid} {check.name}"),
        "unit": check.unit.value,
        "value": figure.value,
    }
    if check.low is not None and check.high is not None:
        half = max(figure.value - check.low, check.high - figure.value)
        entry["range"] = f"± {half:.6g}"
    verdict = f"{check.verdict.value}: {check.finding}" if check.verdict is not None else ""
    lines = filter(None, (verdict, figure.test.workload.summary))
    entry["extra"] = "\n".join(map(printable, lines))
    return entry


def shortened(name: str, longest: int) -> str:
    """Shorten a name to ``longest`` characters; a cut name ends with a digest of the whole."""
    shown = printable(name)
    if len(shown) <= longest:
        return shown
    digest = hashlib.sha256(shown.encode()).hexdigest()[:12]
    return f"{shown[: longest - 15]}...{digest}"
