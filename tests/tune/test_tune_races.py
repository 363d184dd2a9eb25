"""When a race is decided, and the objective that decides it."""

from __future__ import annotations

import math

import pytest

from pytest_llmperf.metrics import get_metric
from pytest_llmperf.tune.objective import BEYOND, Goal, Objective
from pytest_llmperf.tune.race import verdict_after_last_pair, verdict_of_pairs

WHOLE = get_metric("end_to_end")
FIRST = get_metric("first_token")


@pytest.mark.parametrize(
    ("differences", "known"),
    [
        ((), None),
        ((0.05,), None),
        ((0.2,), "worse"),
        ((-0.2,), "better"),
        ((0.06, 0.05), "worse"),
        ((0.06, 0.01), None),
        ((0.06, -0.06), None),
        ((0.005, -0.004), "even"),
        ((0.018, 0.012), None),
        ((-0.03, -0.025, -0.028), "better"),
        ((0.03, -0.004, -0.02), None),
    ],
)
def test_a_race_ends_as_soon_as_one_side_is_ahead(
    differences: tuple[float, ...], known: str | None
) -> None:
    assert verdict_of_pairs(differences, WHOLE, in_turns=True) == known


def test_processes_that_follow_one_another_need_more() -> None:
    assert verdict_of_pairs((0.2,), WHOLE, in_turns=False) is None
    assert verdict_of_pairs((0.5,), WHOLE, in_turns=False) == "worse"
    assert verdict_of_pairs((0.005, -0.004), WHOLE, in_turns=False) is None


def test_after_the_last_pair_all_must_agree_on_a_better_point() -> None:
    assert verdict_after_last_pair((-0.02, -0.03, -0.005, -0.01)) == "better"
    assert verdict_after_last_pair((-0.02, -0.03, 0.005, -0.01)) is None
    assert verdict_after_last_pair((0.002, -0.003, 0.001, -0.001)) is None
    assert verdict_after_last_pair((0.02, 0.03, -0.005, 0.01)) == "worse"


def goal(metric: str, limit: float | None) -> Goal:
    return Goal("t", get_metric(metric), limit, get_metric(metric))


def between(objective: Objective, base: dict[str, float], **now: float) -> float:
    logs = {
        (("t", name)): get_metric(name).signed_log(value) for name, value in {**base, **now}.items()
    }
    before = {("t", name): get_metric(name).signed_log(value) for name, value in base.items()}
    difference = objective.between(logs, before)
    assert difference is not None
    return difference


def test_without_limits_it_is_the_change_itself() -> None:
    objective = Objective((goal("end_to_end", None),))
    assert between(objective, {"end_to_end": 2.0}, end_to_end=1.0) == pytest.approx(-math.log(2))


def test_a_missed_limit_counts_more_than_one_that_is_kept() -> None:
    objective = Objective((goal("end_to_end", 1.0), goal("first_token", 1.0)))
    base = {"end_to_end": 2.0, "first_token": 0.5}
    missed = between(objective, base, end_to_end=1.8)
    kept = between(objective, base, first_token=0.45)
    assert missed < kept < 0
    assert kept / missed == pytest.approx(BEYOND)


def test_a_limit_that_would_be_missed_counts_as_one() -> None:
    objective = Objective((goal("end_to_end", 1.0), goal("first_token", 1.0)))
    # End to end gains 10%, but first token ends 30% over its limit.
    assert (
        between(
            objective, {"end_to_end": 2.0, "first_token": 0.99}, end_to_end=1.8, first_token=1.3
        )
        > 0
    )


def test_what_keeps_every_limit_is_better_than_what_gains_more_and_misses_one() -> None:
    objective = Objective((goal("end_to_end", 1.0), goal("first_token", 1.0)))
    kept = {"end_to_end": 0.98, "first_token": 0.98}
    # First token is 5% over its limit, but end to end is ten times as fast.
    missed = {"end_to_end": 0.1, "first_token": 1.05}
    assert between(objective, kept, **missed) > 0
    assert between(objective, missed, **kept) < 0


def test_where_every_limit_is_kept_the_change_counts_whole() -> None:
    objective = Objective((goal("end_to_end", 10.0),))
    assert between(objective, {"end_to_end": 2.0}, end_to_end=1.0) == pytest.approx(-math.log(2))
