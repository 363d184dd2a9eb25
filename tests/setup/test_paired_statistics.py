from __future__ import annotations

import random

import pytest
from paired import MIN_PAIRS, ratio_interval, signed_rank_interval, spread_of


def test_interval_agrees_with_the_textbook_example():
    # Hollander, Wolfe, Chicken, table 3.1 (depression scores): estimate 0.46,
    # interval [0.010, 0.786].
    differences = [0.952, -0.147, 1.022, 0.430, 0.620, 0.590, 0.490, -0.080, 0.010]
    interval = signed_rank_interval(differences)
    assert interval.centre == pytest.approx(0.46)
    assert (interval.low, interval.high) == pytest.approx((0.010, 0.786))


def test_interval_covers_the_true_centre_as_often_as_it_says():
    draw = random.Random(5)
    covered = 0
    for _ in range(400):
        interval = signed_rank_interval([draw.gauss(1.0, 0.2) for _ in range(20)])
        covered += interval.low <= 1.0 <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_one_wild_pair_does_not_move_the_ratio():
    steady = [100.0 + i % 3 for i in range(20)]
    disturbed = [*steady[:-1], 25.0]
    assert ratio_interval(disturbed, steady).centre == pytest.approx(1.0)


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="5 pairs are too few"):
        signed_rank_interval([0.1] * (MIN_PAIRS - 1))


def test_spread_is_relative_and_robust():
    assert spread_of([99.0, 100.0, 101.0, 400.0, 100.0]) == pytest.approx(0.014826)
