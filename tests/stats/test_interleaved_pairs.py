"""The rule on interleaved pairs: clipping, looks, decisions, bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.stats.e_process import critical_t, direction, log_e
from pytest_llmperf.stats.paired import (
    TAIL_CLIP_MIN,
    Look,
    Zone,
    bounds,
    clip,
    clip_floor,
    clipped_sides,
    look,
    may_be_called,
    min_pairs_to_call,
    pairs_needed,
    upper_bound,
)

ZONE = Zone.of(0.05)
differences = st.lists(st.floats(min_value=-2.0, max_value=2.0), min_size=3, max_size=20)


def test_zone_of_a_five_percent_tolerance() -> None:
    ends = (ZONE.negligible, ZONE.tolerance, ZONE.min_called)
    assert ends == pytest.approx((math.log(1.01), math.log(1.05), math.log(1.04)))


def test_the_least_clipping_distance_is_that_of_a_smaller_tolerance() -> None:
    floors = [clip_floor(tolerance) for tolerance in (0.0, 0.02, 0.05, 0.2)]
    assert floors == pytest.approx([0.05, math.log(1.02), math.log(1.05), 0.05])


@pytest.mark.parametrize("bad", [0.0, -0.05, math.nan, math.inf])
def test_a_tolerance_that_is_not_a_positive_fraction_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="fraction above 0"):
        Zone.of(bad)


def test_an_outlier_is_pulled_to_the_least_reach_where_the_others_agree() -> None:
    assert clip([0.01, 0.01, 0.01, 0.01, 0.9]).tolist() == pytest.approx([0.01] * 4 + [0.06])


def test_reach_grows_with_the_spread_of_the_others() -> None:
    d = [-0.2, -0.1, 0.0, 0.1, 5.0]
    assert clip(d)[-1] == pytest.approx(0.0 + (1.5 + 40 / 5) * 1.4826 * 0.1)


def test_median_of_an_even_number_is_the_middle_of_two() -> None:
    # The MAD is 0.0: half of 0.0 and 0.0, between the second and the third distance.
    assert clip([0.0, 0.0, 0.002, 9.0])[-1] == pytest.approx(0.001 + 0.05)


def test_many_pairs_are_clipped_closer_than_few() -> None:
    reach = {}
    for copies in (1, 4, 40):
        d = [-0.2, -0.1, 0.0, 0.1, 9.0] * copies
        reach[copies] = float(np.max(clip(d)))
    assert reach[1] == pytest.approx(9.5 * 1.4826 * 0.1)
    assert reach[4] == pytest.approx(3.5 * 1.4826 * 0.1)
    assert reach[40] == pytest.approx(2.5 * 1.4826 * 0.1)


def test_a_minority_is_left_in_where_it_is_what_matters() -> None:
    d = [0.0] * 8 + [0.4] * 2
    assert float(np.max(clip(d))) == pytest.approx(0.05)
    assert float(np.max(clip(d, TAIL_CLIP_MIN))) == 0.4
    assert clipped_sides(d) == (0, 2)
    assert clipped_sides(d, TAIL_CLIP_MIN) == (0, 0)
    assert look(d, ZONE, TAIL_CLIP_MIN).mean == pytest.approx(0.08)


def test_no_more_than_a_quarter_is_clipped() -> None:
    # Processes at one of two speeds: the contradicting pairs are no outliers.
    d = [1.8, -1.8, 1.8, -1.8, 1.8]
    assert sum(clipped_sides(d)) <= 1
    assert float(np.min(clip(d))) < -1.5


def test_what_is_called_takes_pairs_that_agree() -> None:
    agreeing, split = [0.06, 0.05, 0.07, 0.055, 0.065, 0.06], [0.2, -0.01, 0.21, -0.02, 0.2, 0.2]
    assert may_be_called(look(agreeing, ZONE), ZONE)
    assert not may_be_called(look(split, ZONE), ZONE)


def test_five_pairs_can_not_agree_enough() -> None:
    assert min_pairs_to_call() == 6
    assert not may_be_called(look([0.06] * 5, ZONE), ZONE)
    assert may_be_called(look([0.06] * 6, ZONE), ZONE)


def test_pairs_that_differ_by_next_to_nothing_neither_agree_nor_disagree() -> None:
    assert float(look([0.4] * 6 + [0.001] * 6, ZONE).agreement_p) == pytest.approx(1 / 64)
    assert float(look([0.4] * 6 + [-0.02], ZONE).agreement_p) == pytest.approx(8 / 128)


def test_two_speeds_at_no_change_are_hardly_ever_called() -> None:
    rng = np.random.default_rng(11)
    count, last = 600, 30
    state = 0.2 * (rng.random((2, count, last)) < 0.5) + rng.normal(0, 0.007, (2, count, last))
    d = state[0] - state[1]
    called = np.zeros(count, dtype=bool)
    largest = np.zeros(count)
    for n in range(3, last + 1):
        seen = look(d[:, :n], ZONE)
        largest = np.maximum(largest, seen.log_e_worse)
        called |= (largest >= math.log(100)) & may_be_called(seen, ZONE)
    assert called.mean() <= 0.02


def test_ordinary_noise_is_left_alone() -> None:
    d = np.random.default_rng(3).normal(0.0, 0.01, 20)
    assert clip(d).tolist() == d.tolist()


@given(differences)
def test_clipping_again_changes_nothing(d: list[float]) -> None:
    once = clip(d)
    # Clipped values stay the outermost, so median and MAD do not change.
    assert np.max(np.abs(clip(once) - once)) <= 1e-12


def test_clipping_works_along_the_last_axis_of_a_batch() -> None:
    d = np.random.default_rng(4).standard_cauchy((3, 2, 9))
    assert clip(d)[1, 1].tolist() == clip(d[1, 1]).tolist()


def test_sides_of_clipping_are_counted() -> None:
    quiet = [0.0] * 10
    assert clipped_sides([*quiet, -3.0, 2.0, 5.0]) == (1, 2)


def test_a_look_weighs_the_clipped_differences_against_both_boundaries() -> None:
    d = np.array([0.06, 0.055, 0.058, 0.9, 0.053, 0.061])
    seen = look(d, ZONE)
    clipped = clip(d)
    assert float(seen.mean) == pytest.approx(clipped.mean())
    assert float(seen.sd) == pytest.approx(clipped.std(ddof=1))
    worse = float(log_e(6, direction(clipped - math.log(1.01))))
    fine = float(log_e(6, direction(math.log(1.05) - clipped)))
    assert float(seen.log_e_worse) == pytest.approx(worse, abs=0.003)
    assert float(seen.log_e_fine) == pytest.approx(fine, abs=0.003)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_pairs_are_no_evidence(n: int) -> None:
    seen = look([0.5] * n, ZONE)
    assert (seen.n, float(seen.log_e_worse), float(seen.log_e_fine)) == (n, 0.0, 0.0)


def test_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        look([], ZONE)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_difference_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        look([0.0, bad, 0.0], ZONE)


@given(differences)
def test_slower_and_faster_mirror_each_other(d: list[float]) -> None:
    # Seen from the other side, differences to theta0 become differences to theta1.
    seen = look(d, ZONE)
    mirrored = [ZONE.negligible + ZONE.tolerance - value for value in d]
    other = look(mirrored, ZONE)
    assert float(other.log_e_fine) == pytest.approx(float(seen.log_e_worse), abs=1e-5)


@given(differences)
def test_no_look_holds_nan(d: list[float]) -> None:
    seen = look(d, ZONE)
    assert all(
        math.isfinite(float(x)) for x in (seen.mean, seen.sd, seen.log_e_worse, seen.log_e_fine)
    )


@pytest.mark.parametrize("value", [0.0, ZONE.negligible, ZONE.tolerance, 1e-12, 700.0])
def test_equal_differences_are_looked_at_without_nan(value: float) -> None:
    seen = look([value] * 6, ZONE)
    assert math.isfinite(float(seen.log_e_worse))
    assert math.isfinite(float(seen.log_e_fine))


def test_interval_ends_are_the_means_just_not_refuted() -> None:
    d = np.random.default_rng(6).normal(0.02, 0.02, 10)
    seen = look(d, ZONE)
    low, high = bounds(seen, 0.95)
    threshold = math.log(2 / 0.05)
    assert float(log_e(10, direction(d - low))) == pytest.approx(threshold, abs=1e-6)
    assert float(log_e(10, direction(high - d))) == pytest.approx(threshold, abs=1e-6)


def test_pass_and_bound_agree() -> None:
    chance = np.random.default_rng(9)
    seen = look(chance.normal(0.02, 0.03, (500, 8)), ZONE)
    passes = seen.log_e_fine >= math.log(20)
    under = upper_bound(seen, 0.95) <= ZONE.tolerance
    # The two differ only where the table's error of 0.003 decides.
    assert np.mean(passes == under) > 0.995
    assert 0 < passes.sum() < 500


@pytest.mark.parametrize("d", [[0.0, 0.01], [0.0, 0.0]])
def test_two_pairs_bound_nothing(d: list[float]) -> None:
    low, high = bounds(look(d, ZONE), 0.95)
    assert (float(low), float(high)) == (-math.inf, math.inf)


def test_without_spread_the_bounds_are_the_mean() -> None:
    seen = look([0.03125] * 5, ZONE)
    assert [float(end) for end in bounds(seen, 0.95)] == [0.03125, 0.03125]


def test_bounds_cover_the_mean_wherever_one_stops() -> None:
    chance = np.random.default_rng(10)
    d = chance.normal(0.02, 0.02, (3000, 25))
    missed = np.zeros(3000, dtype=bool)
    for n in range(3, 26):
        low, high = bounds(look(d[:, :n], ZONE), 0.90)
        missed |= (low > 0.02) | (high < 0.02)
    assert 0.01 < missed.mean() <= 0.10


@pytest.mark.parametrize("mean", [0.0, 0.02])
def test_pairs_needed_to_pass_is_the_first_number_that_would(mean: float) -> None:
    seen = Look(
        6, np.asarray(mean), np.asarray(0.05), np.asarray(0.0), np.asarray(0.0), np.asarray(0.0)
    )
    threshold = math.log(20)
    needed = pairs_needed(seen, ZONE.tolerance, threshold, above=False)
    assert needed is not None
    assert needed > 6

    def t(n: int) -> float:
        return math.sqrt(n) * (ZONE.tolerance - mean) / 0.05

    assert t(needed) >= critical_t(needed, threshold)
    assert t(needed - 1) < critical_t(needed - 1, threshold)


def test_pairs_needed_to_alarm_are_more_at_a_harder_threshold() -> None:
    seen = look(np.random.default_rng(11).normal(0.05, 0.04, 8), ZONE)
    easy = pairs_needed(seen, ZONE.negligible, math.log(100))
    hard = pairs_needed(seen, ZONE.negligible, math.log(6000))
    assert easy is not None
    assert hard is not None
    assert 8 <= easy < hard


def test_pairs_needed_never_falls_below_the_pairs_there_are() -> None:
    seen = look(np.full(9, 0.2) + np.linspace(-0.01, 0.01, 9), ZONE)
    assert pairs_needed(seen, ZONE.negligible, math.log(100)) == 9


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_no_number_of_pairs_shows_what_the_mean_denies(spread: float) -> None:
    seen = look(np.linspace(-spread, spread, 9), ZONE)
    assert pairs_needed(seen, ZONE.negligible, math.log(100)) is None


def test_pairs_needed_gives_up_at_the_maximum() -> None:
    seen = Look(
        6, np.asarray(0.02), np.asarray(0.03), np.asarray(0.0), np.asarray(0.0), np.asarray(0.0)
    )
    needed = pairs_needed(seen, ZONE.negligible, math.log(100))
    assert needed is not None
    assert needed > 100
    assert pairs_needed(seen, ZONE.negligible, math.log(100), max_pairs=100) is None


def test_pairs_needed_without_spread() -> None:
    assert pairs_needed(look([0.1] * 3, ZONE), ZONE.negligible, math.log(6000)) == 4


def _false_alarms(d: np.ndarray) -> float:
    largest = np.full(len(d), -np.inf)
    for n in range(3, d.shape[1] + 1):
        seen = look(d[:, :n], ZONE)
        largest = np.maximum(largest, seen.log_e_worse)
    return float(np.mean(largest >= math.log(20)))


def test_clipping_keeps_the_false_alarm_rate_under_gaussian_noise() -> None:
    d = np.random.default_rng(12).normal(ZONE.negligible, 0.02, (4000, 30))
    assert _false_alarms(d) <= 0.05


def test_stalls_on_both_sides_keep_the_false_alarm_rate() -> None:
    chance = np.random.default_rng(13)
    stalls = chance.exponential(0.5, (4000, 30)) * chance.choice(
        [-1.0, 0.0, 1.0], (4000, 30), p=[0.05, 0.9, 0.05]
    )
    d = chance.normal(ZONE.negligible, 0.02, (4000, 30)) + stalls
    assert _false_alarms(d) <= 0.05
