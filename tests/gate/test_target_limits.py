"""Verdicts on absolute targets: met or missed by more than processes differ."""

from __future__ import annotations

import math
from typing import Any

import pytest
from gate_evidence import QUIET, baseline, evidence
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.target import TargetStrategy
from pytest_llmperf.gate.verdict import Verdict, VerdictKind

K = VerdictKind


def by_target(*medians: float, **fields: Any) -> Verdict:
    """Return the verdict of the target strategy alone."""
    verdict = TargetStrategy().judge(evidence(*medians, **fields))
    assert verdict is not None
    return verdict


def medians_around(value: float, processes: int) -> tuple[float, ...]:
    """Return medians around a value, one per process of a quiet machine."""
    return tuple(value * math.exp(QUIET[n % len(QUIET)]) for n in range(processes))


def test_a_rate_clearly_below_its_minimum_is_missed() -> None:
    verdict = judge(evidence(*(50.0,) * 6, metric="tokens_per_sec", limit=60.0))
    assert verdict.kind is K.MISSED
    assert verdict.claim.startswith("target missed by 20%: 50.0 tok/s, must be at least 60 tok/s; ")


def test_a_wide_miss_is_told_as_a_factor() -> None:
    verdict = by_target(*(6.56,) * 6, metric="tokens_per_sec", limit=60.0)
    assert verdict.claim.startswith("target missed by a factor of 9.15: 6.56 tok/s, must be")


def test_a_time_above_its_maximum_is_missed() -> None:
    verdict = by_target(*(0.55,) * 6, metric="first_token", limit=0.5)
    assert verdict.kind is K.MISSED
    assert verdict.claim.startswith("target missed by 10%: 550 ms, must be at most 500 ms; ")


def test_a_target_clearly_met_passes() -> None:
    verdict = by_target(*medians_around(0.4, 3), limit=0.5)
    assert verdict.kind is K.PASS
    assert verdict.claim.startswith("target met: 401 ms, must be at most 500 ms; evidence ")


def test_at_the_edge_it_is_inconclusive_and_more_processes_could_tell() -> None:
    verdict = by_target(*medians_around(0.5, 4), limit=0.5, ended=False)
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.open
    assert verdict.claim.startswith("at the edge of its target: ")


def test_a_value_away_from_its_limit_is_not_at_its_edge_while_evidence_is_missing() -> None:
    assert "edge" not in by_target(0.54, 0.57, 0.55, limit=0.5, ended=False).claim
    verdict = by_target(0.7, 0.6, 0.65, limit=0.5, ended=False)
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.claim.startswith("650 ms, must be at most 500 ms, not decided; evidence ")


def test_at_the_edge_after_the_most_processes_nothing_stays_open() -> None:
    verdict = by_target(*medians_around(0.4985, 12), limit=0.5, exhausted=True, seconds=15.0)
    assert verdict.kind is K.INCONCLUSIVE
    assert not verdict.open
    assert verdict.stopped_by == "perf.max_processes"
    assert "not decided within the maximum number of processes" in verdict.claim
    assert verdict.proof is not None
    assert verdict.proof.more is not None
    assert verdict.proof.more_seconds == verdict.proof.more * 15.0


def test_exactly_the_limit_is_neither_met_nor_missed() -> None:
    assert by_target(*(0.5,) * 8, limit=0.5).kind is K.INCONCLUSIVE


def test_a_near_value_is_printed_with_enough_digits_to_see_it() -> None:
    verdict = by_target(*(0.50003,) * 6, limit=0.5)
    assert verdict.claim.startswith("target missed by 0.006%: 500.03 ms, must be at most 500 ms")


def test_two_processes_prove_no_miss_however_clear() -> None:
    verdict = by_target(9.0, 9.0, limit=0.5, planned_processes=1)
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.claim == (
        "9.00 s, must be at most 500 ms; 2 processes measured, 3 are needed to judge"
    )


def test_what_a_later_process_contradicts_is_not_met() -> None:
    assert by_target(*medians_around(0.48, 6), limit=0.5).kind is K.PASS
    late = by_target(*medians_around(0.48, 6), *(0.535,) * 5, limit=0.5)
    assert late.kind is K.INCONCLUSIVE


def test_many_checks_ask_for_more_evidence_of_a_miss() -> None:
    slow = medians_around(0.53, 5)
    assert by_target(*slow, limit=0.5, target_alpha=0.01).kind is K.MISSED
    assert by_target(*slow, limit=0.5, target_alpha=0.00001).kind is K.INCONCLUSIVE


def test_a_met_target_does_not_hide_an_improvement() -> None:
    view = baseline(*(1.0,) * 10)
    assert judge(evidence(*medians_around(0.5, 3), limit=2.0, baseline=view)).kind is K.IMPROVED


def test_regressed_and_missed_are_both_visible() -> None:
    view = baseline(*(1.0,) * 10)
    verdict = judge(evidence(*(9.0,) * 6, limit=5.0, baseline=view))
    assert verdict.kind is K.REGRESSED
    assert verdict.notes[0].startswith("also missed: target missed by 80%: 9.00 s, must be at most")
    assert [reason.kind for reason in verdict.reasons] == [K.REGRESSED, K.MISSED]


def test_improved_and_still_missed_is_missed() -> None:
    view = baseline(*(9.0,) * 10)
    verdict = judge(evidence(*(6.0,) * 6, limit=5.0, baseline=view))
    assert verdict.kind is K.MISSED
    assert verdict.notes[0].startswith("also improved: 33.3% faster ")


@given(
    st.lists(st.floats(min_value=0.1, max_value=10.0), min_size=3, max_size=12),
    st.floats(min_value=0.1, max_value=10.0),
)
def test_met_and_missed_lie_on_their_own_side_of_the_limit(
    medians: list[float], limit: float
) -> None:
    verdict = by_target(*medians, limit=limit)
    assert verdict.proof is not None
    assert verdict.proof.effect is not None
    if verdict.kind is K.PASS:
        assert verdict.proof.effect < 0
    if verdict.kind is K.MISSED:
        assert verdict.proof.effect >= 0


@given(st.lists(st.floats(min_value=0.1, max_value=10.0), min_size=3, max_size=12))
def test_a_rate_and_its_period_are_judged_alike(medians: list[float]) -> None:
    period = by_target(*medians, limit=1.0)
    rate = by_target(*(1.0 / m for m in medians), limit=1.0, metric="tokens_per_sec")
    assert period.kind is rate.kind


@pytest.mark.parametrize("metric", ["inter_token_p95", "first_token_p95"])
def test_a_percentile_has_a_target_like_any_other(metric: str) -> None:
    verdict = judge(
        evidence(*medians_around(0.04, 3), metric=metric, limit=0.02, planned_processes=9)
    )
    assert verdict.kind in (K.MISSED, K.INCONCLUSIVE)
    assert (
        "3 groups of processes"
        in by_target(*medians_around(0.04, 3), metric=metric, limit=0.02).explanation
    )


def test_a_target_is_not_judged_by_levels_that_a_neighbour_disturbed() -> None:
    disturbed = "process 1 (cc) used 1.0 of 2 cores (busy_cores)"

    missed = by_target(*medians_around(3.0, 6), limit=1.0, disturbed=disturbed)

    assert missed.kind is K.INCONCLUSIVE
    assert not missed.open
    assert missed.claim == (
        f"the target was not judged: {disturbed}; both sides took turns within it, so only their "
        "difference counts"
    )
