"""Suspects: the tests that their stored sessions alone don't clear, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import session_level
from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.running import zone_of
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
        why: how much slower, in words, or that the sessions are too few; empty if every test is
            confirmed.
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
            return check.metric.badness(session_level(check.metric, metric.samples))

        middle = median(map(level, self.sessions))
        return [stored for stored in reversed(self.sessions) if level(stored) <= middle]

    @property
    def fast_first(self) -> list[StoredRecord]:
        """All sessions: those of the faster half first, then the newest of the others."""
        fast = self.faster_half
        return [*fast, *(stored for stored in reversed(self.sessions) if stored not in fast)]


def find_suspects(trial: Trial, *, every: bool = False) -> tuple[list[Suspect], dict[str, str]]:
    """Return the tests that are suspect, and why other suspects can't be confirmed, by node id.

    ``every`` adds the tests that their sessions let pass.
    """
    found: list[Suspect] = []
    unfit: dict[str, str] = {}
    for test in trial.tests:
        judged = [one for one in trial.checks[test.nodeid] if one.verdict]
        compared = [one for one in judged if one.evidence.baseline and _change(one) is not None]
        asking = [one for one in compared if _suspicions(one.verdict)]
        chosen = asking or (compared if every else [])
        if not chosen:
            continue
        if broken := [one for one in judged if one.verdict and one.verdict.kind in _UNFIT]:
            # If the suspect metric itself can't be judged, its verdict says why.
            if any(one not in broken for one in chosen):
                unfit[test.nodeid] = _why_unfit(broken)
            continue
        worst = max(chosen, key=lambda one: _change(one) or 0.0)
        stored = trial.gate.stored(test, worst.check)
        strategies = {strategy for strategy, _ in _suspicions(worst.verdict)}
        by_anchor = strategies == {"anchor"}
        sessions = stored.anchor_records if by_anchor else stored.records
        crept = not by_anchor and any(
            strategy == "anchor" for one in asking for strategy, _ in _suspicions(one.verdict)
        )
        found.append(Suspect(test, why_suspect(asking, len(sessions)), sessions, worst, crept))
    return found, unfit


def why_suspect(asking: Sequence[CheckResult], sessions: int) -> str:
    """Return how much slower the checks are that ask for a confirmation by so many sessions.

    Only the amount: the verdict that replaces theirs gives the reasons. A negligible one is no
    suspicion; then the sessions are too few. Empty if no check asks.
    """
    slower = [
        f"{one.label} {change_words(one.check.metric, change)}"
        for one in asking
        if (change := _change(one) or 0.0) > slowdown(zone_of(one.check.tolerance).negligible)
    ]
    if asking and not slower:
        return f"{count(sessions, 'stored session')} can't prove a pass"
    return ", ".join(slower)


def _why_unfit(broken: Sequence[CheckResult]) -> str:
    """Return which metrics prevent a suspect from being run against a commit."""
    labels = listed([one.label for one in broken])
    verdicts = [one.verdict for one in broken if one.verdict]
    kinds = dict.fromkeys(verdict.kind.value for verdict in verdicts)
    claim = next((in_short(verdict.claim) for verdict in verdicts if verdict.claim), "")
    return f"{labels} could not be judged ({listed([*kinds])}" + (f": {claim})" if claim else ")")


def _suspicions(verdict: Verdict | None) -> list[tuple[str, str]]:
    """Return the judgements by stored sessions that make a check suspect: strategy and text."""
    return [
        (reason.strategy, reason.claim)
        for reason in (verdict.reasons if verdict else ())
        if reason.strategy in _STORED and reason.kind in _SUSPECT
    ]


def _change(one: CheckResult) -> float | None:
    return one.verdict.change if one.verdict else None
