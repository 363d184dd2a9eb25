"""What a strategy is: evidence in, one verdict out, or nothing where it does not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_llmperf.gate.verdict import Proof, Reason, Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Evidence
    from pytest_llmperf.gate.numbers import Comparison


class Strategy(Protocol):
    """One way to judge a check."""

    @property
    def name(self) -> str:
        """What verdicts and reports call this strategy."""

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Judge the evidence; None where this strategy has nothing to say about it."""


def verdict_of(
    strategy: str,
    kind: VerdictKind,
    evidence: Evidence,
    numbers: Comparison | None,
    claim: str,
    *,
    facts: Sequence[str] = (),
    seen: Sequence[str] = (),
    proof: Proof | None = None,
    more_can_tell: bool = False,
) -> Verdict:
    """Build one strategy's verdict from its kind, its numbers and what explains it.

    Args:
        strategy: the strategy's name.
        kind: the verdict.
        evidence: what was judged.
        numbers: of the evidence, or None where nothing is usable.
        claim: what was found, in the fewest words.
        facts: what that rests on, one short phrase each.
        seen: what happened to all metrics of the test alike and goes into the
            explanation only: a report says it once for the test.
        proof: the numbers behind the claim.
        more_can_tell: further samples of this session could still decide it; they
            will not come once the budget or the most samples are reached.
    """
    stopped = stopped_by(evidence) if more_can_tell else ""
    text = "; ".join(part for part in (claim, ", ".join((*facts, *seen))) if part)
    return Verdict(
        kind=kind,
        check=evidence.check,
        change=numbers.change if numbers else None,
        explanation=text,
        strategy=strategy,
        claim=claim,
        facts=tuple(facts),
        proof=proof,
        open=more_can_tell and not stopped,
        stopped_by=stopped,
        reasons=(Reason(kind, strategy, claim, text, proof),),
    )


def stopped_by(evidence: Evidence) -> str:
    """Return the setting that ended the measuring; empty where more samples will come."""
    if evidence.budget_reached:
        return "the test's own budget" if evidence.own_budget else "perf.budget"
    if not evidence.exhausted:
        return ""
    return "perf.max_processes" if evidence.pairs is None else "perf.max_pairs"
