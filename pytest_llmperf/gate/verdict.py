"""Verdicts: the nine kinds in their order of precedence, and which of them fail a test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.stats.summary import Summary


class VerdictKind(Enum):
    """What can be said of one metric of one test; the first that applies wins."""

    ERROR = "error"
    INVALID = "invalid"
    REGRESSED = "regressed"
    MISSED = "missed"
    INCONCLUSIVE = "inconclusive"
    WORKLOAD_CHANGED = "workload changed"
    NO_BASELINE = "no baseline"
    PASS = "pass"
    IMPROVED = "improved"

    @property
    def rank(self) -> int:
        """Place in the order of precedence; 0 wins over everything."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(VerdictKind)}

#: Kinds that always fail the test. ``invalid`` and ``inconclusive`` are here because
#: a gate that lets the unknown through is no gate.
FAILING = frozenset(
    {
        VerdictKind.ERROR,
        VerdictKind.INVALID,
        VerdictKind.REGRESSED,
        VerdictKind.MISSED,
        VerdictKind.INCONCLUSIVE,
    }
)
#: Kinds that mean "nothing to compare with".
UNCOMPARED = frozenset({VerdictKind.WORKLOAD_CHANGED, VerdictKind.NO_BASELINE})


@dataclass(frozen=True)
class FailPolicy:
    """What the user asked to count as a failure beyond the kinds that always do.

    Attributes:
        require_baseline: having nothing to compare with fails too.
        accepting: this session's level is being accepted, so a regression does not fail.
    """

    require_baseline: bool = False
    accepting: bool = False


@dataclass(frozen=True)
class Reason:
    """What one strategy said; a verdict keeps them all.

    Attributes:
        kind: the strategy's own verdict.
        strategy: its name.
        text: its explanation, one line.
    """

    kind: VerdictKind
    strategy: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of one metric of one test.

    Attributes:
        kind: what it is.
        check: what was judged.
        summary: what this session measured, or None if nothing usable.
        baseline: what earlier sessions measured, or None.
        change: slowdown against the baseline as a fraction, positive is worse, or None.
        explanation: why, in one line.
        strategy: name of the strategy that decided.
        baseline_sessions: how many earlier sessions the comparison rests on.
        notes: what else is true and worth a line, such as a target missed next to a
            regression.
        reasons: what every strategy said, the deciding one first.
    """

    kind: VerdictKind
    check: Check
    summary: Summary | None
    baseline: Summary | None
    change: float | None
    explanation: str
    strategy: str
    baseline_sessions: int = 0
    notes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


def verdict_fails(verdict: Verdict, policy: FailPolicy | None = None) -> bool:
    """Whether a verdict fails its test, by its own kind or by one it won over.

    An accepted regression does not fail; a target it misses, too, does.
    """
    kinds = {verdict.kind, *(reason.kind for reason in verdict.reasons)}
    if verdict.kind in (VerdictKind.REGRESSED, VerdictKind.WORKLOAD_CHANGED):
        return any(fails(kind, policy) for kind in kinds)
    return fails(verdict.kind, policy)


def fails(kind: VerdictKind, policy: FailPolicy | None = None) -> bool:
    """Whether a verdict of this kind fails its test under ``policy`` (default: the plain one)."""
    if kind in UNCOMPARED:
        return policy is not None and policy.require_baseline
    if kind is VerdictKind.REGRESSED and policy is not None and policy.accepting:
        return False
    return kind in FAILING
