"""A roofline is judged by its target alone: it already compares with the machine itself."""

from __future__ import annotations

from gate_evidence import baseline, evidence

from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind

HALF = 0.5


def test_a_target_that_is_met_is_a_pass_without_any_baseline() -> None:
    verdict = judge(evidence(0.60, 0.61, 0.60, 0.61, metric="roofline", limit=HALF))
    assert (verdict.kind, verdict.strategy) == (VerdictKind.PASS, "target")


def test_a_target_that_is_missed_is_missed_on_day_one() -> None:
    verdict = judge(evidence(0.40, 0.41, 0.40, 0.41, metric="roofline", limit=HALF))
    assert (verdict.kind, verdict.strategy) == (VerdictKind.MISSED, "target")


def test_stored_sessions_say_nothing_of_it() -> None:
    stored = baseline(*[1.2] * 5)
    verdict = judge(
        evidence(0.60, 0.61, 0.60, 0.61, metric="roofline", limit=HALF, baseline=stored)
    )
    assert [reason.strategy for reason in verdict.reasons] == ["target"]
