"""The table at the end of a session: verdict first, explained below, nothing cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.rules import LOG_PASS
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, listed, needed_words, odds, sensitivity_words, signed
from pytest_llmperf.report.cells import BOLD, NOTHING, YELLOW, Cells, cells_of, paint, verdict_style
from pytest_llmperf.report.footer import PYTEST_REMEDIES, Remedies, footer
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
    from collections.abc import Collection, Iterator, Sequence

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

_INDENT = "    "
#: Kinds whose explanation is about the whole test rather than one metric's numbers.
_WHOLE_TEST = frozenset({VerdictKind.INVALID, VerdictKind.WORKLOAD_CHANGED})
_MET = frozenset({VerdictKind.PASS, VerdictKind.IMPROVED, VerdictKind.NO_BASELINE})


def render_table(
    session: SessionResult,
    width: int = 80,
    color: bool = False,
    brief: bool = False,
    remedies: Remedies = PYTEST_REMEDIES,
) -> list[str]:
    """Draw the session for a terminal ``width`` columns wide; one string per line.

    ANSI colours only with ``color``; ``brief`` leaves out why a pass is one. ``remedies``
    are the next steps, in words of the reader's interface.
    """
    lines = table_lines(session, width, color, brief)
    return [*lines, "", *footer(session, max(20, width), color, remedies)]


def table_lines(session: SessionResult, width: int, color: bool, brief: bool = False) -> list[str]:
    """Draw everything down to the legend.

    What made the machine busy comes before anything about speed. Each test is
    its full node id and one row per metric, the verdict first. Rows are laid out
    as one line where that fits every row, and as two lines otherwise: nothing is
    cut.
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
    rounds = f"{_samples_each(session)} x {count(session.iterations, 'iteration')}"
    caption = [*rounds.split(), "of each test,", f"seed {session.seed};", "median [95% interval]"]
    lines += pack(caption, width, _INDENT, joint=" ")
    lines += _base_lines(session, width)
    for note in session.notes:
        lines += wrap_words(note, width, first="note: ", indent="      ")
    if session.tests:
        lines += ["", *_rows(session, width, color, brief)]
        lines += sweep_lines(session, width, color)
    return lines


def _samples_each(session: SessionResult) -> str:
    """How many processes (pairs of them) each test took: ``5 to 9 pairs of processes``."""
    noun = "process" if session.against is None else "pair of processes"
    done = [_count_of(test) for test in session.tests if (test.pairs > 0) == bool(session.against)]
    known = sorted(number for number in done if number)
    if not known:
        return f"at least {count(session.processes, noun)}"
    fewest, largest = known[0], known[-1]
    text = count(largest, noun)
    return text if fewest == largest else f"{fewest} to {text}"


def _count_of(test: TestResult) -> int:
    """How many processes, or complete pairs of them, a test's verdicts rest on."""
    return test.pairs or test.processes


def _base_lines(session: SessionResult, width: int) -> list[str]:
    """Name the base that was measured in this session, and how it differs."""
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
    """Other processes that used the machine."""
    if not session.busy:
        return []
    lines = ["what the machine did while measuring:"]
    for text in session.busy:
        lines += wrap_words(text, width, first="  - ", indent=_INDENT)
    return [*(paint(line, YELLOW, color) for line in lines), ""]


def _rows(session: SessionResult, width: int, color: bool, brief: bool) -> list[str]:
    """The header and every test, in the roomiest layout that holds every row."""
    cells = [cells_of(row) for test in session.tests for row in test.all_rows]
    base = "baseline" if session.against is None else "base"
    drawn, known = iter(_layout(cells, width, base)), _common_facts(session.tests)
    lines = [paint(line, BOLD, color) for line in next(drawn)]
    for test in session.tests:
        lines += ["", *_heading(test, width)]
        for row in test.all_rows:
            lines += _coloured(next(drawn), row, color)
        lines += _explanations(test, width, brief, known)
    legend = list(known)
    if any(texts.change != NOTHING for texts in cells):
        legend.insert(0, f"changes: + slower, - faster than the {base}")
    return [*lines, "", *wrap_words("; ".join(legend), width)] if legend else lines


def _layout(rows: Sequence[Cells], width: int, base: str) -> list[list[str]]:
    """Lay the header and the rows out, each as lines, in the roomiest way in which all fit."""
    header = ("verdict", "metric", "current", "target", base, "change")
    roomy = [
        (c.verdict, c.metric, c.current, c.target, c.baseline_long, c.change_long) for c in rows
    ]
    plain = [(c.verdict, c.metric, c.current, c.target, c.baseline, c.change) for c in rows]
    words = [(*row[:-1], c.change_long) for row, c in zip(plain, rows, strict=True)]
    for table, gap in ((roomy, 3), (roomy, 2), (words, 2), (plain, 2)):
        lines = columns((header, *table), gap)
        if max(map(display_width, lines)) <= width:
            return [[line] for line in lines]
    return _two_lines(rows, width)


def _two_lines(rows: Sequence[Cells], width: int) -> list[list[str]]:
    """The layout for narrow terminals: verdict, metric, current, change; the rest below."""
    header = ("verdict", "metric", "current", "change")
    first = [(c.verdict, c.metric, c.current, c.change_long) for c in rows]
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
    """Pad the texts that have a column width; drop what is empty at the end."""
    padded = [pad(text, w) for text, w in zip(texts, widths, strict=False)]
    rest = [*padded, *texts[len(padded) :]]
    return rest[:-1] if texts[-1] == NOTHING else rest


def _heading(test: TestResult, width: int) -> list[str]:
    """The node id on lines of its own; workload and samples beside it where there is room."""
    lines = wrap_node_id(test.nodeid, width)
    done = _count_of(test)
    noun = "pair" if test.pairs else "process"
    samples = count(done, noun) if done else ""
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


def _coloured(lines: list[str], row: CheckResult, color: bool) -> list[str]:
    """Colour the verdict at the start of a row's first line."""
    if row.verdict is None or not color:
        return lines
    kind = row.verdict.kind
    painted = paint(kind.value, verdict_style(kind), color)
    return [painted + lines[0][len(kind.value) :], *lines[1:]]


def _common_facts(tests: Sequence[TestResult]) -> list[str]:
    """Facts that a session need say only once: what a pass asks for, the one tolerance."""
    facts = [fact for test in tests for verdict in test.verdicts for fact in verdict.facts]
    common = [fact for fact in dict.fromkeys(facts) if fact == needed_words(LOG_PASS, "to pass")]
    tolerances = {fact for fact in facts if fact.startswith("tolerance ")}
    return common + (list(tolerances) if len(tolerances) == 1 else [])


def _explanations(test: TestResult, width: int, brief: bool, known: Collection[str]) -> list[str]:
    """Explain a test's verdicts, one line per metric and per fact that they share.

    ``brief`` leaves out what only says why a pass is one; ``known`` facts are said elsewhere.
    """
    explained = [
        (row.label, row.verdict)
        for row in test.all_rows
        if row.verdict is not None and _is_explained(row.verdict, brief)
    ]
    shared = _shared_facts(explained, known)
    said = {*known, *(fact for facts in shared.values() for fact in facts)}
    lines = _claims(explained, said, width)
    if not brief:
        for text in (*_targets_met(test.rows), *_sensitivity(explained)):
            lines += wrap_words(text, width, first="  ", indent=_INDENT)
    for labels, facts in shared.items():
        whose = "" if len(labels) == len(explained) else f" ({listed(labels)})"
        lines += wrap_words(f"{', '.join(facts)}{whose}", width, first="  ", indent=_INDENT)
    for cause in test.causes:
        lines += wrap_words(f"likely cause: {cause}", width, first="  - ", indent=_INDENT)
    for finding in test.findings:
        lines += wrap_words(finding, width, first="  - ", indent=_INDENT)
    return lines


def _is_explained(verdict: Verdict, brief: bool) -> bool:
    if verdict.notes:
        return True
    # The footer says once for all tests that there is no baseline.
    return verdict.kind is not VerdictKind.NO_BASELINE and not (
        brief and verdict.kind is VerdictKind.PASS
    )


def _shared_facts(
    explained: Sequence[tuple[str, Verdict]], known: Collection[str]
) -> dict[tuple[str, ...], list[str]]:
    """Facts that hold for more than one metric, by the metrics' labels."""
    holders: dict[str, list[str]] = {}
    for label, verdict in explained:
        for fact in verdict.facts:
            holders.setdefault(fact, []).append(label)
    shared: dict[tuple[str, ...], list[str]] = {}
    for fact, labels in holders.items():
        if len(labels) > 1 and fact not in known:
            shared.setdefault(tuple(labels), []).append(fact)
    return shared


def _claims(
    explained: Sequence[tuple[str, Verdict]], said: Collection[str], width: int
) -> list[str]:
    """One line per claim; metrics with the same claim share it."""
    groups: dict[tuple[VerdictKind, str, tuple[str, ...]], list[str]] = {}
    for label, verdict in explained:
        own = ", ".join(fact for fact in verdict.facts if fact not in said)
        claim = (verdict.claim.splitlines() or [""])[0]
        text = "; ".join(part for part in (claim, own) if part)
        groups.setdefault((verdict.kind, text, verdict.notes), []).append(label)
    lines: list[str] = []
    for (kind, text, notes), labels in groups.items():
        # A pass is the rule: its lines stay short, and begin with what sets them apart.
        lead = [] if kind is VerdictKind.PASS else [kind.value]
        lead += [] if kind in _WHOLE_TEST else [listed(labels)]
        lines += wrap_words(f"{' '.join(lead)}: {text}", width, first="  ", indent=_INDENT)
        for note in notes:
            lines += wrap_words(note, width, first=_INDENT, indent=_INDENT + "  ")
    return lines


def _targets_met(rows: Sequence[CheckResult]) -> Iterator[str]:
    """The targets that are met, with the evidence that they are."""
    met: dict[float, list[str]] = {}
    for row in rows:
        verdict = row.verdict
        for reason in verdict.reasons if verdict and verdict.kind in _MET else ():
            proof = reason.proof
            if reason.strategy != "target" or proof is None or proof.log_evidence is None:
                continue
            assert proof.log_threshold is not None
            shown = f"{odds(proof.log_evidence)} ({row.label})"
            met.setdefault(proof.log_threshold, []).append(shown)
    for threshold, each in met.items():
        lead = "target met" if len(each) == 1 else "targets met"
        yield f"{lead}: evidence {', '.join(each)}; {needed_words(threshold)}"


def _sensitivity(explained: Sequence[tuple[str, Verdict]]) -> Iterator[str]:
    """The effects that the stored sessions can show: once where all metrics have the same."""
    ends: dict[int, list[tuple[str, Verdict, float, float]]] = {}
    for label, verdict in explained:
        proof = verdict.proof
        if proof is not None and proof.calls_from is not None:
            found = (label, verdict, proof.passes_up_to or 0.0, proof.calls_from)
            ends.setdefault(proof.samples, []).append(found)
    for sessions, alike in sorted(ends.items()):
        stored = count(sessions, "stored session")
        words = {
            sensitivity_words(verdict.check.metric, passes, calls)
            for _, verdict, passes, calls in alike
        }
        if len(words) == 1:
            yield f"{stored} can decide: {words.pop()}"
            continue
        each = [f"{label} {signed(passes)}, {signed(calls)}" for label, _, passes, calls in alike]
        yield f"{stored} can decide (passes up to, regressed from): {'; '.join(each)}"
