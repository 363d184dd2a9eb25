"""The protocol of judging strategies, and the construction of their verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_llmperf.gate.rules import LOG_PASS, log_alarm, slowdown
from pytest_llmperf.gate.sequential import first_look, more_needed
from pytest_llmperf.gate.verdict import Proof, Reason, Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Evidence
    from pytest_llmperf.gate.numbers import Comparison
    from pytest_llmperf.gate.sequential import SequentialEvidence


class Strategy(Protocol):
    """A way to judge a check: evidence in, a verdict out, or None if it does not apply."""

    @property
    def name(self) -> str:
        """Name of this strategy in verdicts and reports."""

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Judge the evidence; None if this strategy does not apply."""


def verdict_of(
    strategy: str,
    kind: VerdictKind,
    evidence: Evidence,
    numbers: Comparison | None,
    claim: str,
    *,
    facts: Sequence[str] = (),
    sample_facts: Sequence[str] = (),
    proof: Proof | None = None,
    more_can_decide: bool = False,
) -> Verdict:
    """Build one strategy's verdict from its kind, numbers and explanation.

    Args:
        strategy: the strategy's name.
        kind: the verdict.
        evidence: the judged evidence.
        numbers: numbers of the evidence, or None if its samples are unusable.
        claim: the finding in a few words.
        facts: the reasons for it, one short phrase each.
        sample_facts: facts about the whole test; only the explanation has them, because a
            report shows them once per test.
        proof: the numbers behind the claim.
        more_can_decide: more samples could still decide it; none will come once the budget
            or the maximum number of samples is reached.
    """
    stopped = stopped_by(evidence) if more_can_decide else ""
    text = "; ".join(part for part in (claim, ", ".join((*facts, *sample_facts))) if part)
    return Verdict(
        kind=kind,
        check=evidence.check,
        change=numbers.change if numbers else None,
        explanation=text,
        strategy=strategy,
        claim=claim,
        facts=tuple(facts),
        proof=proof,
        open=more_can_decide and not stopped,
        stopped_by=stopped,
        reasons=(Reason(kind, strategy, claim, text, proof),),
    )


def proof_so_far(
    state: SequentialEvidence,
    evidence: Evidence,
    *,
    tolerance: float,
    share: float,
    worse: bool,
    undecided: bool,
    seconds: float | None,
) -> Proof:
    """Build the proof of a verdict by sequential sampling.

    Args:
        state: the state after all samples so far.
        evidence: the judged evidence.
        tolerance: the tolerance; 0 for a limit.
        share: share of the false-alarm rate.
        worse: show the evidence of a slowdown or a miss; else that it is fine.
        undecided: estimate how many more samples would decide.
        seconds: time for one more sample, or None if unknown.
    """
    more = None
    if undecided:
        more = more_needed(state, tolerance, share, first_look(evidence.check.metric))
    known = state.look is not None
    return Proof(
        effect=slowdown(state.effect) if state.n else None,
        low=slowdown(state.low) if known else None,
        high=slowdown(state.high) if known else None,
        bound=slowdown(state.bound) if known else None,
        log_evidence=state.log_worse if worse else state.log_fine,
        log_threshold=log_alarm(share) if worse else LOG_PASS,
        samples=state.n,
        row_size=evidence.row_size,
        more=more,
        more_seconds=more * seconds if more is not None and seconds else None,
    )


def stopped_by(evidence: Evidence) -> str:
    """Return the setting that ended the measuring; empty while more samples will come."""
    if evidence.budget_reached:
        return "the test's own budget" if evidence.own_budget else "perf.budget"
    if not evidence.exhausted:
        return ""
    return "perf.max_processes" if evidence.pairs is None else "perf.max_pairs"
