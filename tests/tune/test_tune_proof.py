"""The conclusion of the final comparison: whether to use the winner, and at what cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.metrics import get_metric
from pytest_llmperf.tune.confirm import IMPROVED, NO_PROOF, SLOWER, conclude
from pytest_llmperf.tune.objective import Goal, Objective
from pytest_llmperf.tune.result import Gain, MetricChange, Target, TargetState

TEST = "test_chat.py::test_short"
FIRST, RATE = ("first_token", 0.3), ("tokens_per_sec", 60.0)


def objective(*limits: tuple[str, float | None], compared: str | None = None) -> Objective:
    goals = []
    for name, limit in limits:
        metric = get_metric(name)
        goals.append(Goal(TEST, get_metric(compared) if compared else metric, limit, metric))
    return Objective(tuple(goals))


def target(limit: tuple[str, float], before: TargetState, after: TargetState) -> Target:
    return Target(*limit, before, after, test=TEST)


def gain(metric: str, change: float, verdict: str) -> Gain:
    return Gain(
        MetricChange(metric, None, None, change, change - 0.01, change + 0.01, TEST),
        verdict == IMPROVED,
        verdict,
        objective=True,
    )


#: 400 ms and 100 tok/s become 290 ms and 70 tok/s.
FASTER, SLOWED = gain("first_token", -0.275, IMPROVED), gain("tokens_per_sec", 0.429, SLOWER)
MET, KEPT = target(FIRST, "missed", "met"), target(RATE, "met", "met")


def test_a_target_that_is_met_is_worth_speed_that_another_one_leaves_room_for() -> None:
    improved, text = conclude([FASTER, SLOWED], objective(FIRST, RATE), [MET, KEPT], 6, 0.05)
    assert improved
    assert text == (
        "improved: first token 27.5% faster [26.5% to 28.5%] in 6 fresh pairs, at a cost: "
        "tokens/s 42.9% slower [41.9% to 43.9%], still above its target of 60 tok/s"
    )


@pytest.mark.parametrize("after", ["missed", "unknown"])
def test_a_slower_metric_must_be_shown_to_keep_its_target(after: TargetState) -> None:
    lost = replace(KEPT, after=after)
    improved, text = conclude([FASTER, SLOWED], objective(FIRST, RATE), [MET, lost], 6, 0.05)
    assert not improved
    assert text.startswith(f"{NO_PROOF} of 5% or more: first token")


@pytest.mark.parametrize(("before", "after"), [("met", "met"), ("missed", "missed")])
def test_speed_is_not_given_up_for_no_further_target(
    before: TargetState, after: TargetState
) -> None:
    same = replace(MET, before=before, after=after)
    found = conclude([FASTER, SLOWED], objective(FIRST, RATE), [same, KEPT], 6, 0.05)
    assert not found[0]


def test_a_slower_metric_without_a_target_refuses_the_winner() -> None:
    goals = objective(FIRST, ("tokens_per_sec", None))
    assert not conclude([FASTER, SLOWED], goals, [MET], 6, 0.05)[0]


def test_a_target_on_stalls_leaves_no_room_for_a_slower_answer() -> None:
    stalls = ("stall_rate", 0.01)
    goals = Objective(
        (*objective(FIRST).goals, *objective(stalls, compared="end_to_end").goals),
    )
    slowed = gain("end_to_end", 0.4, SLOWER)
    found = conclude([FASTER, slowed], goals, [MET, target(stalls, "met", "met")], 6, 0.05)
    assert not found[0]


def test_every_target_of_a_slower_metric_counts_and_is_named() -> None:
    plain, tail = ("first_token", 0.3), ("first_token_p95", 0.5)
    goals = Objective(
        (*objective(RATE).goals, *objective(plain, tail, compared="first_token").goals)
    )
    gains = [gain("tokens_per_sec", -0.3, IMPROVED), gain("first_token", 0.1, SLOWER)]
    met, kept = target(RATE, "missed", "met"), target(plain, "met", "met")
    improved, text = conclude(gains, goals, [met, kept, target(tail, "met", "met")], 6, 0.05)
    assert improved
    assert text.endswith(
        "first token 10.0% slower [9.0% to 11.0%], still below its target of 300 ms and "
        "first token p95 still below its target of 500 ms"
    )
    assert not conclude(gains, goals, [met, kept, target(tail, "met", "unknown")], 6, 0.05)[0]


def test_a_kept_target_that_is_no_gain_proves_nothing() -> None:
    same = gain("first_token", -0.02, NO_PROOF)
    assert not conclude([same, SLOWED], objective(FIRST, RATE), [MET, KEPT], 6, 0.05)[0]
