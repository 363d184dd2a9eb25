"""Keeps a report's own verdict in a comparison where judging its samples again is milder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.gate.check import Check, Evidence
from pytest_llmperf.gate.verdict import Reason, Verdict, VerdictKind
from pytest_llmperf.metrics import known_metric
from pytest_llmperf.session.result import CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_llmperf.compare.report_file import ReportedMetric, ReportedTest

_STRATEGY = "report"
#: Verdicts to keep whatever the base is; not that its own baseline was missing or outdated.
_LASTING: dict[str | None, VerdictKind] = {
    kind.value: kind
    for kind in (
        VerdictKind.ERROR,
        VerdictKind.INVALID,
        VerdictKind.REGRESSED,
        VerdictKind.MISSED,
        VerdictKind.INCONCLUSIVE,
    )
}
#: Verdicts on a void test: the comparison has given them again already, in the same words.
_VOID = frozenset({VerdictKind.ERROR, VerdictKind.INVALID})


def with_reported_verdicts(
    rows: Sequence[CheckResult], reported: ReportedTest, base: str
) -> tuple[CheckResult, ...]:
    """Return the rows of one test, each with its session's own verdict if that is worse.

    A metric that was not compared gets a row if its own verdict is a lasting one.

    Args:
        rows: the comparison's rows of the test.
        reported: the test in its session's report.
        base: name of the comparison's base.
    """
    lasting = {own.name: own for own in reported.metrics if own.verdict in _LASTING}
    joined = [_joined(row, lasting.pop(row.check.metric.name, None), base) for row in rows]
    return (*joined, *_rows_of(reported.nodeid, lasting.values()))


def count_reported(reported: Iterable[ReportedTest]) -> str:
    """Return counts of a report's own verdicts: ``1 regressed, 2 inconclusive``; empty if none."""
    counted = Counter(own.verdict for test in reported for own in test.metrics)
    return ", ".join(f"{counted[kind]} {kind}" for kind in _LASTING if counted[kind])


def _joined(row: CheckResult, own: ReportedMetric | None, base: str) -> CheckResult:
    """Return a row with the worse of its two verdicts, and a note on the other."""
    if own is None:
        return row
    kind, judged = _LASTING[own.verdict], row.verdict
    if judged is None:
        return replace(row, verdict=_verdict(row.check, own, ()))
    if kind is judged.kind and kind in _VOID:
        return row
    if judged.kind.rank <= kind.rank:
        said = _verdict(row.check, own, ())
        notes = (*judged.notes, said.claim)
        return replace(
            row, verdict=replace(judged, notes=notes, reasons=(*judged.reasons, *said.reasons))
        )
    worse = replace(
        _verdict(row.check, own, judged.reasons),
        change=judged.change,
        notes=(f"compared with {base}: {judged.kind.value}: {judged.claim}",),
    )
    return replace(row, verdict=worse)


def _rows_of(nodeid: str, reported: Iterable[ReportedMetric]) -> Iterator[CheckResult]:
    """Yield rows for verdicts on metrics that were not compared."""
    for own in reported:
        if (metric := known_metric(own.name)) is not None:
            check = Check(metric, own.limit, own.tolerance)
            yield CheckResult(Evidence(nodeid, check, (), 0), _verdict(check, own, ()))


def _verdict(check: Check, own: ReportedMetric, others: Iterable[Reason]) -> Verdict:
    kind = _LASTING[own.verdict]
    claim = f"verdict in its own session: {own.verdict}" + (f": {own.text}" if own.text else "")
    return Verdict(
        kind=kind,
        check=replace(check, gated=True),
        change=None,
        explanation=claim,
        strategy=_STRATEGY,
        claim=claim,
        reasons=(Reason(kind, _STRATEGY, claim, claim), *others),
    )
