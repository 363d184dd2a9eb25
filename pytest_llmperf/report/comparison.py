"""A comparison of stored sessions as plain data: a session's view, and what else is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.combine import count_kinds
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind, failing_kinds
from pytest_llmperf.gate.words import count, listed
from pytest_llmperf.report.json_report import SCHEMA_VERSION, session_json

if TYPE_CHECKING:
    from pytest_llmperf.session.result import SessionResult


class Outcome(Enum):
    """What a comparison comes to; the values are what its JSON says."""

    FINE = "fine"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARED = "not compared"
    MISSED = "missed"
    REGRESSED = "regressed"


#: Exit statuses; the others are 0.
_STATUS = {Outcome.REGRESSED: 1, Outcome.MISSED: 1, Outcome.NOT_COMPARED: 2}


@dataclass(frozen=True)
class ComparisonView:
    """Two sides of stored sessions, compared.

    Attributes:
        session: the judged side as a session with the base as its baseline; of ``added`` tests
            it holds those whose report says that they failed, or were not decided.
        base, judged: what the sides are called.
        base_sessions: sessions of the base that face the judged one.
        unlike: how machine or model differ, one line each; nothing is judged where they do.
        added, removed: node ids of tests that only the judged side, or only the base, holds.
        against: what names the base to ``--llmperf-against``, or None where no commit does.
        strict: what is inconclusive fails.
    """

    session: SessionResult
    base: str
    judged: str
    base_sessions: int
    unlike: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    against: str | None = None
    strict: bool = False

    @property
    def kinds(self) -> dict[VerdictKind, int]:
        """How many checks got which verdict; metrics of one quantity count as one."""
        return count_kinds(test.verdicts for test in self.session.tests)

    @property
    def outcome(self) -> Outcome:
        """What the verdicts come to; ``why_not`` says what is not compared."""
        failing = {
            kind
            for test in self.session.tests
            for verdict in test.verdicts
            for kind in failing_kinds(verdict)
        }
        if VerdictKind.REGRESSED in failing:
            return Outcome.REGRESSED
        if VerdictKind.MISSED in failing:
            return Outcome.MISSED
        if self.why_not:
            return Outcome.NOT_COMPARED
        return Outcome.INCONCLUSIVE if VerdictKind.INCONCLUSIVE in self.kinds else Outcome.FINE

    @property
    def status(self) -> int:
        """The exit status: what is inconclusive fails only where that was asked for."""
        if self.outcome is Outcome.INCONCLUSIVE:
            return int(self.strict)
        return _STATUS.get(self.outcome, 0)

    @property
    def why_not(self) -> str:
        """Why what should have been compared was not, in one line; empty where it was."""
        if all(test.nodeid in self.added for test in self.session.tests):
            return f"{self.base} and {self.judged} have no test in common"
        if self.unlike:
            return ""
        void = [
            test.nodeid
            for test in self.session.tests
            if any(v.kind in (VerdictKind.INVALID, VerdictKind.ERROR) for v in test.verdicts)
        ]
        if void:
            return f"the samples of {count(len(void), 'test')} prove nothing: {listed(void)}"
        if set(self.kinds) <= UNCOMPARED:
            kinds = listed([kind.value for kind in self.kinds]) or "nothing to judge"
            return f"no check could be compared: {kinds}"
        return ""


def comparison_json(view: ComparisonView) -> dict[str, Any]:
    """The comparison as plain JSON: a session's report, and what its sides are.

    Beside the keys of ``--llmperf-json`` there is::

        compare     base, judged (names), base_sessions, unlike [text], added [node id],
                    removed [node id], outcome ("fine", "inconclusive", "not compared",
                    "missed" or "regressed"), why_not (text or null), strict

    What the session of a report said itself is among a metric's ``reasons``, with the strategy
    "report", and is the verdict where judging it again came to a milder one.
    """
    return {
        **session_json(view.session),
        "compare": {
            "base": view.base,
            "judged": view.judged,
            "base_sessions": view.base_sessions,
            "unlike": list(view.unlike),
            "added": list(view.added),
            "removed": list(view.removed),
            "outcome": view.outcome.value,
            "why_not": view.why_not or None,
            "strict": view.strict,
        },
    }


def refusal_json(base: str, judged: str, why: str) -> dict[str, Any]:
    """What there is instead where two arguments could not be compared at all."""
    return {
        "schema": SCHEMA_VERSION,
        "session": None,
        "counts": {},
        "tests": [],
        "compare": {
            "base": base,
            "judged": judged,
            "outcome": Outcome.NOT_COMPARED.value,
            "why_not": why,
        },
    }
