"""The grid of a sweep: a row for each cell, a column for each metric, the fastest marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.report.cells import BOLD, NOTHING, paint, summary_text
from pytest_llmperf.text import columns, display_width, printable, wrap_node_id, wrap_words
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

_MARK = " *"
_LEGEND = (
    "* fastest here, not proven: the cells were not compared with one another; compare two of them "
    "with --llmperf-against-config"
)


def sweep_lines(
    session: SessionResult, width: int, color: bool, *, intervals: bool = True
) -> list[str]:
    """Draw the grid of every sweep of more than one cell, with an empty line before each.

    ``intervals``: include the values' intervals if they fit.
    """
    sweeps: dict[str, list[TestResult]] = {}
    for test in session.tests:
        if test.sweep:
            sweeps.setdefault(test.sweep, []).append(test)
    lines: list[str] = []
    for name, tests in sweeps.items():
        if len(tests) > 1:
            lines += ["", *(paint(line, BOLD, color) for line in wrap_node_id(name, width))]
            lines += _grid(tests, width, intervals)
    return [*lines, *wrap_words(_LEGEND, width)] if lines else []


def _grid(tests: Sequence[TestResult], width: int, intervals: bool) -> list[str]:
    """Draw one sweep in the roomiest way that fits: one table, or one table per metric.

    Intervals are left out before the metrics are split into several tables.
    """
    metrics = {row.check.metric.name: row.check.metric.label for test in tests for row in test.rows}
    for long in (True, False) if intervals else (False,):
        drawn = _table(tests, metrics, long=long)
        if max(map(display_width, drawn)) <= width:
            return drawn
    return [
        line
        for name, label in metrics.items()
        for line in _table(tests, {name: label}, long=intervals)
    ]


def _table(tests: Sequence[TestResult], metrics: Mapping[str, str], *, long: bool) -> list[str]:
    best = {name: _fastest(tests, name) for name in metrics}
    rows = [("", *metrics.values())]
    for test in tests:
        settings = printable(" ".join(f"{name}={_plain(v)}" for name, v in test.settings.items()))
        rows.append((settings, *(_value(test, name, best[name], long) for name in metrics)))
    return [f"  {line}".rstrip() for line in columns(rows, 2)]


def _value(test: TestResult, name: str, best: TestResult | None, long: bool) -> str:
    row = _row(test, name)
    if row is None or row.summary is None:
        return NOTHING
    metric = row.check.metric
    text = (
        summary_text(row.summary, metric)
        if long
        else format_quantity(row.summary.value, metric.unit)
    )
    return text + (_MARK if test is best else "")


def _fastest(tests: Sequence[TestResult], name: str) -> TestResult | None:
    """Return the test with the best value of a metric; None unless at least two values differ."""
    values = dict(_values(tests, name))
    if len(set(values.values())) < 2:
        return None
    return tests[min(values, key=lambda number: values[number])]


def _values(tests: Sequence[TestResult], name: str) -> Iterator[tuple[int, float]]:
    """Yield each test's index and the signed log of its value: the smallest is the best."""
    for number, test in enumerate(tests):
        row = _row(test, name)
        if row is not None and row.summary is not None:
            yield number, row.check.metric.signed_log(row.summary.value)


def _row(test: TestResult, name: str) -> CheckResult | None:
    return next((row for row in test.rows if row.check.metric.name == name), None)


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
