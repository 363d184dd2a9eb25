"""The result of comparing two sides of stored sessions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pytest_llmperf.gate.combine import count_kinds
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind, failing_kinds
from pytest_llmperf.gate.words import count, listed

if TYPE_CHECKING:
    from pytest_llmperf.session.result import SessionResult


class ComparisonOutcome(Enum):
    """The overall outcome of a comparison; the values are written to JSON."""

    FINE = "fine"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARED = "not compared"
    MISSED = "missed"
    REGRESSED = "regressed"


#: Exit status by outcome; 0 for the others.
_STATUS = {
    ComparisonOutcome.REGRESSED: 1,
    ComparisonOutcome.MISSED: 1,
    ComparisonOutcome.NOT_COMPARED: 2,
}


@dataclass(frozen=True)
class ComparisonResult:
    """Two sides of stored sessions, compared.

    Attributes:
        session: the candidate as a session with the base as its baseline; of the ``added``
            tests it has only those with a failing or undecided verdict in the report.
        base, candidate: names of the sides.
        base_sessions: sessions of the base that the candidate was compared with.
        unlike: how machine or model differ, one line each; nothing is judged where they do.
        added, removed: node ids of tests that only the candidate, or only the base, holds.
        failed: node ids of the base's tests whose body failed in the candidate's session, so
            that nothing was measured.
        against: the base's name for ``--llmperf-against``; None if no commit stands for it.
        strict: whether an inconclusive comparison fails.
    """

    session: SessionResult
    base: str
    candidate: str
    base_sessions: int
    unlike: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    against: str | None = None
    strict: bool = False

    @property
    def kinds(self) -> dict[VerdictKind, int]:
        """The number of checks per verdict; metrics of one quantity count as one."""
        return count_kinds(test.verdicts for test in self.session.tests)

    @property
    def outcome(self) -> ComparisonOutcome:
        """The outcome of all verdicts; ``why_not_compared`` explains a ``NOT_COMPARED``."""
        failing = {
            kind
            for test in self.session.tests
            for verdict in test.verdicts
            for kind in failing_kinds(verdict)
        }
        if VerdictKind.REGRESSED in failing:
            return ComparisonOutcome.REGRESSED
        if VerdictKind.MISSED in failing:
            return ComparisonOutcome.MISSED
        if self.why_not_compared:
            return ComparisonOutcome.NOT_COMPARED
        if VerdictKind.INCONCLUSIVE in self.kinds:
            return ComparisonOutcome.INCONCLUSIVE
        return ComparisonOutcome.FINE

    @property
    def status(self) -> int:
        """The exit status; an inconclusive comparison fails only if ``strict``."""
        if self.outcome is ComparisonOutcome.INCONCLUSIVE:
            return int(self.strict)
        return _STATUS.get(self.outcome, 0)

    @property
    def why_not_compared(self) -> str:
        """Why something that should have been compared was not, in one line; else empty."""
        if self.failed and not self.unlike:
            return f"{count(len(self.failed), 'failed test')} not measured: {listed(self.failed)}"
        if all(test.nodeid in self.added for test in self.session.tests):
            return f"{self.base} and {self.candidate} have no test in common"
        if self.unlike:
            return ""
        void = [
            test.nodeid
            for test in self.session.tests
            if any(v.kind in (VerdictKind.INVALID, VerdictKind.ERROR) for v in test.verdicts)
        ]
        if void:
            have = "has" if len(void) == 1 else "have"
            return f"{count(len(void), 'test')} {have} missing or invalid samples: {listed(void)}"
        if set(self.kinds) <= UNCOMPARED:
            kinds = listed([kind.value for kind in self.kinds]) or "nothing to judge"
            return f"no check could be compared: {kinds}"
        return ""
