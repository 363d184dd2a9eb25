"""Verdicts: the nine kinds in their order of precedence, and which of them fail a test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check


class VerdictKind(Enum):
    """Kind of verdict on one metric of one test; the first that applies wins."""

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
        """Position in the order of precedence; 0 wins over everything."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(VerdictKind)}

#: Kind -> its meaning, for readers.
MEANINGS = {
    VerdictKind.ERROR: (
        "it could not be measured: the engine crashed, hung, refused, or did other work"
    ),
    VerdictKind.INVALID: (
        "the machine was disturbed, or the replays did different work than the recording; the "
        "report names the check that found it. Nothing is proven"
    ),
    VerdictKind.REGRESSED: (
        "proven to be slower by more than a negligible amount, and about as much as the tolerance "
        "or more"
    ),
    VerdictKind.MISSED: "proven to be on the wrong side of its target",
    VerdictKind.INCONCLUSIVE: "neither a slowdown nor its absence is proven",
    VerdictKind.WORKLOAD_CHANGED: "the test makes other requests than the baseline measured",
    VerdictKind.NO_BASELINE: "there is nothing to compare with yet",
    VerdictKind.PASS: "proven to be slower by less than the tolerance, if at all",
    VerdictKind.IMPROVED: "faster by the tolerance or more; the stored baseline is stale",
}

#: Kinds that always fail the test. ``invalid`` is one of them because numbers of a
#: disturbed machine prove nothing, and can be measured again on a quiet one.
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
    """User options that decide which kinds of verdict fail a test.

    Attributes:
        require_baseline: a missing baseline fails too.
        accepting: this session's level is being accepted, so a regression does not fail.
        strict: ``inconclusive`` fails too, instead of passing with a warning.
    """

    require_baseline: bool = False
    accepting: bool = False
    strict: bool = False


@dataclass(frozen=True)
class Proof:
    """Numbers behind a verdict, as fractions (0.05 is 5% slower) and logarithms of odds.

    Attributes:
        effect: the slowdown.
        low, high: its interval at ``level``; None if there is none yet.
        bound: upper bound of the slowdown at ``level``; None if nothing is proven.
        log_evidence: evidence for the verdict, or for the nearer of two verdicts if undecided.
        log_threshold: the evidence needed.
        samples: number of pairs, processes or stored sessions.
        more: estimated number of further samples to decide; None if no number would.
        more_seconds: time for these samples, or None if unknown.
        level: confidence of interval and bound.
        row_size: processes (or pairs) that make one of ``samples``.
        passes_up_to: the largest measured slowdown that passes, compared with stored
            sessions; below 0 if even an unchanged test does not pass.
        calls_from: the smallest true slowdown that is called in half of all sessions.
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
    """The verdict of one strategy; the combined verdict keeps them all.

    Attributes:
        kind: the strategy's own verdict.
        strategy: its name.
        claim: its finding in a few words.
        text: its explanation in one line: the claim and the facts.
        proof: the numbers behind it, or None if there are none.
    """

    kind: VerdictKind
    strategy: str
    claim: str
    text: str
    proof: Proof | None = None


@dataclass(frozen=True)
class Verdict:
    """Combined verdict on one metric of one test.

    Attributes:
        kind: the kind of verdict.
        check: the judged check.
        change: slowdown against the baseline as a fraction, positive is worse, or None.
        explanation: one line: the claim, the facts and other observations.
        strategy: name of the strategy that decided.
        claim: the finding in a few words; an error keeps all its lines.
        facts: reasons for the claim, one short phrase each, often the same for all
            metrics of a test.
        proof: the numbers behind the explanation, or None if there are none.
        open: more samples of this session could still decide it.
        stopped_by: the setting that ended the measuring before a decision; empty if
            none did.
        notes: further findings worth a line, such as a missed target next to a
            regression.
        reasons: verdicts of all strategies, the deciding one first.
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
    """Whether a verdict fails its test, by its own kind or by one that it outranked."""
    return bool(failing_kinds(verdict, policy))


def failing_kinds(verdict: Verdict, policy: FailPolicy | None = None) -> frozenset[VerdictKind]:
    """Return the kinds that make a verdict fail: its own, and those it outranked.

    An accepted regression does not fail, but a missed target beside it does. An undecided
    target does not hide the lack of a required baseline.
    """
    kinds = {verdict.kind, *(reason.kind for reason in verdict.reasons)}
    return frozenset(kind for kind in kinds if fails(kind, policy))


def fails(kind: VerdictKind, policy: FailPolicy | None = None) -> bool:
    """Whether a verdict of this kind fails its test under ``policy`` (``FailPolicy()`` if None)."""
    policy = policy or FailPolicy()
    if kind in UNCOMPARED:
        return policy.require_baseline
    if kind is VerdictKind.INCONCLUSIVE:
        return policy.strict
    if kind is VerdictKind.REGRESSED and policy.accepting:
        return False
    return kind in FAILING
