"""The cells of the table: one metric of one test as short texts with units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import change_words, count, limit_text
from pytest_llmperf.text import columns, display_width, printable, wrap_words
from pytest_llmperf.units import format_quantity, format_with_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.metrics import Metric
    from pytest_llmperf.report.reported import ShownTest
    from pytest_llmperf.session.result import CheckResult, TestResult
    from pytest_llmperf.stats.summary import Summary

NOTHING = "-"

_COLOURS = {
    VerdictKind.ERROR: "31",
    VerdictKind.INVALID: "31",
    VerdictKind.REGRESSED: "31",
    VerdictKind.MISSED: "31",
    VerdictKind.INCONCLUSIVE: "33",
    VerdictKind.WORKLOAD_CHANGED: "33",
    VerdictKind.NO_BASELINE: "33",
    VerdictKind.PASS: "32",
    VerdictKind.IMPROVED: "1;32",
}
YELLOW = "33"
BOLD = "1"


def replays_words(tests: Sequence[TestResult | ShownTest], iterations: int) -> str:
    """Return what a process measures of each test: ``3 iterations``, or ``1 load``."""
    only_loads = bool(tests) and all(test.load is not None for test in tests)
    return "1 load" if only_loads else count(iterations, "iteration")


@dataclass(frozen=True)
class Cells:
    """The texts of one row; ``-`` if there is nothing to show.

    Attributes:
        verdict: the verdict's kind, or ``-`` for a metric that is shown only.
        metric: the metric's label.
        current: median and interval with unit.
        target: the limit, such as ``>=60 tok/s``.
        baseline: the baseline's median.
        baseline_long: the median with its interval and number of sessions.
        baseline_below: the baseline's text below a row without a column for it.
        change: the change, such as ``5.2% slower``.
    """

    verdict: str
    metric: str
    current: str
    target: str
    baseline: str
    baseline_long: str
    baseline_below: str
    change: str


def cells_of(row: CheckResult) -> Cells:
    """Write one row's cells."""
    metric = row.check.metric
    baseline = baseline_long = baseline_below = NOTHING
    if row.baseline is not None:
        over = f" over {count(row.baseline_sessions, 'session')}" if row.against is None else ""
        baseline = format_quantity(row.baseline.value, metric.unit)
        baseline_long = f"{summary_text(row.baseline, metric)}{over}"
        baseline_below = f"{'base' if row.against else 'baseline'} {baseline}{over}"
    return Cells(
        verdict=row.verdict.kind.value if row.verdict is not None else NOTHING,
        metric=metric.label,
        current=summary_text(row.summary, metric) if row.summary is not None else NOTHING,
        target=target_text(row.check.limit, metric),
        baseline=baseline,
        baseline_long=baseline_long,
        baseline_below=baseline_below,
        change=change_words(metric, row.change) if row.change is not None else NOTHING,
    )


def summary_text(summary: Summary, metric: Metric) -> str:
    """Return median and interval, if there is one: ``84.9 [83.9, 85.7] tok/s``."""
    return format_with_interval(summary.value, summary.low, summary.high, metric.unit)


def target_text(limit: float | None, metric: Metric) -> str:
    """Return the target: ``>=60 tok/s``, ``<=500 ms``; ``-`` without one."""
    if limit is None:
        return NOTHING
    sign = ">=" if metric.limit_kind == "min" else "<="
    return sign + limit_text(limit, metric)


def table_or_lines(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Draw a table; if it is too wide, write each row as lines of ``name text`` instead."""
    cells = [[printable(cell) for cell in row] for row in rows]
    lines = [f"  {line}" for line in columns([list(header), *cells])]
    if max(map(display_width, lines)) <= width:
        return lines
    lines = []
    for row in cells:
        lines += wrap_words(row[0], width, first="  ", indent="    ")
        pairs = zip(header[1:], row[1:], strict=True)
        text = ", ".join(f"{name} {cell}" for name, cell in pairs if cell != NOTHING)
        lines += wrap_words(text, width, first="    ", indent="    ")
    return lines


def paint(text: str, style: str, color: bool) -> str:
    """Wrap text in an ANSI style, if ``color`` is set."""
    return f"\x1b[{style}m{text}\x1b[0m" if color and text else text


def verdict_style(kind: VerdictKind) -> str:
    """Return the ANSI style of a kind of verdict."""
    return _COLOURS[kind]
