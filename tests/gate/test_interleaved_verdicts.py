"""Verdicts on two sides that ran interleaved, pair by pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
from gate_evidence import GREY, QUIET, evidence, paired, quiet_differences, rows
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gate.check import Pairs
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.numbers import paired_differences
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.units import format_duration

K = VerdictKind
SLOWDOWNS = st.lists(
    st.floats(min_value=-0.5, max_value=0.5, allow_subnormal=False), min_size=3, max_size=12
)


def test_no_difference_passes() -> None:
    verdict = judge(paired(*quiet_differences(0.0)))
    assert verdict.kind is K.PASS
    assert verdict.strategy == "interleaved"


def test_slower_by_more_than_the_tolerance_is_regressed() -> None:
    verdict = judge(paired(*quiet_differences(math.log(1.06))))
    assert verdict.kind is K.REGRESSED
    assert verdict.change == pytest.approx(0.06, abs=0.001)


def test_faster_by_more_than_the_tolerance_is_improved() -> None:
    verdict = judge(paired(*quiet_differences(math.log(0.92))))
    assert verdict.kind is K.IMPROVED
    assert verdict.claim.startswith("8.0% faster ")


def test_a_negligible_slowdown_is_not_called() -> None:
    assert judge(paired(*quiet_differences(math.log(1.01), pairs=40))).kind is K.PASS


def test_a_lower_rate_is_slower() -> None:
    assert judge(paired(*quiet_differences(0.06), metric="tokens_per_sec")).kind is K.REGRESSED
    assert judge(paired(*quiet_differences(-0.09), metric="tokens_per_sec")).kind is K.IMPROVED


def test_a_grey_slowdown_with_little_evidence_is_inconclusive_and_still_open() -> None:
    verdict = judge(paired(*GREY, ended=False))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.open


def test_what_would_decide_is_said_with_its_time() -> None:
    verdict = judge(paired(*GREY, exhausted=True))
    assert verdict.proof is not None
    assert verdict.proof.more is not None
    assert verdict.proof.more > 1
    assert verdict.proof.more_seconds == verdict.proof.more * 30.0
    more = f"about {verdict.proof.more} more pairs ({format_duration(verdict.proof.more * 30.0)})"
    assert verdict.claim.endswith(f"{more} would decide")


def test_so_many_more_pairs_alike_do_decide() -> None:
    proof = judge(paired(*GREY)).proof
    assert proof is not None
    assert proof.more is not None
    whole_blocks = 1 + math.ceil(proof.more / len(GREY))
    assert judge(paired(*GREY * whole_blocks)).kind is K.PASS


def test_what_would_decide_is_no_part_of_a_verdict_while_samples_are_to_come() -> None:
    verdict = judge(paired(*GREY, ended=False))
    assert verdict.proof is not None
    # The progress line has it.
    assert verdict.proof.more is not None
    assert "more" not in verdict.explanation


@pytest.mark.parametrize(
    ("ended_by", "setting", "words"),
    [
        ({"exhausted": True}, "perf.max_pairs", "within the maximum number of pairs"),
        (
            {"budget_reached": True, "budget_seconds": 600.0},
            "perf.budget",
            "within the 10 min budget",
        ),
    ],
)
def test_what_ended_it_is_named_and_nothing_stays_open(
    ended_by: dict[str, Any], setting: str, words: str
) -> None:
    verdict = judge(paired(*GREY, **ended_by))
    assert verdict.kind is K.INCONCLUSIVE
    assert not verdict.open
    assert verdict.stopped_by == setting
    assert f"not decided {words}" in verdict.claim


def test_hopeless_noise_is_not_promised_a_decision() -> None:
    wild = tuple(0.3 * (-1) ** index for index in range(6))
    assert "even hundreds more pairs would not decide" in judge(paired(*wild)).claim


def test_fewer_pairs_than_evidence_takes_prove_nothing_however_clear() -> None:
    verdict = judge(paired(2.0, 2.0, planned_processes=1, ended=False))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.open


def test_the_interleaved_arm_decides_even_where_a_baseline_is_given() -> None:
    assert [reason.strategy for reason in judge(paired(*quiet_differences(0.0))).reasons] == [
        "interleaved"
    ]


def test_a_pass_proves_a_bound_below_the_tolerance() -> None:
    verdict = judge(paired(*quiet_differences(0.0)))
    assert verdict.proof is not None
    assert verdict.proof.bound is not None
    assert 0.0 < verdict.proof.bound < 0.05
    assert f"at most {verdict.proof.bound:.1%} slower" in verdict.claim


def test_later_noise_does_not_take_a_proven_bound_back() -> None:
    calm, wild = quiet_differences(0.0, 5), (*quiet_differences(0.0, 5), *(0.09, -0.09) * 4)
    first, later = judge(paired(*calm)), judge(paired(*wild))
    assert first.kind is later.kind is K.PASS
    assert first.proof is not None
    assert later.proof is not None
    assert later.proof.bound == first.proof.bound


def test_a_pass_that_later_pairs_contradict_is_no_pass() -> None:
    verdict = judge(paired(*quiet_differences(0.0, 6), *(0.095,) * 12, comparison_alpha=1e-9))
    assert verdict.kind is K.INCONCLUSIVE


def test_outliers_on_one_side_are_said() -> None:
    explanation = judge(paired(*QUIET, 0.9)).explanation
    assert "1 slow outlier clipped, none on the other side" in explanation


def test_outliers_on_both_sides_are_not_one_sided() -> None:
    assert "clipped" not in judge(paired(*QUIET, 0.9, -0.9)).explanation


def test_values_that_differ_the_other_way_than_their_pairs_are_explained() -> None:
    base, candidate = (1.0, 1.0, 1.5, 2.0, 2.0), (1.03, 1.03, 1.4, 2.06, 2.06)
    pairs = Pairs(rows(candidate), rows(base), "other.yaml")
    verdict = judge(evidence(samples=rows(candidate), pairs=pairs, ended=False))
    assert verdict.change is not None
    assert verdict.change > 0.005
    assert "alone suggest 6.7% faster" in verdict.explanation
    assert "alone suggest" not in judge(paired(*QUIET, 0.9)).explanation
    base, candidate = (1.0, 1.0, 1.5, 2.0, 2.0), (1.03, 1.03, 1.497, 2.06, 2.06)
    little = Pairs(rows(candidate), rows(base), "other.yaml")
    verdict = judge(evidence(samples=rows(candidate), pairs=little, ended=False))
    assert "alone suggest" not in verdict.explanation


def test_one_stalled_process_does_not_carry_the_verdict_away() -> None:
    assert judge(paired(*QUIET, 1.4)).kind is K.PASS


def test_pairs_stalls_and_invalid_pairs_are_told() -> None:
    explanation = judge(paired(*QUIET, stalls=(2, 1), void=3)).explanation
    assert "10 pairs with other.yaml" in explanation
    assert "3 stalled iterations (2 of the candidate)" in explanation
    assert "3 invalid pairs left out" in explanation


def test_a_percentile_is_counted_in_groups_of_pairs() -> None:
    verdict = judge(paired(*QUIET, metric="inter_token_p95"))
    assert "10 groups of pairs with other.yaml" in verdict.explanation


def test_a_percentile_takes_three_groups_however_many_pairs_are_planned() -> None:
    verdict = judge(paired(*QUIET[:4], metric="inter_token_p95", planned_processes=8))
    assert "at least" not in verdict.explanation
    assert verdict.strategy == "interleaved"


def test_a_percentile_of_few_groups_says_how_many_it_takes() -> None:
    few = paired(*QUIET[:4], metric="inter_token_p95", exhausted=True)
    assert judge(few).claim == (
        "4 groups of pairs measured within the maximum number of pairs, 8 are needed to judge"
    )


def test_the_same_numbers_in_both_arms_pass() -> None:
    assert judge(paired(0.0, 0.0, 0.0)).kind is K.PASS


def test_unusable_samples_are_an_error() -> None:
    broken = paired(0.0, 0.0, 0.0)
    pairs = Pairs(rows((1.0, math.nan, 1.0)), rows((1.0, 1.0, 1.0)), "other.yaml")
    verdict = judge(type(broken)(**{**vars(broken), "pairs": pairs}))
    assert verdict.kind is K.ERROR


@given(SLOWDOWNS)
def test_a_regression_is_never_a_faster_candidate(slowdowns: list[float]) -> None:
    verdict = judge(paired(*slowdowns))
    if verdict.kind is K.REGRESSED:
        assert verdict.change is not None
        assert verdict.change >= 0.04


@given(SLOWDOWNS)
def test_a_pass_is_never_beyond_the_tolerance(slowdowns: list[float]) -> None:
    verdict = judge(paired(*slowdowns))
    if verdict.kind in (K.PASS, K.IMPROVED):
        assert verdict.change is not None
        assert verdict.proof is not None
        assert verdict.proof.bound is not None
        # The evidence is read from a table that is accurate to 0.3%.
        assert verdict.change < 0.05
        assert verdict.proof.bound < 0.0505


@given(SLOWDOWNS)
def test_the_interval_holds_the_effect_and_the_bound_is_no_less(slowdowns: list[float]) -> None:
    proof = judge(paired(*slowdowns)).proof
    assert proof is not None
    assert proof.effect is not None
    assert proof.low is not None
    assert proof.high is not None
    assert proof.bound is not None
    assert proof.low <= proof.effect <= proof.high
    assert proof.bound >= proof.effect


@given(SLOWDOWNS, st.floats(min_value=1e-3, max_value=1e3))
def test_units_do_not_matter(slowdowns: list[float], factor: float) -> None:
    plain = paired(*slowdowns)
    assert plain.pairs is not None
    scaled = Pairs(
        tuple(tuple(v * factor for v in row) for row in plain.pairs.candidate),
        tuple(tuple(v * factor for v in row) for row in plain.pairs.base),
        plain.pairs.name,
    )
    other = judge(type(plain)(**{**vars(plain), "pairs": scaled, "samples": scaled.candidate}))
    assert other.change == pytest.approx(judge(plain).change, abs=1e-6)


def test_what_the_pairs_measured_in_turns_decides() -> None:
    samples = tuple((1.0, 1.0 + n / 10) for n in range(8))
    pairs = Pairs(samples, samples[::-1], "other.yaml", 30.0, (math.log(1.06),) * 8)
    verdict = judge(evidence(samples=samples, pairs=pairs))
    assert verdict.kind is K.REGRESSED
    assert verdict.change == pytest.approx(0.06)


def test_of_processes_one_after_the_other_their_medians_are_compared() -> None:
    pairs = Pairs(((2.0, 3.0),), ((1.0, 1.5, 2.0),), "other.yaml")
    (difference,) = paired_differences(evidence(samples=pairs.candidate, pairs=pairs))
    assert difference == pytest.approx(math.log(2.5 / 1.5))
