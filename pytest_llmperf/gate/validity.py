"""The validity strategy: whether the evidence can be judged at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import compare
from pytest_llmperf.gate.protocol import stopped_by, verdict_of
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import count, sample_noun, within
from pytest_llmperf.stats.e_process import MIN_PAIRS

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence


class ValidityStrategy:
    """Rejects evidence that cannot be judged: an error, a disturbed machine, too few processes."""

    name = "validity"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``error``, ``invalid`` or ``inconclusive``; None if the evidence can be judged."""
        if evidence.error is not None:
            return verdict_of(self.name, VerdictKind.ERROR, evidence, None, evidence.error)
        try:
            numbers = compare(evidence)
        except ValueError as error:
            text = f"the samples can't be used: {error}"
            return verdict_of(self.name, VerdictKind.ERROR, evidence, None, text)
        if evidence.invalid:
            text = "; ".join(evidence.invalid)
            return verdict_of(self.name, VerdictKind.INVALID, evidence, numbers, text)
        measured, required = _measured(evidence), _required(evidence)
        if measured >= required:
            return None
        if evidence.samples or evidence.budget_reached or evidence.interrupted:
            return verdict_of(
                self.name,
                VerdictKind.INCONCLUSIVE,
                evidence,
                numbers,
                _too_few(evidence, measured, required),
                more_can_decide=True,
            )
        metric = evidence.check.metric
        text = f"{metric.name} has no value for this workload; it is {metric.formula}"
        return verdict_of(self.name, VerdictKind.ERROR, evidence, numbers, text)


def _measured(evidence: Evidence) -> int:
    """Count the processes, or complete pairs; for a percentile, groups of them."""
    return len(evidence.samples if evidence.pairs is None else evidence.pairs.candidate)


def _required(evidence: Evidence) -> int:
    """Return the number a verdict needs; a percentile has fewer groups than processes."""
    planned = evidence.planned_processes
    return min(planned, MIN_PAIRS) if evidence.check.metric.kind == "percentile" else planned


def _too_few(evidence: Evidence, done: int, required: int) -> str:
    """Say how many of the required samples were measured, and how to get the rest."""
    measured = f"{done} of at least {count(required, sample_noun(evidence))} measured"
    if stopped := stopped_by(evidence):
        return f"{measured} {within(evidence)}; raise {stopped}"
    if evidence.interrupted:
        return f"{measured} {within(evidence)}"
    return f"{measured}; the others ended early, run the test again"
