"""Proposals for the next point, derived from the points of a study."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from pytest_llmperf.metrics import get_metric
from pytest_llmperf.tune import propose
from pytest_llmperf.tune.objective import Goal, Objective
from pytest_llmperf.tune.propose import TriedSettings
from pytest_llmperf.tune.result import MetricChange, Outcome, Point
from pytest_llmperf.tune.space import Space

TODAY = {"n_threads": 8, "n_batch": 32, "flash_attn": False}
SPACE = Space(
    {"n_threads": (1, 2, 8), "n_batch": (32, 128, 512), "flash_attn": (False, True)}, TODAY, 2
)
CAUSES = [("threads_above_cores", {"n_threads": 2}), ("batch_small", {"n_batch": 512})]


def point(number: int, settings: dict[str, Any], *, took_over: bool = False, **more: Any) -> Point:
    outcome: Outcome = "measured"
    score = -0.1 * number if took_over else 0.1
    return replace(
        Point(number, 1, settings, outcome, took_over=took_over, score=score, origin="sampler"),
        **more,
    )


def changed(tried: TriedSettings, suggested: Any = CAUSES) -> list[dict[str, Any]]:
    proposals = propose.unsampled_proposals(tried, suggested)
    return [SPACE.changed(proposal.values) for proposal in proposals]


def test_all_causes_together_come_first_then_each_by_itself() -> None:
    first, second, *_ = changed(TriedSettings(SPACE, []))
    assert first == {"n_threads": 2, "n_batch": 512}
    assert second == {"n_threads": 2}


def test_what_was_tried_is_not_proposed_again() -> None:
    tried = TriedSettings(SPACE, [point(1, {"n_threads": 2, "n_batch": 512})])
    assert {"n_threads": 2, "n_batch": 512} not in changed(tried)
    assert {"n_threads": 2} in changed(tried)
    running = TriedSettings(SPACE, [], [SPACE.all_values({"n_threads": 2})])
    assert {"n_threads": 2} not in changed(running)


def test_a_point_that_had_no_time_is_proposed_again() -> None:
    tried = TriedSettings(SPACE, [point(1, {"n_threads": 2}, outcome="out of time", score=None)])
    assert {"n_threads": 2} in changed(tried)


def test_single_changes_start_from_the_best_point() -> None:
    best = {"n_threads": 2, "n_batch": 512}
    tried = TriedSettings(SPACE, [point(1, best, took_over=True)])
    assert changed(tried, []) == [
        {"n_threads": 1, "n_batch": 512},
        {"n_threads": 2, "n_batch": 128},
        {"n_threads": 2, "n_batch": 512, "flash_attn": True},
    ]


def test_a_single_change_that_brought_nothing_is_not_repeated_from_another_point() -> None:
    points = [
        point(1, {"n_threads": 2}, took_over=True),
        point(2, {"n_threads": 2, "flash_attn": True}, against=1),
        point(3, {"n_threads": 2, "n_batch": 128}, took_over=True, against=1),
    ]
    proposed = changed(TriedSettings(SPACE, points), [])
    assert {"n_threads": 2, "n_batch": 128, "flash_attn": True} not in proposed
    assert {"n_threads": 2, "n_batch": 512} in proposed


def test_the_best_point_is_the_one_with_the_lowest_score() -> None:
    points = [
        point(1, {"n_threads": 2}, took_over=True, score=-0.5),
        point(2, {"n_threads": 1}, took_over=True, score=-0.4),
        point(3, {"n_batch": 128}, score=-0.9),
    ]
    best = TriedSettings(SPACE, points).best
    assert best is not None
    assert best.number == 1


def raced(value: float) -> tuple[MetricChange, ...]:
    return (MetricChange("first_token", value, 1.0, value - 1.0, test="t"),)


def test_of_points_of_several_workers_one_that_keeps_every_limit_is_the_best() -> None:
    """Both won a race against today's configuration, at the same time."""
    points = [
        point(1, {"n_threads": 2}, took_over=True, score=-0.9, metrics=raced(0.31)),
        point(2, {"n_batch": 512}, took_over=True, score=-0.4, metrics=raced(0.29)),
    ]
    metric = get_metric("first_token")
    limit = Objective((Goal("t", metric, 0.3, metric),))
    winners = [
        TriedSettings(SPACE, points, objective=objective).best for objective in (limit, Objective())
    ]
    assert [winner.number for winner in winners if winner is not None] == [2, 1]


def test_what_took_over_from_the_best_point_is_better_than_that() -> None:
    """Its own race decides, not the scores, which are sums over several races."""
    points = [
        point(1, {"n_threads": 2}, took_over=True, score=-0.9),
        point(2, {"n_batch": 512}, took_over=True, score=-0.8, against=1),
    ]
    best = TriedSettings(SPACE, points).best
    assert best is not None
    assert best.number == 2


def test_points_in_vain_are_counted_since_the_last_improvement() -> None:
    points = [point(number, {"n_batch": 128}, took_over=number == 2) for number in range(1, 6)]
    assert TriedSettings(SPACE, points).points_since_gain(1, "sampler") == 3


def test_a_small_space_is_exhausted() -> None:
    numbers = count(1)
    points: list[Point] = []
    while (proposal := propose.any_untried(TriedSettings(SPACE, points), seed=1)) is not None:
        points.append(point(next(numbers), SPACE.changed(proposal.values)))
    # Eight threads are more than the CPUs; only today's configuration may have them.
    assert len(points) == 2 * 3 * 2
    assert next(propose.unsampled_proposals(TriedSettings(SPACE, points), CAUSES), None) is None


def test_settings_whose_answers_are_over_the_bound_are_not_tried_with_others() -> None:
    # Only measured points have a change; point 3, over max_memory, was rejected unmeasured.
    over = (MetricChange("end_to_end", 1.0, 2.0, -0.5),)
    points = [
        point(1, {"n_batch": 128, "flash_attn": True}, outcome="rejected", metrics=over),
        point(2, {"n_batch": 512, "n_threads": 1}, outcome="rejected", metrics=over),
        point(3, {"n_threads": 2}, outcome="rejected"),
    ]
    tried = TriedSettings(SPACE, points)
    rejected = tried.rejected_before({"n_threads": 2, "flash_attn": True})
    assert rejected is not None
    assert rejected.number == 1
    # Answers do not depend on n_batch and n_threads.
    assert tried.rejected_before({"n_threads": 2, "n_batch": 512}) is None
    assert not any(settings.get("flash_attn") for settings in changed(tried))
    assert not tried.is_new(SPACE.all_values({"n_threads": 2, "flash_attn": True}))
    assert tried.is_new(SPACE.all_values({"n_threads": 2, "n_batch": 512}))
    # Two settings that exceed the bound together may each keep it alone.
    both = point(1, {"flash_attn": True, "model_path": "a"}, outcome="rejected", metrics=over)
    assert TriedSettings(SPACE, [both]).rejected_before({"model_path": "a"}) is None


def test_half_way_to_a_value_that_made_no_difference_is_not_tried() -> None:
    best = point(1, {"n_threads": 2, "n_batch": 128}, took_over=True)
    even = point(2, {"n_threads": 2, "n_batch": 512}, against=1)
    slower = point(3, {"n_threads": 2, "n_batch": 32}, against=1, outcome="lost")

    def values(*points: Point) -> list[int]:
        return [
            proposal.values["n_batch"]
            for proposal in propose.neighbours(TriedSettings(SPACE, points))
        ]

    assert values(best) == [64, 256]
    assert values(best, even, slower) == [64]
    # A point that ran out of time tells nothing.
    assert values(best, replace(even, outcome="out of time")) == [64, 256]


def test_a_model_is_tried_once_with_the_best_settings() -> None:
    tried = TriedSettings(SPACE, [point(1, {"n_threads": 2}, took_over=True)])
    (proposal,) = propose.models(tried, ["other.gguf"])
    assert SPACE.changed(proposal.values) == {"n_threads": 2, "model_path": "other.gguf"}
    again = TriedSettings(SPACE, [*tried.points, point(2, SPACE.changed(proposal.values))])
    assert [*propose.models(again, ["other.gguf"])] == []
