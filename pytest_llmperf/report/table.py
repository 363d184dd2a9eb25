"""The table at the end of a session: verdicts first, explanations below, nothing cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, plural
from pytest_llmperf.report.cells import BOLD, NOTHING, YELLOW, Cells, cells_of, paint, replays_words
from pytest_llmperf.report.disturbances import listed_checks
from pytest_llmperf.report.explanations import common_facts, explanations
from pytest_llmperf.report.footer import PYTEST_REMEDIES, Remedies, footer, short_footer
from pytest_llmperf.report.load_curve import load_curve_lines
from pytest_llmperf.report.short_rows import coloured, short_rows
from pytest_llmperf.report.sweep import sweep_lines
from pytest_llmperf.text import (
    columns,
    display_width,
    pack,
    pad,
    printable,
    wrap_node_id,
    wrap_words,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_llmperf.session.result import SessionResult, TestResult

_INDENT = "    "


def render_table(
    session: SessionResult,
    width: int = 80,
    color: bool = False,
    verbosity: int = 0,
    remedies: Remedies = PYTEST_REMEDIES,
    failures: Collection[str] = (),
) -> list[str]:
    """Draw the session for a terminal ``width`` columns wide; one string per line.

    Args:
        session: the session.
        width: columns of the terminal.
        color: whether to use ANSI colours.
        verbosity: 0: a line per gated metric, and a full explanation of what failed or is
            undecided; 1: every test in full, with its intervals and other metrics; below 0:
            only tests that failed or are undecided.
        remedies: the next steps, in the terms of the reader's interface.
        failures: node ids of tests whose failure is shown above; with verbosity below 1 they
            are not explained again.
    """
    width = max(20, width)
    if verbosity > 0:
        return [*table_lines(session, width, color), "", *footer(session, width, color, remedies)]
    quiet = verbosity < 0
    lines = [*_busy(session, width, color), *_base_lines(session, width)]
    lines += _notes(session, width, _missing_texts(session))
    if session.tests:
        rows = short_rows(session, width, color, quiet=quiet, failures=failures)
        lines += ["", *rows] if rows and lines and lines[-1] else rows
        if not quiet:
            lines += sweep_lines(session, width, color, intervals=False)
            lines += load_curve_lines(session, width, color)
    lines += [""] if lines and lines[-1] else []
    return [
        *lines,
        *short_footer(session, width, color, remedies, quiet=quiet, failures=failures),
    ]


def table_lines(session: SessionResult, width: int, color: bool) -> list[str]:
    """Draw every test in full, and everything above the footer.

    The causes of a busy machine come before anything about speed. Each test is shown
    as its full node id and one row per metric, the verdict first. All rows take one line
    if all of them fit, else two lines: nothing is cut.
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
    # The interval is explained once here, so that the columns stay narrow.
    replays = replays_words(session.tests, session.iterations)
    # Short replays are repeated when two sides take turns.
    rounds = f"{_samples_each(session)} x {'at least ' if session.against else ''}{replays}"
    caption = [*rounds.split(), "of each test,", f"seed {session.seed};", "median [95% interval]"]
    lines += pack(caption, width, _INDENT, joint=" ")
    lines += [*_base_lines(session, width), *_notes(session, width)]
    if session.tests:
        lines += ["", *_rows(session, width, color)]
        lines += sweep_lines(session, width, color)
        lines += load_curve_lines(session, width, color)
    return lines


def _missing_texts(session: SessionResult) -> list[str]:
    """Return why tests have no baseline; the footer repeats it."""
    return [
        verdict.explanation
        for test in session.tests
        for verdict in test.verdicts
        if verdict.kind is VerdictKind.NO_BASELINE
    ]


def _notes(session: SessionResult, width: int, known: Sequence[str] = ()) -> list[str]:
    """Return the session's notes, except those that contain a text in ``known``."""
    return [
        line
        for note in session.notes
        if not any(text in note for text in known)
        for line in wrap_words(note, width, first="note: ", indent="      ")
    ]


def _samples_each(session: SessionResult) -> str:
    """Return the number of processes, or pairs, per test: ``5 to 9 pairs of processes``."""
    unit = next((_unit_of(test) for test in session.tests), "process")
    noun = unit if session.against is None else f"pair of {plural(unit)}"
    done = [_count_of(test) for test in session.tests if (test.pairs > 0) == bool(session.against)]
    known = sorted(number for number in done if number)
    if not known:
        return f"at least {count(session.processes, noun)}"
    fewest, largest = known[0], known[-1]
    text = count(largest, noun)
    return text if fewest == largest else f"{fewest} to {text}"


def _unit_of(test: TestResult) -> str:
    return test.rows[0].evidence.unit if test.rows else "process"


def _count_of(test: TestResult) -> int:
    """Return the number of processes, or complete pairs, that a test's verdicts rest on."""
    return test.pairs or test.processes


def _base_lines(session: SessionResult, width: int) -> list[str]:
    """Describe the base side that was measured in this session, and how it differs."""
    if session.against is None:
        return []
    compared = any(test.against is not None for test in session.tests)
    if compared:
        lead = f"compared with {session.against}, both run interleaved in this session"
    else:
        lead = f"none of these tests could be compared with {session.against}"
    lines = wrap_words(lead, width)
    for difference in session.side_differences:
        lines += wrap_words(difference, width, first="  ", indent=_INDENT)
    if compared and not session.side_differences:
        lines += wrap_words("both have the same settings: an A/A run", width, first="  ")
    return lines


def _busy(session: SessionResult, width: int, color: bool) -> list[str]:
    """List the other activity on the machine while measuring."""
    if not session.busy:
        return []
    lines = ["what the machine did while measuring:"]
    for text in session.busy:
        lines += wrap_words(text, width, first="  - ", indent=_INDENT)
    return [*(paint(line, YELLOW, color) for line in lines), ""]


def _rows(session: SessionResult, width: int, color: bool) -> list[str]:
    """Draw the header and every test, in the roomiest layout that fits all rows."""
    cells = [cells_of(row) for test in session.tests for row in test.all_rows]
    base = "baseline" if session.against is None else "base"
    drawn, known = iter(_layout(cells, width, base)), common_facts(session.tests)
    disturbed = listed_checks(session.fitness)
    lines = [paint(line, BOLD, color) for line in next(drawn)]
    for test in session.tests:
        lines += ["", *_heading(test, width)]
        for row in test.all_rows:
            lines += coloured(next(drawn), row, color)
        lines += explanations(test, width, known, passes=True, disturbed=disturbed)
    return [*lines, "", *wrap_words("; ".join(known), width)] if known else lines


def _layout(rows: Sequence[Cells], width: int, base: str) -> list[list[str]]:
    """Lay out the header and the rows, each as lines, in the roomiest way that fits all."""
    header = ("verdict", "metric", "current", "target", base, "change")
    roomy = [(c.verdict, c.metric, c.current, c.target, c.baseline_long, c.change) for c in rows]
    plain = [(c.verdict, c.metric, c.current, c.target, c.baseline, c.change) for c in rows]
    for table, gap in ((roomy, 3), (roomy, 2), (plain, 2)):
        lines = columns((header, *table), gap)
        if max(map(display_width, lines)) <= width:
            return [[line] for line in lines]
    return _two_lines(rows, width)


def _two_lines(rows: Sequence[Cells], width: int) -> list[list[str]]:
    """Lay rows out for a narrow terminal: verdict, metric, current, change; the rest below."""
    header = ("verdict", "metric", "current", "change")
    first = [(c.verdict, c.metric, c.current, c.change) for c in rows]
    widths = [max(map(display_width, column)) for column in zip(header, *first, strict=True)]
    indent = " " * (widths[0] + 2)
    if sum(widths) + 2 * (len(widths) - 1) > width:
        widths, indent = widths[:1], _INDENT
    drawn = [pack(_padded(header, widths), width, indent)[:1]]
    for cells, texts in zip(rows, first, strict=True):
        below = []
        if cells.target != NOTHING:
            below.append(f"target {cells.target}")
        if cells.baseline != NOTHING:
            below.append(cells.baseline_below)
        lines = pack(_padded(texts, widths), width, indent)
        if below:
            lines += [indent + line for line in pack(below, width - len(indent), "")]
        drawn.append(lines)
    return drawn


def _padded(texts: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Pad the texts that have a column width; drop an empty text at the end."""
    padded = [pad(text, w) for text, w in zip(texts, widths, strict=False)]
    rest = [*padded, *texts[len(padded) :]]
    return rest[:-1] if texts[-1] == NOTHING else rest


def _heading(test: TestResult, width: int) -> list[str]:
    """Draw the node id, with workload and samples beside it if there is room, else below it."""
    lines = wrap_node_id(test.nodeid, width)
    sample_count = _count_of(test)
    noun = "pair" if test.pairs else _unit_of(test)
    samples = count(sample_count, noun) if sample_count else ""
    if test.earlier_pairs:
        samples += f", {test.earlier_pairs} of them of earlier sessions"
    about = "; ".join(part for part in (test.workload, samples) if part)
    if about:
        beside = f"{lines[-1]}  ({printable(about)})"
        if display_width(beside) <= width:
            lines[-1] = beside
        else:
            lines += wrap_words(f"({about})", width, first=_INDENT, indent=_INDENT)
    return lines
