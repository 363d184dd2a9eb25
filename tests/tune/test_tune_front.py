"""Levels of points on one scale, and the Pareto front: the points that no other point beats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.tune.levels import changed_levels, completed
from pytest_llmperf.tune.pareto import front
from pytest_llmperf.tune.result import Level, MetricChange, Outcome, Point

TEST = "test_chat.py::test_short"


def levels(**values: float) -> tuple[Level, ...]:
    return tuple(Level(name, value, TEST) for name, value in values.items())


def point(number: int, own: tuple[Level, ...], *changes: MetricChange, against: int = 0) -> Point:
    return Point(number, 1, {}, "measured", metrics=changes, against=against, levels=own)


def change(metric: str, against: float, effect: float | None) -> MetricChange:
    return MetricChange(metric, None, against, effect, test=TEST)


def test_a_rejected_point_is_no_trade_off() -> None:
    """However fast it is, it breaks a bound, and it must not hide a point that keeps the bound."""
    rejected = replace(point(1, levels(tokens_per_sec=99.0, first_token=0.1)), outcome="rejected")
    kept = point(2, levels(tokens_per_sec=82.0, first_token=0.6))
    numbers, metrics = front([rejected, kept], levels(tokens_per_sec=80.0, first_token=0.5))
    assert numbers == (0, 2)
    assert metrics == ("tokens_per_sec", "first_token")


@pytest.mark.parametrize("outcome", ["failed", "out of time"])
def test_a_point_whose_race_was_not_decided_is_no_trade_off(outcome: Outcome) -> None:
    """Only its memory use is known, and that is the lowest."""
    undecided = replace(point(1, levels(peak_memory=1e9)), outcome=outcome)
    slower = replace(point(2, levels(tokens_per_sec=50.0, peak_memory=2e9)), outcome="lost")
    numbers, metrics = front([undecided, slower], levels(tokens_per_sec=80.0, peak_memory=3e9))
    assert numbers == (0, 2)
    assert metrics == ("tokens_per_sec", "peak_memory")


def test_a_point_that_saves_energy_is_a_trade_off() -> None:
    today = levels(tokens_per_sec=80.0, energy_per_token=4.0)
    faster = point(1, levels(tokens_per_sec=90.0, energy_per_token=5.0))
    saving = point(2, levels(tokens_per_sec=70.0, energy_per_token=3.0))
    numbers, metrics = front([faster, saving], today)
    assert numbers == (0, 1, 2)
    assert metrics == ("tokens_per_sec", "energy_per_token")


def test_a_point_without_a_metric_neither_hides_the_metric_nor_beats_one_that_has_it() -> None:
    today = levels(tokens_per_sec=80.0, energy_per_token=4.0)
    # Decided by its first look: faster than all others, but its energy use is unknown.
    looked = point(1, levels(tokens_per_sec=200.0))
    saving = point(2, levels(tokens_per_sec=70.0, energy_per_token=3.0))
    numbers, metrics = front([looked, saving], today)
    assert numbers == (0, 1, 2)
    assert metrics == ("tokens_per_sec", "energy_per_token")


def test_a_point_without_a_metric_is_beaten_by_what_it_has() -> None:
    today = levels(tokens_per_sec=80.0, energy_per_token=4.0)
    assert front([point(1, levels(tokens_per_sec=20.0))], today)[0] == (0,)


def test_what_a_first_look_can_not_measure_comes_from_the_first_race_against_it() -> None:
    looked = levels(tokens_per_sec=80.0)
    points = [
        point(1, (), change("energy_per_token", 7.0, 0.1), against=5),
        point(2, (), change("tokens_per_sec", 79.0, 0.1), change("energy_per_token", 4.0, -0.5)),
        point(3, (), change("energy_per_token", 4.4, -0.5)),
    ]
    assert completed(0, looked, points) == levels(tokens_per_sec=80.0, energy_per_token=4.0)


def test_levels_follow_the_changes_from_the_base() -> None:
    base = levels(tokens_per_sec=80.0, energy_per_token=4.0)
    changes = [
        change("tokens_per_sec", 75.0, -0.5),
        change("energy_per_token", 4.4, -0.5),
        change("first_token", 0.5, 0.1),
        change("gpu_memory", 1e9, None),
    ]
    after = changed_levels(base, changes)
    assert [(level.metric, level.value) for level in after] == [
        ("tokens_per_sec", pytest.approx(160.0)),
        ("energy_per_token", pytest.approx(2.0)),
    ]
