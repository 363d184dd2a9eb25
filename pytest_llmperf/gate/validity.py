"""The validity strategy: whether there is anything fit to be judged."""

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
    """Finds what forbids a judgement: an error, an unfit machine, too few processes."""

    name = "validity"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """``error``, ``invalid`` or ``inconclusive``; None where the evidence can be judged."""
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
        measured, fewest = _measured(evidence), _fewest(evidence)
        if measured >= fewest:
            return None
        if evidence.samples or evidence.budget_reached:
            return verdict_of(
                self.name,
                VerdictKind.INCONCLUSIVE,
                evidence,
                numbers,
                _too_few(evidence, measured, fewest),
                more_can_tell=True,
            )
        metric = evidence.check.metric
        text = f"{metric.name} has no value for this workload; it is {metric.formula}"
        return verdict_of(self.name, VerdictKind.ERROR, evidence, numbers, text)


def _measured(evidence: Evidence) -> int:
    """Return how many processes, or complete pairs, there are; of a percentile, groups of them."""
    return len(evidence.samples if evidence.pairs is None else evidence.pairs.candidate)


def _fewest(evidence: Evidence) -> int:
    """Return how many a verdict takes; a percentile has fewer groups than there are processes."""
    planned = evidence.planned_processes
    return min(planned, MIN_PAIRS) if evidence.check.metric.kind == "percentile" else planned


def _too_few(evidence: Evidence, done: int, fewest: int) -> str:
    """Say how many of the fewest samples were measured, and what would measure the rest."""
    measured = f"{done} of at least {count(fewest, sample_noun(evidence))} measured"
    if stopped := stopped_by(evidence):
        return f"{measured} {within(evidence)}; raise {stopped}"
    return f"{measured}; the others ended early, run the test again"
