"""Verdicts on how often iterations stall, which medians don't show."""

from __future__ import annotations

from dataclasses import replace

from gate_evidence import paired, stall_evidence

from pytest_llmperf.gate.combine import judge, judge_session
from pytest_llmperf.gate.numbers import compare
from pytest_llmperf.gate.verdict import VerdictKind

K = VerdictKind
CALM = ((0.0,) * 3,) * 20
#: A fifth of the iterations stall: one of three in three processes of five.
FIFTH = (((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0,) * 3) * 4)[:20]


def test_a_fifth_of_the_iterations_stalling_more_is_regressed() -> None:
    verdict = judge(stall_evidence(FIFTH, CALM))
    assert verdict.kind is K.REGRESSED
    assert verdict.claim.startswith("20% stalled, ")


def test_a_rise_within_its_tolerance_is_not_called_however_proven() -> None:
    rare = (((1.0, 0.0, 0.0),) + ((0.0,) * 3,) * 3) * 10
    calm = ((0.0,) * 3,) * 40
    assert judge(stall_evidence(rare, calm, tolerance=0.05)).kind is K.REGRESSED
    assert judge(stall_evidence(rare, calm, tolerance=0.2)).kind is not K.REGRESSED


def test_limits_of_many_tests_share_the_rate_of_false_misses() -> None:
    rows = ((1.0, 1.0, 0.0),) * 4 + ((1.0, 0.0, 0.0),) * 6
    often = stall_evidence(rows, limit=0.15)
    others = [replace(stall_evidence(CALM, limit=0.15), nodeid=f"t.py::t{n}") for n in range(50)]
    assert judge_session([often])[0].kind is K.MISSED
    assert judge_session([often, *others])[0].kind is K.INCONCLUSIVE


def test_equal_rates_raise_no_alarm() -> None:
    assert judge(stall_evidence(FIFTH, FIFTH)).kind is not K.REGRESSED


def test_fewer_stalls_than_the_base_are_no_regression() -> None:
    assert judge(stall_evidence(CALM, FIFTH)).kind is K.PASS


def test_the_median_alone_does_not_see_what_the_stall_rate_sees() -> None:
    halves = (0.0, 0.005, -0.004, 0.002, -0.003) * 4
    assert judge(paired(*halves)).kind is K.PASS
    assert judge(stall_evidence(FIFTH, CALM)).kind is K.REGRESSED


def test_few_iterations_can_not_prove_a_low_rate() -> None:
    verdict = judge(stall_evidence(CALM[:3], CALM[:3], ended=False))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.open


def test_a_limit_that_is_proven_is_met() -> None:
    verdict = judge(stall_evidence(CALM, limit=0.15))
    assert verdict.kind is K.PASS
    assert verdict.claim.startswith("target met: 0 of 60 iterations stalled, at most ")


def test_a_limit_that_is_broken_is_missed() -> None:
    often = ((1.0, 1.0, 0.0),) * 20
    verdict = judge(stall_evidence(often, limit=0.1))
    assert verdict.kind is K.MISSED
    assert "40 of 60 iterations stalled, must be at most 10%" in verdict.claim


def test_a_limit_near_the_rate_is_inconclusive() -> None:
    verdict = judge(stall_evidence(FIFTH, limit=0.2, exhausted=True))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.stopped_by == "perf.max_processes"


def test_without_a_limit_or_a_second_arm_there_is_nothing_to_compare_with() -> None:
    verdict = judge(stall_evidence(CALM))
    assert verdict.kind is K.NO_BASELINE
    assert "--llmperf-against-config" in verdict.claim


def test_with_both_the_worse_of_limit_and_base_counts() -> None:
    assert judge(stall_evidence(FIFTH, FIFTH, limit=0.01)).kind is K.MISSED
    assert judge(stall_evidence(FIFTH, CALM, limit=0.9)).kind is K.REGRESSED


def test_processes_that_stall_as_a_whole_count_for_fewer_iterations() -> None:
    clustered = ((1.0, 1.0, 1.0),) * 4 + ((0.0,) * 3,) * 16
    spread = FIFTH
    loose, tight = (
        compare(stall_evidence(rows, limit=0.9)).current for rows in (clustered, spread)
    )
    assert loose is not None
    assert tight is not None
    assert loose.high is not None
    assert tight.high is not None
    assert loose.high > tight.high


def test_a_share_has_no_change_in_percent() -> None:
    assert judge(stall_evidence(FIFTH, CALM)).change is None
