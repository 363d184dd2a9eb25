"""Predictions of a new session from stored sessions, and evidence of creeping."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pytest_llmperf.stats.paired import Zone
from pytest_llmperf.stats.prediction import creep, decides_from, passes_up_to, predict, upper_tail

ZONE = Zone.of(0.05)


def test_prediction_of_three_sessions_by_hand() -> None:
    forecast = predict([0.01, 0.00, 0.02])
    # s^2 = (3 * 0.02^2 + 2 * 0.01^2) / 5 = 0.00028; se^2 = s^2 * 4/3
    assert float(forecast.centre) == pytest.approx(0.01)
    assert float(forecast.se) == pytest.approx(math.sqrt(0.00028 * 4 / 3))
    assert forecast.df == 5


def test_one_session_has_the_prior_spread_only() -> None:
    forecast = predict([0.5])
    assert float(forecast.se) == pytest.approx(0.02 * math.sqrt(2))
    assert forecast.df == 3


def test_extra_variance_of_the_new_session_is_added() -> None:
    assert float(predict([0.5], extra=0.0001).se) == pytest.approx(math.sqrt(0.0009))


def test_no_session_predicts_nothing() -> None:
    with pytest.raises(ValueError, match="no stored session"):
        predict([])


def test_bounds_are_students_t() -> None:
    forecast = predict([0.01, 0.00, 0.02])
    half = scipy_stats.t.ppf(0.95, 5) * math.sqrt(0.00028 * 4 / 3)
    assert float(forecast.upper(0.03, 0.95)) == pytest.approx(0.02 + half)
    assert float(forecast.lower(0.03, 0.95)) == pytest.approx(0.02 - half)


def test_p_value_is_students_t() -> None:
    forecast = predict([0.01, 0.00, 0.02])
    t = (0.08 - 0.01 - ZONE.negligible) / math.sqrt(0.00028 * 4 / 3)
    assert float(forecast.p_worse(0.08, ZONE.negligible)) == pytest.approx(scipy_stats.t.sf(t, 5))


def test_p_value_and_lower_bound_agree() -> None:
    forecast = predict([0.01, 0.00, 0.02])
    edge = 0.01 + ZONE.negligible + float(forecast.se) * scipy_stats.t.ppf(0.99, 5)
    assert float(forecast.lower(edge, 0.99)) == pytest.approx(ZONE.negligible)
    assert float(forecast.p_worse(edge, ZONE.negligible)) == pytest.approx(0.01)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 12, 30])
def test_upper_tail_agrees_with_scipy(df: int) -> None:
    t = np.linspace(-6.0, 12.0, 37)
    assert upper_tail(t, df) == pytest.approx(scipy_stats.t.sf(t, df), rel=1e-6, abs=1e-14)


def test_batches_of_checks() -> None:
    sessions = np.random.default_rng(1).normal(0.0, 0.01, (5, 4))
    forecast = predict(sessions)
    assert forecast.upper(np.zeros(5), 0.95).shape == (5,)
    assert float(forecast.se[3]) == pytest.approx(float(predict(sessions[3]).se))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_a_new_session_stays_inside_as_often_as_promised(count: int) -> None:
    # Machines whose spread follows the prior: variance 3 * 0.02^2 / chi^2_3.
    chance = np.random.default_rng(20260504)
    sd = np.sqrt(3 * 0.02**2 / chance.chisquare(3, (20000, 1)))
    sessions = chance.normal(0.0, 1.0, (20000, count + 1)) * sd
    inside = predict(sessions[:, :count]).upper(sessions[:, -1], 0.95) >= 0.0
    assert np.mean(inside) == pytest.approx(0.95, abs=0.006)


def test_one_session_passes_nothing_at_five_percent() -> None:
    assert float(passes_up_to(predict([0.0]), 0.05, 0.95)) < 0.0


def test_passes_up_to_is_where_the_upper_bound_meets_the_tolerance() -> None:
    forecast = predict(np.linspace(-0.01, 0.01, 10))
    measured = math.log1p(float(passes_up_to(forecast, 0.05, 0.95)))
    assert float(forecast.upper(forecast.centre + measured, 0.95)) == pytest.approx(ZONE.tolerance)


def test_decides_from_is_where_the_middle_outcome_is_called() -> None:
    three = predict([0.0, 0.01, -0.01])
    slowdown = math.log1p(float(decides_from(three, 0.05, 0.01)))
    assert float(three.p_worse(three.centre + slowdown, ZONE.negligible)) == pytest.approx(0.01)


def test_decides_from_is_never_below_the_least_that_is_called() -> None:
    forecast = predict([0.0] * 40, prior_sd=1e-4)
    assert float(decides_from(forecast, 0.05, 0.01)) == pytest.approx(0.04)


def test_more_sessions_decide_smaller_slowdowns() -> None:
    chance = np.random.default_rng(2).normal(0.0, 0.01, 10)
    reach = [float(decides_from(predict(chance[:count]), 0.05, 0.01)) for count in (1, 3, 10)]
    assert reach == sorted(reach, reverse=True)


def test_creep_by_hand() -> None:
    creeping = creep([0.00, 0.01], [0.05, 0.07, 0.06])
    # Half squared differences: 0.5e-4, and 2.5e-4 over 2 steps worth 1.6 degrees of freedom.
    variance = (3 * 0.02**2 + 0.5e-4 + 2.5e-4 * 1.6 / 2) / (3 + 1 + 1.6)
    assert float(creeping.slowdown) == pytest.approx(0.055)
    assert float(creeping.se) == pytest.approx(math.sqrt(variance * (1 / 2 + 1 / 3)))
    assert creeping.df == 5


def test_small_steps_that_add_up_are_found_against_the_anchor() -> None:
    steps = 0.012 * np.arange(12)
    creeping = creep(steps[:3], steps[-3:])
    assert float(creeping.p_worse(ZONE.negligible)) < 0.01
    assert float(creeping.lower(0.95)) > ZONE.tolerance


def test_the_step_from_anchor_to_now_is_not_noise() -> None:
    assert float(creep([0.0, 0.001], [0.5, 0.501]).se) == pytest.approx(
        float(creep([0.0, 0.001], [0.0, 0.001]).se)
    )


def test_one_session_each_uses_the_prior_spread() -> None:
    creeping = creep([0.0], [0.03])
    assert float(creeping.se) == pytest.approx(0.02 * math.sqrt(2))
    assert creeping.df == 3
    assert float(creeping.upper(0.95)) > 0.03 > float(creeping.lower(0.95))


@pytest.mark.parametrize("groups", [([], [0.0]), ([0.0], [])])
def test_creep_needs_both_groups(groups: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one anchor"):
        creep(*groups)


def test_unchanged_levels_are_called_creeping_as_rarely_as_promised() -> None:
    chance = np.random.default_rng(20260505)
    creeping = creep(chance.normal(0, 0.02, (20000, 3)), chance.normal(0, 0.02, (20000, 3)))
    assert np.mean(creeping.p_worse(0.0) <= 0.05) <= 0.055
