"""The table at the end of a session: verdict first, nothing cut off at any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.combine import count_kinds
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind
from pytest_llmperf.gate.words import count, listed, percent, span
from pytest_llmperf.report.cells import (
    BOLD,
    NOTHING,
    YELLOW,
    Cells,
    cells_of,
    paint,
    verdict_style,
)
from pytest_llmperf.report.text import (
    display_width,
    pack,
    pad,
    printable,
    wrap_node_id,
    wrap_words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.report.model import MetricRow, SessionView, TestReportView

_INDENT = "    "
_HEADER = ("verdict", "metric", "current", "target", "baseline", "change")
_LEGEND = "change: + is slower than the baseline, - is faster"


def render_table(session: SessionView, width: int = 80, color: bool = False) -> list[str]:
    """Draw the session for a terminal ``width`` columns wide; one string per line.

    What made the machine busy comes before anything about speed. Each test is
    its full node id and one row per metric, the verdict first. Rows are laid out
    as one line where that fits every row, and as two lines otherwise: nothing is
    cut. ANSI colours only with ``color``.
    """
    width = max(20, width)
    lines = _busy(session, width, color)
    lines += pack(
        [f"{printable(part)}," for part in (session.machine_key, session.model) if part]
        + [printable(session.engine)],
        width,
        _INDENT,
        joint=" ",
    )
    # The interval's meaning is said once here, so that the columns stay narrow.
    rounds = f"{count(session.processes, 'process')} x {count(session.iterations, 'iteration')}"
    lines += wrap_words(
        f"{rounds} of each test, order seed {session.seed}; median [95% interval]", width
    )
    for note in session.notes:
        lines += wrap_words(note, width, first="note: ", indent="      ")
    if session.tests:
        lines += ["", *_rows(session, width, color)]
    return [*lines, "", *_footer(session, width, color)]


def _busy(session: SessionView, width: int, color: bool) -> list[str]:
    """What else used the machine."""
    if not session.busy:
        return []
    lines = ["the machine was busy while measuring:"]
    for text in session.busy:
        lines += wrap_words(text, width, first="  - ", indent=_INDENT)
    return [*(paint(line, YELLOW, color) for line in lines), ""]


def _rows(session: SessionView, width: int, color: bool) -> list[str]:
    """The header and every test, in the roomiest layout that holds every row."""
    cells = [cells_of(row) for test in session.tests for row in test.rows]
    layout = _layout(cells, width)
    drawn = iter(layout.rows)
    lines = [paint(layout.header, BOLD, color)]
    for test in session.tests:
        lines += ["", *_heading(test, width)]
        for row in test.rows:
            lines += _coloured(next(drawn), row, color)
        lines += _explanations(test, width)
    if layout.signed and any(texts.change != NOTHING for texts in cells):
        lines += ["", *wrap_words(_LEGEND, width)]
    return lines


@dataclass(frozen=True)
class _Layout:
    """A header line, the lines of every row, and whether changes are bare signed numbers."""

    header: str
    rows: list[list[str]]
    signed: bool


def _layout(rows: Sequence[Cells], width: int) -> _Layout:
    """Lay the rows out in the roomiest way in which every row fits."""
    roomy = [
        (c.verdict, c.metric, c.current, c.target, c.baseline_long, c.change_long) for c in rows
    ]
    plain = [(c.verdict, c.metric, c.current, c.target, c.baseline, c.change) for c in rows]
    words = [(*row[:-1], c.change_long) for row, c in zip(plain, rows, strict=True)]
    for table, gap in ((roomy, 3), (roomy, 2), (words, 2), (plain, 2)):
        widths = [max(map(display_width, column)) for column in zip(_HEADER, *table, strict=True)]
        if sum(widths) + gap * (len(widths) - 1) <= width:
            space = " " * gap
            drawn = [
                space.join(pad(text, w) for text, w in zip(row, widths, strict=True)).rstrip()
                for row in (_HEADER, *table)
            ]
            return _Layout(drawn[0], [[line] for line in drawn[1:]], table is plain)
    return _two_lines(rows, width)


def _two_lines(rows: Sequence[Cells], width: int) -> _Layout:
    """The layout for narrow terminals: verdict, metric, current, change; the rest below."""
    header = ("verdict", "metric", "current", "change")
    first = [(c.verdict, c.metric, c.current, c.change_long) for c in rows]
    widths = [max(map(display_width, column)) for column in zip(header, *first, strict=True)]
    indent = " " * (widths[0] + 2)
    if sum(widths) + 2 * (len(widths) - 1) > width:
        widths, indent = widths[:1], _INDENT
    drawn = []
    for cells, texts in zip(rows, first, strict=True):
        below = []
        if cells.target != NOTHING:
            below.append(f"target {cells.target}")
        if cells.baseline != NOTHING:
            below.append(f"baseline {cells.baseline} over {cells.sessions}")
        lines = pack(_padded(texts, widths), width, indent)
        if below:
            lines += [indent + line for line in pack(below, width - len(indent), "")]
        drawn.append(lines)
    return _Layout(pack(_padded(header, widths), width, indent)[0], drawn, signed=False)


def _padded(texts: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Pad the texts that have a column width; drop what is empty at the end."""
    padded = [pad(text, w) for text, w in zip(texts, widths, strict=False)]
    rest = [*padded, *texts[len(padded) :]]
    return rest[:-1] if texts[-1] == NOTHING else rest


def _heading(test: TestReportView, width: int) -> list[str]:
    """The node id on lines of its own, the workload beside it where there is room."""
    lines = wrap_node_id(test.nodeid, width)
    if test.workload:
        beside = f"{lines[-1]}  ({printable(test.workload)})"
        if display_width(beside) <= width:
            lines[-1] = beside
        else:
            lines += wrap_words(f"({test.workload})", width, first=_INDENT, indent=_INDENT)
    return lines


def _coloured(lines: list[str], row: MetricRow, color: bool) -> list[str]:
    """Colour the verdict at the start of a row's first line."""
    if row.verdict is None or not color:
        return lines
    kind = row.verdict.kind
    painted = paint(kind.value, verdict_style(kind), color)
    return [painted + lines[0][len(kind.value) :], *lines[1:]]


def _explanations(test: TestReportView, width: int) -> list[str]:
    """Why anything is not a pass: one line per reason, shared by the metrics it holds for."""
    groups: dict[tuple[VerdictKind, str, tuple[str, ...]], list[str]] = {}
    for row in test.rows:
        verdict = row.verdict
        if verdict is None or (verdict.kind is VerdictKind.PASS and not verdict.notes):
            continue
        if verdict.kind is VerdictKind.NO_BASELINE and not verdict.notes:
            continue  # the footer says it once for all tests
        text = (verdict.explanation.splitlines() or [""])[0]
        groups.setdefault((verdict.kind, text, verdict.notes), []).append(row.label)
    lines: list[str] = []
    for (kind, text, notes), labels in groups.items():
        shared = "" if kind in _WHOLE_TEST else f" {listed(labels)}"
        lines += wrap_words(f"{kind.value}{shared}: {text}", width, first="  ", indent=_INDENT)
        for note in notes:
            lines += wrap_words(note, width, first=_INDENT, indent=_INDENT + "  ")
    for finding in test.findings:
        lines += wrap_words(finding, width, first="  - ", indent=_INDENT)
    return lines


#: Kinds whose explanation is about the whole test rather than one metric's numbers.
_WHOLE_TEST = frozenset({VerdictKind.INVALID, VerdictKind.WORKLOAD_CHANGED})


def _footer(session: SessionView, width: int, color: bool) -> list[str]:
    """Counts, time spent, baselines used, and how to record one."""
    lines = _counts(session, width, color)
    if session.wall_s > 0:
        share = percent(round(session.generation_s / session.wall_s, 2))
        spent = f"{span(session.wall_s)} of measuring, {share} of it inside generation"
        lines += wrap_words(spent, width)
    for source in session.baseline_sources:
        lines += wrap_words(source, width, first="baseline: ", indent=_INDENT)
    for difference in dict.fromkeys(d for test in session.tests for d in test.differences):
        lines += wrap_words(difference, width, first="differs from the baseline: ")
    missing: dict[str, list[str]] = {}
    for test in session.tests:
        for text in dict.fromkeys(
            v.explanation for v in test.verdicts if v.kind is VerdictKind.NO_BASELINE
        ):
            missing.setdefault(text, []).append(test.nodeid)
    for text, nodeids in missing.items():
        lines += wrap_words(f"no baseline for {count(len(nodeids), 'test')}: {text}", width)
    if session.recorded_to is not None:
        lines += wrap_words(session.recorded_to, width, first="recorded to ", indent=_INDENT)
    elif any(v.kind in UNCOMPARED for test in session.tests for v in test.verdicts):
        lines += wrap_words("record a baseline with:", width)
        lines.append(_INDENT + printable(session.record_command))
    return lines


def _counts(session: SessionView, width: int, color: bool) -> list[str]:
    """How many checks got which verdict; metrics of one quantity count as one check."""
    judged = [test.verdicts for test in session.tests]
    kinds = count_kinds(judged)
    total = sum(kinds.values())
    lead = f"{count(len(session.tests), 'test')}, {count(total, 'check')}"
    if not kinds:
        return wrap_words(f"{lead}: nothing was judged", width)
    items = [f"{lead}:"]
    items += [f"{number} {kind.value}," for kind, number in kinds.items()]
    items[-1] = items[-1].rstrip(",")
    lines = pack(items, width, _INDENT, joint=" ")
    if color:
        style = verdict_style(next(iter(kinds)))
        lines = [paint(line, style, color) for line in lines]
    if total < sum(len(verdicts) for verdicts in judged):
        same = "metrics that are one quantity (tokens/s and time per token) count as one check"
        lines += wrap_words(same, width, first="  ")
    return lines
