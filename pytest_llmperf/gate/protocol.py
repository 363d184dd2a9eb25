"""What a strategy is: evidence in, one verdict out, or nothing where it does not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_llmperf.gate.verdict import Reason, Verdict, VerdictKind

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence
    from pytest_llmperf.gate.rules import Comparison


class Strategy(Protocol):
    """One way to judge a check."""

    @property
    def name(self) -> str:
        """What verdicts and reports call this strategy."""

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Judge the evidence; None where this strategy has nothing to say about it."""


def verdict_of(
    strategy: str, kind: VerdictKind, evidence: Evidence, numbers: Comparison | None, text: str
) -> Verdict:
    """Build one strategy's verdict from its kind, its numbers and its explanation."""
    return Verdict(
        kind=kind,
        check=evidence.check,
        summary=numbers.current if numbers else None,
        baseline=numbers.baseline if numbers else None,
        change=numbers.change if numbers else None,
        explanation=text,
        strategy=strategy,
        baseline_sessions=numbers.baseline_sessions if numbers else 0,
        reasons=(Reason(kind, strategy, text),),
    )
