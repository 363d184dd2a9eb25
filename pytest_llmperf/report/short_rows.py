"""The short table: a line per gated metric, with verdict, value, target, change, and proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import at_most
from pytest_llmperf.report.cells import BOLD, NOTHING, cells_of, paint, verdict_style
from pytest_llmperf.report.disturbances import brief_claim, listed_checks
from pytest_llmperf.report.explanations import common_tolerance, explanations
from pytest_llmperf.session.roofline import roofline_lines
from pytest_llmperf.text import (
    columns,
    display_width,
    pack,
    pad,
    printable,
    wrap_node_id,
    wrap_words,
)
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

_MARGIN = "  "
_HEADER = ("", "metric", "current", "target", "change", "proven")
_PASSED = (VerdictKind.PASS, VerdictKind.IMPROVED)
#: Kinds of verdict that need no explanation beyond their line.
_SELF_EXPLANATORY = frozenset({*_PASSED, VerdictKind.NO_BASELINE})
_ABOVE = "explained above, in its failure"
#: Metric that is shown although it is not gated, because an option asks for it.
_ASKED_FOR = "roofline"


def needs_no_explanation(test: TestResult) -> bool:
    """Whether a test needs no explanation.

    A suspect test that was measured against another commit needs one, even if it passed.
    """
    fine = all(verdict.kind in _SELF_EXPLANATORY and not verdict.notes for verdict in test.verdicts)
    return fine and not test.is_confirmed


def short_rows(
    session: SessionResult,
    width: int,
    color: bool,
    *,
    quiet: bool,
    failures: Collection[str] = (),
) -> list[str]:
    """Draw every test as its node id and a line per gated metric.

    A test that needs an explanation shows it whole, and its other metrics, unless its failure
    above shows them.

    Args:
        session: the session.
        width: columns of the terminal.
        color: whether to use ANSI colours.
        quiet: leave out tests that need no explanation.
        failures: node ids of the tests whose failures are shown above.
    """
    tests = [test for test in session.tests if not (quiet and needs_no_explanation(test))]
    shown = {test.nodeid: _shown(test, brief=test.nodeid in failures) for test in tests}
    rows = [row for test in tests for row in shown[test.nodeid]]
    if not rows:
        return []
    head, *drawn = _layout(rows, width)
    lines = [paint(line, BOLD, color) for line in head]
    known, beside, left = common_tolerance(session.tests), _workloads_fit(tests, width), iter(drawn)
    disturbed = listed_checks(session.fitness)
    for number, test in enumerate(tests):
        if number and not (needs_no_explanation(test) and needs_no_explanation(tests[number - 1])):
            lines.append("")
        lines += wrap_node_id(test.nodeid, width)
        if beside and test.workload:
            lines[-1] += f"  ({printable(test.workload)})"
        for row in shown[test.nodeid]:
            lines += coloured(next(left), row, color)
        if test.nodeid in failures:
            lines += wrap_words(_pointer(test, disturbed), width, first="  - ", indent="    ")
        elif not needs_no_explanation(test):
            lines += explanations(test, width, known, passes=False, disturbed=disturbed)
        else:
            load = test.load.lines if test.load is not None else test.server
            for text in (*roofline_lines(test.roofline), *load, *_warnings(test)):
                lines += wrap_words(text, width, first="  - ", indent="    ")
    return lines


def _pointer(test: TestResult, disturbed: Collection[str]) -> str:
    """Say where a failed test is explained; an invalid one, in the list of disturbances above."""
    verdict = test.worst
    if verdict is None:
        return _ABOVE
    brief = brief_claim(verdict.kind, verdict.claim, disturbed)
    return brief if brief != verdict.claim else _ABOVE


def _warnings(test: TestResult) -> list[str]:
    """Return the findings about the measurement that are only warnings."""
    warned = [
        str(entry)
        for entry in test.fitness
        if entry.severity == "warn" and entry.origin == "measurement"
    ]
    return [text for text in test.findings if text.endswith(tuple(warned))]


def _shown(test: TestResult, *, brief: bool) -> list[CheckResult]:
    whole = not brief and not needs_no_explanation(test)
    return [
        row
        for row in test.all_rows
        if whole or row.verdict is not None or row.check.metric.name == _ASKED_FOR
    ]


def _workloads_fit(tests: Sequence[TestResult], width: int) -> bool:
    """Whether every test's workload fits beside its node id."""
    return all(
        display_width(f"{printable(test.nodeid)}  ({printable(test.workload)})") <= width
        for test in tests
    )


def _layout(rows: Sequence[CheckResult], width: int) -> list[list[str]]:
    """Lay out the header and the rows, each as lines, in the roomiest way that fits all."""
    for brief in (False, True):
        table = _without_empty_columns([_HEADER, *(_cells(row, brief=brief) for row in rows)])
        lines = [_MARGIN + line for line in columns(table)]
        if max(map(display_width, lines)) <= width:
            return [[line] for line in lines]
    return [[], *_packed([_cells(row, brief=False) for row in rows], width)]


def _cells(row: CheckResult, *, brief: bool) -> tuple[str, ...]:
    cells, summary = cells_of(row), row.summary
    current = NOTHING if summary is None else format_quantity(summary.value, row.check.metric.unit)
    proven = _proven(row)
    if brief:
        proven = proven.replace("at most ", "<=").replace("at least ", ">=")
    return (cells.verdict, cells.metric, current, cells.target, cells.change, proven)


def _proven(row: CheckResult) -> str:
    """Return what a pass proves: ``at most 1.8% slower``, ``target met``; empty for others."""
    verdict = row.verdict
    if verdict is None or verdict.kind not in _SELF_EXPLANATORY:
        return ""
    passed = [reason for reason in verdict.reasons if reason.kind in _PASSED]
    for reason in passed:
        # The bound of a target is its distance from the limit.
        if reason.strategy != "target" and reason.proof and reason.proof.bound is not None:
            return at_most(reason.proof.bound, row.check.metric)
    if not passed:
        return ""
    return "within tolerance" if row.check.limit is None else "target met"


def _without_empty_columns(table: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    kept = [
        at
        for at in range(len(_HEADER))
        if at < _HEADER.index("target") or any(row[at] not in ("", NOTHING) for row in table[1:])
    ]
    return [tuple(row[at] for at in kept) for row in table]


def _packed(rows: Sequence[tuple[str, ...]], width: int) -> list[list[str]]:
    """Lay rows out for a narrow terminal: verdict, metric and current, then the rest below."""
    first = [row[:3] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(*first, strict=True)]
    indent = _MARGIN + " " * (widths[0] + 2)
    if len(indent) + sum(widths[1:]) + 2 > width:
        widths, indent = widths[:1], _MARGIN * 2
    drawn = []
    for row in rows:
        # A change and a bound are words; a target is only a sign and a number.
        target = f"target {row[3]}" if row[3] != NOTHING else NOTHING
        below = [text for text in (target, *row[4:]) if text not in ("", NOTHING)]
        lead = [pad(text, wide) for text, wide in zip(row[:2], widths, strict=False)]
        lead += row[len(lead) : 3]
        lines = pack(lead, width - len(_MARGIN), indent.removeprefix(_MARGIN))
        lines = [_MARGIN + line for line in lines]
        lines += [indent + line for line in pack(below, width - len(indent), "")] if below else []
        drawn.append(lines)
    return drawn


def coloured(lines: list[str], row: CheckResult, color: bool) -> list[str]:
    """Colour the verdict at the start of a row's first line."""
    if row.verdict is None or not color:
        return lines
    kind = row.verdict.kind
    painted = paint(kind.value, verdict_style(kind), color)
    return [lines[0].replace(kind.value, painted, 1), *lines[1:]]
