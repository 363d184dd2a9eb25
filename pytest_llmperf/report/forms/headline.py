"""The headline of a session: its worst verdict, and the number of checks by verdict."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count
from pytest_llmperf.metrics import known_metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_llmperf.report.reported import ReportedSession, ShownTest

NOT_MEASURED = "not measured"
NOT_COMPARED = "not compared"
NOT_JUDGED = "not judged"
ADDED = "added"
REMOVED = "removed"
#: Findings that a headline may name, the worst first. A test that was not measured or judged is
#: worse than a pass: nothing is known about it.
_WORST_FIRST = (
    VerdictKind.ERROR.value,
    VerdictKind.INVALID.value,
    VerdictKind.REGRESSED.value,
    VerdictKind.MISSED.value,
    NOT_MEASURED,
    NOT_COMPARED,
    VerdictKind.INCONCLUSIVE.value,
    NOT_JUDGED,
    VerdictKind.WORKLOAD_CHANGED.value,
    VerdictKind.NO_BASELINE.value,
    VerdictKind.PASS.value,
    VerdictKind.IMPROVED.value,
)


def headline(session: ReportedSession) -> tuple[str, str]:
    """Return the worst finding, and the counts: ``("missed", "2 tests, 6 checks: 1 missed, ...")``.

    Metrics that are one quantity count as one check, as in the session's own summary.
    """
    kinds = Counter(kind for test in session.tests for kind in _kinds_by_quantity(test))
    unjudged = sum(test.worst is None for test in session.tests)
    # A test's own verdict may be worse than the verdicts of its checks.
    findings = {test.worst.value for test in session.tests if test.worst is not None}
    if unjudged or not session.tests:
        findings.add(NOT_JUDGED)
    if any(test.failed for test in session.unmeasured):
        findings.add(NOT_MEASURED)
    if session.compare is not None and session.compare.why_not:
        findings.add(NOT_COMPARED)
    worst = next(word for word in _WORST_FIRST if word in findings)
    others = []
    if unjudged and not session.is_record:
        others.append(f"{count(unjudged, 'test')} {NOT_JUDGED}")
    others += unmeasured_words(test.outcome for test in session.unmeasured)
    if session.removed:
        others.append(f"{count(len(session.removed), 'test')} {REMOVED}")
    return worst, counted(len(session.tests), kinds, others)


def unmeasured_words(outcomes: Iterable[str]) -> list[str]:
    """Count tests that ran and were not measured: ``["1 failed test not measured"]``.

    ``outcomes`` are pytest's: ``failed`` or ``skipped``.
    """
    numbers = Counter(outcomes)
    failed, skipped = numbers["failed"], numbers["skipped"]
    words = [f"{count(failed, 'failed test')} {NOT_MEASURED}"] if failed else []
    return [*words, f"{count(skipped, 'test')} skipped"] if skipped else words


def counted(tests: int, kinds: Mapping[VerdictKind, int], others: Sequence[str] = ()) -> str:
    """Count tests, checks and verdicts: ``3 tests, 9 checks: 1 regressed, 8 pass``."""
    total = count(tests, "test")
    if kinds:
        total += f", {count(sum(kinds.values()), 'check')}"
    verdicts = [f"{kinds[kind]} {kind.value}" for kind in VerdictKind if kinds.get(kind)]
    parts = ", ".join([*verdicts, *others])
    return f"{total}: {parts}" if parts else total


def _kinds_by_quantity(test: ShownTest) -> Iterator[VerdictKind]:
    """Yield the worst kind of verdict on each quantity of a test."""
    worst: dict[str, VerdictKind] = {}
    for check in test.checks:
        if check.verdict is not None:
            metric = known_metric(check.name)
            quantity = check.name if metric is None else metric.quantity
            before = worst.setdefault(quantity, check.verdict)
            worst[quantity] = min(before, check.verdict, key=lambda kind: kind.rank)
    yield from worst.values()
