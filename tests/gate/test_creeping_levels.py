"""Slowdowns that each stay within the tolerance but add up to more."""

from __future__ import annotations

from itertools import pairwise

from gate_evidence import baseline, evidence, paired, quiet_differences

from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind

K = VerdictKind
#: Every session is 1.2% slower than the one before.
STEPS = tuple(1.012**n for n in range(3, 13))
NOW = 1.012**13
ANCHOR = (1.0, 1.002, 0.998)


def test_the_sum_of_small_steps_is_regressed_and_named() -> None:
    verdict = judge(evidence(NOW, NOW, NOW, baseline=baseline(*STEPS, anchor=ANCHOR)))
    assert verdict.kind is K.REGRESSED
    assert verdict.strategy == "anchor"
    assert verdict.claim.startswith("creeping, step by step, away from the anchor: 15.")
    assert "anchor 1, anchor 2 and anchor 3" in verdict.explanation


def test_the_window_alone_does_not_see_it() -> None:
    verdict = judge(evidence(NOW, NOW, NOW, baseline=baseline(*STEPS)))
    assert verdict.kind is not K.REGRESSED


def test_each_step_alone_is_within_the_tolerance() -> None:
    for before, after in pairwise(STEPS):
        assert after / before < 1.05


def test_a_level_that_stays_at_the_anchor_passes() -> None:
    view = baseline(*(1.0, 1.002, 0.998) * 3, anchor=ANCHOR)
    assert judge(evidence(1.0, 1.0, 1.0, baseline=view)).kind is K.PASS


def test_a_creep_within_the_tolerance_is_not_called() -> None:
    # Proven to be more than negligible, but within the tolerance of the test.
    view = baseline(*(1.2,) * 10, anchor=ANCHOR)
    verdict = judge(evidence(1.2, 1.2, 1.2, baseline=view, tolerance=0.3))
    assert verdict.kind is K.PASS


def test_a_sudden_slowdown_is_called_by_the_window_first() -> None:
    view = baseline(*(1.0,) * 10, anchor=ANCHOR)
    verdict = judge(evidence(1.3, 1.3, 1.3, baseline=view))
    assert verdict.strategy == "baseline"


def test_a_window_that_is_the_anchor_has_not_moved_on() -> None:
    view = baseline(1.0, 1.0, 1.0, anchor=(0.5, 0.5, 0.5))
    same = type(view)(**{**vars(view), "anchor_sources": view.sources})
    assert judge(evidence(1.0, 1.0, 1.0, baseline=same)).strategy == "baseline"


def test_interleaved_arms_have_no_anchor() -> None:
    view = baseline(*STEPS, anchor=(0.1, 0.1, 0.1))
    verdict = judge(paired(*quiet_differences(0.0), baseline=view))
    assert [reason.strategy for reason in verdict.reasons] == ["interleaved"]
