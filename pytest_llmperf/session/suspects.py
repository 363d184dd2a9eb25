"""Suspects: the tests that their stored sessions alone don't clear, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import session_level
from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.sequential import zone_of
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import change_words, count, listed
from pytest_llmperf.text import in_short

if TYPE_CHECKING:
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.result import CheckResult
    from pytest_llmperf.session.trial import Trial

#: Verdicts by stored sessions that a comparison of the commits has to decide.
_SUSPECT = frozenset({VerdictKind.REGRESSED, VerdictKind.INCONCLUSIVE})
_STORED = frozenset({"baseline", "anchor"})
_UNFIT = frozenset({VerdictKind.ERROR, VerdictKind.INVALID})


@dataclass(frozen=True)
class Suspect:
    """A test that its stored sessions alone don't clear.

    Attributes:
        test: the test.
        why: how much slower it is, in words, or that the sessions are too few; empty if it is
            confirmed only because every test is.
        sessions: the stored sessions it was compared with, oldest first.
        worst: the check that made it suspect.
        crept: whether a check crept away from an anchor that is not among ``sessions``.
    """

    test: RecordedTest
    why: str
    sessions: tuple[StoredRecord, ...]
    worst: CheckResult
    crept: bool = False

    @property
    def faster_half(self) -> list[StoredRecord]:
        """The sessions that are at most as slow as their median, the newest first."""
        check, nodeid = self.worst.check, self.test.nodeid

        def level(stored: StoredRecord) -> float:
            metric = stored.record.tests[nodeid].metrics[check.metric.name]
            return check.metric.signed_log(session_level(check.metric, metric.samples))

        middle = median(map(level, self.sessions))
        return [stored for stored in reversed(self.sessions) if level(stored) <= middle]

    @property
    def fast_first(self) -> list[StoredRecord]:
        """All sessions: those of the faster half first, then the newest of the others."""
        fast = self.faster_half
        return [*fast, *(stored for stored in reversed(self.sessions) if stored not in fast)]


def find_suspects(
    trial: Trial, *, include_passing: bool = False
) -> tuple[list[Suspect], dict[str, str]]:
    """Return the tests that are suspect, and why other suspects can't be confirmed, by node id.

    ``include_passing``: include the tests that pass by their stored sessions.
    """
    suspects: list[Suspect] = []
    unfit: dict[str, str] = {}
    for test in trial.tests:
        judged = [row for row in trial.checks[test.nodeid] if row.verdict]
        compared = [row for row in judged if row.evidence.baseline and _change(row) is not None]
        asking = [row for row in compared if _suspecting(row.verdict)]
        chosen = asking or (compared if include_passing else [])
        if not chosen:
            continue
        if broken := [row for row in judged if row.verdict and row.verdict.kind in _UNFIT]:
            # If the suspect metric itself can't be judged, its verdict says why.
            if any(row not in broken for row in chosen):
                unfit[test.nodeid] = _why_unfit(broken)
            continue
        worst = max(chosen, key=lambda row: _change(row) or 0.0)
        stored = trial.gate.stored(test, worst.check)
        by_anchor = _suspecting(worst.verdict) == {"anchor"}
        sessions = stored.anchor_records if by_anchor else stored.records
        crept = not by_anchor and any("anchor" in _suspecting(row.verdict) for row in asking)
        suspects.append(Suspect(test, why_suspect(asking, len(sessions)), sessions, worst, crept))
    return suspects, unfit


def why_suspect(asking: Sequence[CheckResult], sessions: int) -> str:
    """Return how much slower the suspect checks are, or that so many sessions can't prove a pass.

    The latter if no check is slower by more than a negligible amount. Reasons are left to the
    verdict of the confirmation. Empty if no check is suspect.
    """
    slower = [
        f"{row.label} {change_words(row.check.metric, change)}"
        for row in asking
        if (change := _change(row) or 0.0) > slowdown(zone_of(row.check.tolerance).negligible)
    ]
    if asking and not slower:
        return f"{count(sessions, 'stored session')} can't prove a pass"
    return ", ".join(slower)


def _why_unfit(broken: Sequence[CheckResult]) -> str:
    """Return which metrics prevent a suspect from being run against a commit."""
    labels = listed([row.label for row in broken])
    verdicts = [row.verdict for row in broken if row.verdict]
    kinds = dict.fromkeys(verdict.kind.value for verdict in verdicts)
    claim = next((in_short(verdict.claim) for verdict in verdicts if verdict.claim), "")
    return f"{labels} could not be judged ({listed([*kinds])}" + (f": {claim})" if claim else ")")


def _suspecting(verdict: Verdict | None) -> set[str]:
    """Return the names of the strategies that find a test suspect by its stored sessions."""
    return {
        reason.strategy
        for reason in (verdict.reasons if verdict else ())
        if reason.strategy in _STORED and reason.kind in _SUSPECT
    }


def _change(one: CheckResult) -> float | None:
    return one.verdict.change if one.verdict else None
