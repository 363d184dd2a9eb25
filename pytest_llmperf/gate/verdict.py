"""Verdicts: the nine kinds in their order of precedence, and which of them fail a test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check


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

#: Kinds that always fail the test. ``invalid`` is here because numbers of a machine
#: that was not fit prove nothing, and can be had again on a quiet one.
FAILING = frozenset(
    {
        VerdictKind.ERROR,
        VerdictKind.INVALID,
        VerdictKind.REGRESSED,
        VerdictKind.MISSED,
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
        strict: ``inconclusive`` fails too, instead of passing with a warning.
    """

    require_baseline: bool = False
    accepting: bool = False
    strict: bool = False


@dataclass(frozen=True)
class Proof:
    """What a verdict rests on, as fractions (0.05 is 5% slower) and logarithms of odds.

    Attributes:
        effect: the slowdown.
        low, high: its interval at ``level``; None where there is none yet.
        bound: the slowdown is at most this, at ``level``; None where nothing is proven.
        log_evidence: for the verdict reached, or for the nearer of the two.
        log_threshold: what that evidence has to reach.
        samples: pairs, or processes, or stored sessions the evidence comes from.
        more: how many more of them would decide, as things stand; None if none would.
        more_seconds: how long those take, or None where unknown.
        level: confidence of interval and bound.
        row_size: processes (or pairs) that make one of ``samples``.
        passes_up_to: of a comparison with stored sessions, the largest measured slowdown
            that passes; below 0 where even no change does not.
        calls_from: and the smallest true one that is called in half of all sessions.
    """

    effect: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    log_evidence: float | None = None
    log_threshold: float | None = None
    samples: int = 0
    more: int | None = None
    more_seconds: float | None = None
    level: float = 0.95
    row_size: int = 1
    passes_up_to: float | None = None
    calls_from: float | None = None


@dataclass(frozen=True)
class Reason:
    """What one strategy said; a verdict keeps them all.

    Attributes:
        kind: the strategy's own verdict.
        strategy: its name.
        claim: what it found, in the fewest words.
        text: its explanation, one line: the claim, and what that rests on.
        proof: the numbers behind it, or None where there are none.
    """

    kind: VerdictKind
    strategy: str
    claim: str
    text: str
    proof: Proof | None = None


@dataclass(frozen=True)
class Verdict:
    """The judgement of one metric of one test.

    Attributes:
        kind: what it is.
        check: what was judged.
        change: slowdown against the baseline as a fraction, positive is worse, or None.
        explanation: why, in one line: the claim, the facts and what else was seen.
        strategy: name of the strategy that decided.
        claim: what was found, in the fewest words; an error keeps all its lines.
        facts: what the claim rests on, one short phrase each, often the same for
            all metrics of a test.
        proof: the numbers behind the explanation, or None where there are none.
        open: more samples of this session could still decide it.
        stopped_by: the setting that ended the measuring of what is not decided; empty
            where none did.
        notes: what else is true and worth a line, such as a target missed next to a
            regression.
        reasons: what every strategy said, the deciding one first.
    """

    kind: VerdictKind
    check: Check
    change: float | None
    explanation: str
    strategy: str
    claim: str = ""
    facts: tuple[str, ...] = ()
    proof: Proof | None = None
    open: bool = False
    stopped_by: str = ""
    notes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


def verdict_fails(verdict: Verdict, policy: FailPolicy | None = None) -> bool:
    """Whether a verdict fails its test, by its own kind or by one it won over."""
    return bool(failing_kinds(verdict, policy))


def failing_kinds(verdict: Verdict, policy: FailPolicy | None = None) -> frozenset[VerdictKind]:
    """Which kinds make a verdict fail: its own, and those of the reasons it won over.

    An accepted regression does not fail; a target it misses, too, does. Nor does an
    undecided target hide that the baseline is missing where one is required.
    """
    kinds = {verdict.kind, *(reason.kind for reason in verdict.reasons)}
    return frozenset(kind for kind in kinds if fails(kind, policy))


def fails(kind: VerdictKind, policy: FailPolicy | None = None) -> bool:
    """Whether a verdict of this kind fails its test under ``policy`` (default: the plain one)."""
    policy = policy or FailPolicy()
    if kind in UNCOMPARED:
        return policy.require_baseline
    if kind is VerdictKind.INCONCLUSIVE:
        return policy.strict
    if kind is VerdictKind.REGRESSED and policy.accepting:
        return False
    return kind in FAILING
