"""The lines below the table: counts, time spent, undecided checks, baselines, next steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.tolerances import MIN_TOLERANCE
from pytest_llmperf.gate.combine import count_kinds, verdict_per_quantity
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind, verdict_fails
from pytest_llmperf.gate.words import count, listed, percent
from pytest_llmperf.report.cells import paint, verdict_style
from pytest_llmperf.report.explanations import common_tolerance
from pytest_llmperf.report.forms.headline import unmeasured_words
from pytest_llmperf.report.short_rows import needs_no_explanation
from pytest_llmperf.text import display_width, in_short, pack, wrap_words
from pytest_llmperf.units import DEFAULT_TOLERANCE, format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult

_INDENT = "    "
#: Longest list of baseline files; of more, only the first and the last are named.
MAX_FILES = 3
MORE_WOULD_NOT_DECIDE = "more recorded sessions would narrow the interval, but probably not decide"
#: Number of tests named in one line.
_NAMES = 3


@dataclass(frozen=True)
class Remedies:
    """Next steps for a reader of the table, in the terms of the interface in use.

    Attributes:
        record: command that records a baseline.
        accept: command that makes this session's level the baseline.
        compare: command that measures two configurations in one session.
        details: option that shows intervals, evidence and metrics that are not gated.
        strict: option that makes inconclusive checks fail; None if only ``perf.strict`` does.
    """

    record: str = "pytest -m perf --llmperf-record"
    accept: str = 'pytest -m perf --llmperf-accept "why"'
    compare: str = "pytest -m perf --llmperf-against-config OTHER.yaml"
    details: str = "-v"
    strict: str | None = "--llmperf-strict"


#: Next steps for a pytest user.
PYTEST_REMEDIES = Remedies()


def footer(
    session: SessionResult, width: int, color: bool, remedies: Remedies = PYTEST_REMEDIES
) -> list[str]:
    """Write everything below the table, at most ``width`` columns wide."""
    lines = _counts(session, width, color)
    if session.wall_seconds > 0:
        lines += wrap_words(_spent(session), width)
    if any(row.change is not None for test in session.tests for row in test.rows if row.verdict):
        lines += _false_alarms(session, width)
    for text in _calibrated(session):
        lines += wrap_words(text, width, first="tolerance auto: ", indent=_INDENT)
    lines += _undecided(session, width, remedies)
    lines += _improved(session, width, remedies)
    for text in _baselines(session):
        lines += wrap_words(text, width, first="baseline: ", indent=_INDENT)
    return [
        *lines,
        *_differences(session.tests, session, width),
        *_missing(session, width, remedies),
    ]


def short_footer(
    session: SessionResult,
    width: int,
    color: bool,
    remedies: Remedies,
    *,
    quiet: bool,
    failures: Collection[str] = (),
) -> list[str]:
    """Write the counts, what was compared, and what to do next.

    ``quiet``: only what is needed. ``failures``: node ids of tests with a failure shown above.
    """
    spent = "" if quiet or session.wall_seconds <= 0 else _spent(session)
    lines = _counts(session, width, color, spent)
    if not quiet:
        for text in filter(None, (_compared(session), *_tolerances(session))):
            lines += wrap_words(text, width)
    if any(True for _ in _checks(session, VerdictKind.REGRESSED)):
        lines += _false_alarms(session, width)
    lines += _undecided(session, width, remedies)
    lines += _improved(session, width, remedies)
    unlike = [
        test
        for test in session.tests
        if not needs_no_explanation(test) and test.nodeid not in failures
    ]
    lines += _differences(unlike, session, width)
    lines += _missing(session, width, remedies, short=True)
    if not quiet and session.tests:
        hint = f"{remedies.details} shows intervals, evidence and the metrics that are not gated"
        lines += wrap_words(hint, width)
    return lines


def _spent(session: SessionResult) -> str:
    share = percent(round(session.generation_seconds / session.wall_seconds, 2))
    return f"{format_duration(session.wall_seconds)} of measuring, {share} inside generation"


def _false_alarms(session: SessionResult, width: int) -> list[str]:
    most = f"at most {percent(session.false_alarms)} per session (perf.false_alarms)"
    return wrap_words(f"chance of a false regressed verdict: {most}", width)


def _compared(session: SessionResult) -> str:
    """Name the baseline and the tolerance: ``compared with 3 stored sessions of ...``."""
    tolerance = common_tolerance(session.tests)
    folders = dict.fromkeys(PurePath(source).parent.name for source in session.baseline_sources)
    if session.against is not None or not folders:
        return "; ".join(tolerance)
    stored = f"{count(len(session.baseline_sources), 'stored session')} of {listed([*folders])}"
    return "; ".join([f"compared with {stored}", *tolerance])


def _tolerances(session: SessionResult) -> Iterator[str]:
    for text in _calibrated(session):
        yield f"tolerance auto: {text}"


def _differences(tests: Sequence[TestResult], session: SessionResult, width: int) -> list[str]:
    """List differences from stored baselines other than speed; the head lists a base side's."""
    if session.against is not None:
        return []
    return [
        line
        for difference in dict.fromkeys(d for test in tests for d in test.differences)
        for line in wrap_words(difference, width, first="differs from the baseline: ")
    ]


def _counts(session: SessionResult, width: int, color: bool, spent: str = "") -> list[str]:
    """Count the checks by verdict; metrics that measure one quantity count as one check.

    ``spent``: text about the time spent, appended to the counts.
    """
    judged = [test.verdicts for test in session.tests]
    kinds = count_kinds(judged)
    total = sum(kinds.values())
    lead = f"{count(len(session.tests), 'test')}, {count(total, 'check')}"
    others = unmeasured_words(test.outcome for test in session.unmeasured)
    if not kinds:
        text = ", ".join([f"{lead}: nothing was judged", *others])
        return wrap_words("; ".join(filter(None, (text, spent))), width)
    items = [f"{number} {kind.value}" for kind, number in kinds.items()] + others
    items = [f"{lead}:", *(f"{item}," for item in items[:-1]), items[-1]]
    lines = _with_time(pack(items, width, _INDENT, joint=" "), spent, width)
    if color:
        style = verdict_style(next(iter(kinds)))
        lines = [paint(line, style, color) for line in lines]
    if total < sum(len(verdicts) for verdicts in judged):
        same = "metrics that are one quantity (tokens/s and time per token) count as one check"
        lines += wrap_words(same, width, first="  ")
    return lines


def _with_time(lines: list[str], spent: str, width: int) -> list[str]:
    """Add the time spent, on the last line of the counts if there is room."""
    if not spent:
        return lines
    beside = f"{lines[-1]}; {spent}"
    if display_width(beside) <= width:
        return [*lines[:-1], beside]
    return [*lines, *wrap_words(spent, width)]


def _calibrated(session: SessionResult) -> Iterator[str]:
    """Yield the tolerances taken from each calibration, with its figures."""
    rows = [row for test in session.tests for row in test.rows if row.verdict]
    calibrations: dict[tuple[str, float], list[CheckResult]] = {}
    for row in rows:
        if row.check.calibrated is not None:
            key = (row.check.calibrated.calibration, row.check.calibrated.seconds)
            calibrations.setdefault(key, []).append(row)
    for (file, seconds), group in calibrations.items():
        calibrated = [(row, row.check.calibrated) for row in group if row.check.calibrated]
        held_tolerances = [figures.holds for _, figures in calibrated if figures.holds is not None]
        used = _spread(row.check.tolerance for row in group)
        held = _spread(held_tolerances) if held_tolerances else "none"
        text = (
            f"{used}, from {file} ({calibrated[0][1].recorded[:10]}): sessions of "
            f"{format_duration(seconds)} can hold {held}"
        )
        if any(row.check.tolerance > figures.tolerance for row, figures in calibrated):
            text += f"; against stored sessions it is at least {percent(DEFAULT_TOLERANCE)}"
        elif held_tolerances and min(held_tolerances) < MIN_TOLERANCE:
            text += f"; it is at least {percent(MIN_TOLERANCE)}"
        yield text


def _spread(shares: Iterable[float]) -> str:
    """Return shares as a range: ``2%``, or ``2% to 5%``."""
    known = sorted(set(shares))
    ends = map(percent, known if len(known) < 2 else (known[0], known[-1]))
    return " to ".join(ends)


def _undecided(session: SessionResult, width: int, remedies: Remedies) -> list[str]:
    """Explain the consequences of inconclusive checks, and how to decide the suspect ones."""
    undecided = list(_checks(session, VerdictKind.INCONCLUSIVE))
    if not undecided:
        return []
    passing = {test.nodeid for test in session.tests if not any(map(verdict_fails, test.verdicts))}
    # Tests of an interrupted session neither pass nor fail.
    warned = 0 if session.interrupted else sum(nodeid in passing for nodeid, _ in undecided)
    lines: list[str] = []
    if warned and session.strict:
        strict = " or ".join(filter(None, (remedies.strict, "perf.strict")))
        why = f"failed, as {strict} asks"
        lines += wrap_words(f"{count(warned, 'inconclusive check')} {why}", width)
    elif warned:
        strict, them = remedies.strict or "perf.strict", "it" if warned == 1 else "them"
        why = f"passed with a warning; {strict} fails {them}"
        lines += wrap_words(f"{count(warned, 'inconclusive check')} {why}", width)
    suspects = [verdict for _, verdict in undecided if verdict.strategy == "baseline"]
    if suspects:
        lines += _suspects(suspects, width, remedies)
    return lines


def _suspects(suspects: list[Verdict], width: int, remedies: Remedies) -> list[str]:
    needed = sessions_needed(suspects)
    them = "it" if len(suspects) == 1 else "them"
    lead = f"stored sessions alone don't decide {count(len(suspects), 'suspect check')}"
    lines = wrap_words(f"{lead}. To decide {them}:", width)
    if needed is None:
        lines += wrap_words(MORE_WOULD_NOT_DECIDE, width, first="  - ", indent=_INDENT)
    else:
        more = f"{count(needed, 'more session')}: enough if similar to the stored ones"
        lines += wrap_words(more, width, first="  - record about ", indent=_INDENT)
    two_sides = "where a configuration changed, the old and the new one in one session:"
    lines += wrap_words(two_sides, width, first="  - ", indent=_INDENT)
    return [*lines, _INDENT + remedies.compare]


def sessions_needed(undecided: Sequence[Verdict]) -> int | None:
    """Return how many more stored sessions would decide all; None if any number may not."""
    needed = [verdict.proof.more if verdict.proof else None for verdict in undecided]
    known = [more for more in needed if more is not None]
    return max(known) if len(known) == len(needed) else None


def _improved(session: SessionResult, width: int, remedies: Remedies) -> list[str]:
    """Warn of a stale baseline and say how to renew it; a base side is never stale."""
    better = list(_checks(session, VerdictKind.IMPROVED))
    if not better or session.against is not None:
        return []
    lines = wrap_words(
        f"{count(len(better), 'check')} improved, so the baseline is stale. New recorded sessions "
        "replace it over time; to hold the new level at once, accept it with a reason:",
        width,
    )
    return [*lines, _INDENT + remedies.accept]


def _checks(session: SessionResult, kind: VerdictKind) -> Iterator[tuple[str, Verdict]]:
    for test in session.tests:
        for verdict in verdict_per_quantity(test.verdicts):
            if verdict.kind is kind:
                yield test.nodeid, verdict


def _baselines(session: SessionResult) -> Iterator[str]:
    """Yield the baseline files of each folder; of many, only the first and the last."""
    folders: dict[PurePath, list[str]] = {}
    for source in session.baseline_sources:
        folders.setdefault(PurePath(source).parent, []).append(source)
    for folder, sources in folders.items():
        if len(sources) <= MAX_FILES:
            yield from sources
        else:
            first, last = (PurePath(source).name for source in (sources[0], sources[-1]))
            yield f"{count(len(sources), 'session')} in {folder}, {first} to {last}"


def _few(nodeids: list[str]) -> str:
    more = [f"and {len(nodeids) - _NAMES} more"] if len(nodeids) > _NAMES else []
    return ", ".join([*nodeids[:_NAMES], *more])


def _missing(
    session: SessionResult, width: int, remedies: Remedies, *, short: bool = False
) -> list[str]:
    """Name the tests without a baseline, and where this session was, or can be, recorded.

    ``short``: name only the first difference from the nearest baseline.
    """
    lines: list[str] = []
    missing: dict[str, list[str]] = {}
    for test in session.tests:
        for text in dict.fromkeys(
            v.explanation for v in test.verdicts if v.kind is VerdictKind.NO_BASELINE
        ):
            missing.setdefault(in_short(text), []).append(test.nodeid)
    for text, nodeids in missing.items():
        first, several, _ = text.partition("; ")
        why = f"{first}; ..." if short and several else text
        # On a new machine no test has a stored baseline; the table shows which.
        which = f" ({_few(nodeids)})" if session.against is not None else ""
        lines += wrap_words(f"no baseline for {count(len(nodeids), 'test')}{which}: {why}", width)
    if session.recorded_to is not None:
        lines += wrap_words(session.recorded_to, width, first="recorded to ", indent=_INDENT)
    elif session.against is None and any(
        # Recording does not help a stall rate: it is judged by a limit or a base side.
        v.kind in UNCOMPARED and v.strategy == "baseline"
        for test in session.tests
        for v in test.verdicts
    ):
        lines += wrap_words(f"to record a baseline: {remedies.record}", width)
    return lines
