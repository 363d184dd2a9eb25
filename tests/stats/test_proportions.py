"""Intervals of a share, and evidence from counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from pytest_llmperf.stats.proportions import (
    binomial_interval,
    binomial_tail,
    effective_size,
    log_beta_cdf,
    log_e_sign,
    share_upper,
)


@pytest.mark.parametrize("a", [0.5, 1, 7, 51, 2000])
@pytest.mark.parametrize("b", [1, 3.5, 40, 5000])
@pytest.mark.parametrize("x", [1e-4, 0.3, 0.5, 0.9, 0.9999])
def test_incomplete_beta_agrees_with_scipy(a: float, b: float, x: float) -> None:
    expected = scipy_stats.beta.logcdf(x, a, b)
    if expected > -700.0:  # below, scipy's own logarithm is -inf
        assert log_beta_cdf(x, a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 8), (6, 8), (8, 8), (60, 80), (40, 200)])
def test_a_binomial_tail_agrees_with_scipy(k: int, n: int) -> None:
    expected = scipy_stats.binom.sf(k - 1, n, 1 / 3)
    assert binomial_tail(k, n, 1 / 3) == pytest.approx(expected, rel=1e-9)


def test_incomplete_beta_keeps_tails_too_small_for_a_float() -> None:
    # I_x(a, 1) = x^a
    assert log_beta_cdf(0.01, 500, 1) == pytest.approx(500 * math.log(0.01))


def test_incomplete_beta_at_the_ends() -> None:
    assert (log_beta_cdf(0.0, 2, 3), log_beta_cdf(1.0, 2, 3)) == (-math.inf, 0.0)


def test_incomplete_beta_refuses_parameters_that_are_not_positive() -> None:
    with pytest.raises(ValueError, match="positive parameters"):
        log_beta_cdf(0.5, 0, 1)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (20, 20), (3, 10), (37, 5000), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_binomial_interval_is_clopper_pearsons(k: int, n: int, level: float) -> None:
    expected = scipy_stats.binomtest(k, n).proportion_ci(level, method="exact")
    assert binomial_interval(k, n, level) == pytest.approx(tuple(expected), abs=1e-9)


def test_nothing_tried_tells_nothing() -> None:
    assert binomial_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        binomial_interval(k, n)
    with pytest.raises(ValueError, match="is not a share"):
        share_upper(k, n)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (8, 1), (3, 3), (0, 9), (50, 2)])
def test_sign_evidence_is_the_uniform_mixture(wins: int, losses: int) -> None:
    def integrand(theta: float) -> float:
        return float(2.0 * (2.0 * theta) ** wins * (2.0 * (1.0 - theta)) ** losses)

    expected, _ = integrate.quad(integrand, 0.5, 1.0)
    assert log_e_sign(wins, losses) == pytest.approx(math.log(expected), abs=1e-9)


def test_no_discordant_pair_is_no_evidence() -> None:
    assert log_e_sign(0, 0) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
def test_one_more_win_is_more_evidence_and_one_more_loss_less(wins: int, losses: int) -> None:
    here = log_e_sign(wins, losses)
    assert log_e_sign(wins + 1, losses) > here > log_e_sign(wins, losses + 1)


def test_sign_evidence_is_a_fair_game_when_sides_are_equal() -> None:
    # E_n = (E after a win + E after a loss) / 2 at theta = 1/2: a martingale.
    for wins, losses in ((0, 0), (4, 1), (10, 12)):
        after = (
            math.exp(log_e_sign(wins + 1, losses)) + math.exp(log_e_sign(wins, losses + 1))
        ) / 2
        assert after == pytest.approx(math.exp(log_e_sign(wins, losses)))


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        log_e_sign(-1, 2)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 60), (3, 10), (40, 50)])
def test_upper_bound_of_a_share_is_the_last_one_not_refuted(k: int, n: int) -> None:
    p = share_upper(k, n)
    mixture = math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 2)
    ratio = mixture - k * math.log(p) - (n - k) * math.log1p(-p)
    assert ratio == pytest.approx(math.log(20), abs=1e-6)
    assert p > k / n


def test_before_anything_is_seen_a_share_may_be_anything() -> None:
    assert share_upper(0, 0) == 1.0


def test_share_bound_holds_at_every_look() -> None:
    chance = np.random.default_rng(20260508)
    missed = 0
    for _ in range(300):
        seen = np.cumsum(chance.random(60) < 0.2)
        missed += any(share_upper(int(k), n, 0.8) < 0.2 for n, k in enumerate(seen, start=1))
    assert missed / 300 <= 0.2


def test_iterations_that_stall_together_count_once() -> None:
    rows = [[True] * 5, [False] * 5] * 10
    assert effective_size(rows) == pytest.approx(20, rel=0.06)


def test_iterations_that_stall_by_themselves_count_in_full() -> None:
    chance = np.random.default_rng(4)
    rows = (chance.random((400, 5)) < 0.3).tolist()
    assert effective_size(rows) == pytest.approx(2000, rel=0.15)


@given(st.lists(st.lists(st.booleans(), max_size=6), max_size=10))
def test_effective_size_is_between_one_and_the_number_of_iterations(
    rows: list[list[bool]],
) -> None:
    total = sum(len(row) for row in rows)
    assert min(total, 1) <= effective_size(rows) <= total


def test_one_process_counts_once() -> None:
    assert effective_size([[True, False, True, False]]) == 1.0


def test_outcomes_all_alike_count_in_full() -> None:
    assert effective_size([[False] * 4] * 3) == 12.0
