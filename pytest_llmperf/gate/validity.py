"""The validity strategy: whether there is anything fit to be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import compare, is_decidable
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import count, span

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
        if is_decidable(evidence) and evidence.samples:
            return None
        if evidence.samples or evidence.budget_reached:
            text = _too_few(evidence)
            return verdict_of(self.name, VerdictKind.INCONCLUSIVE, evidence, numbers, text)
        metric = evidence.check.metric
        text = f"{metric.name} has no value for this workload; it is {metric.formula}"
        return verdict_of(self.name, VerdictKind.ERROR, evidence, numbers, text)


def _too_few(evidence: Evidence) -> str:
    """Say how many of the planned processes were measured, and what would measure the rest."""
    planned = count(evidence.planned_processes, "process")
    measured = f"{len(evidence.samples)} of {planned} measured"
    if not evidence.budget_reached:
        return f"{measured}; the others ended early, run the test again"
    budget = "time budget" if evidence.budget_s is None else f"{span(evidence.budget_s)} budget"
    return f"{measured} within the {budget}; raise perf.budget"
