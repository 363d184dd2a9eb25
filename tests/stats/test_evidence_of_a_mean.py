"""The t-statistic e-process: evidence that a mean is above zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from pytest_llmperf.stats.e_process import MIN_PAIRS, critical_t, direction, log_e, tabulated

# The mixture: ln delta = 0.5 + 0.6 T, T of Student's t with 3 degrees of freedom, cut off.
LOWEST, HIGHEST = -4.0, math.log(1000.0)


def weight(y: float) -> float:
    return float(scipy_stats.t.pdf((y - 0.5) / 0.6, 3) / 0.6)


samples = st.lists(
    st.floats(min_value=-1.0, max_value=1.0).filter(lambda x: x == 0.0 or abs(x) > 1e-6),
    min_size=2,
    max_size=30,
)


def u_of(n: int, t: float) -> float:
    return t / math.sqrt(t * t + n - 1)


@pytest.mark.parametrize(("n", "t", "expected"), [(5, 3.0, 1.9445), (8, 5.0, 4.7766)])
def test_golden_values(n: int, t: float, expected: float) -> None:
    assert float(log_e(n, u_of(n, t))) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("n", "t"), [(3, 2.0), (5, 3.0), (8, -1.0), (12, 0.0), (20, 4.0), (40, 2.5)]
)
def test_is_the_mixture_of_noncentral_over_central_t(n: int, t: float) -> None:
    def integrand(y: float) -> float:
        delta = math.exp(y)
        ratio = scipy_stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) / scipy_stats.t.pdf(t, n - 1)
        return float(ratio * weight(y))

    expected = sum(
        integrate.quad(integrand, low, high, epsabs=1e-12)[0]
        for low, high in ((LOWEST, -1.0), (-1.0, 0.0), (0.0, 0.7), (0.7, 1.4), (1.4, 2.1))
    )
    assert float(log_e(n, u_of(n, t))) == pytest.approx(math.log(expected), abs=1e-6)


# At u = 1 the integrand does not fall off before delta = 1000: it grows like delta^(n-3).


def test_ridge_of_five_equal_values_in_closed_form() -> None:
    def integrand(y: float) -> float:
        a = math.sqrt(5) * math.exp(y)
        j0 = math.sqrt(math.pi / 2) * (1 + math.erf(a / math.sqrt(2)))
        j4 = (a**4 + 6 * a**2 + 3) * j0 + (a**3 + 5 * a) * math.exp(-a * a / 2)
        return j4 / (2**1.5 * math.gamma(2.5)) * weight(y)

    expected = sum(
        integrate.quad(integrand, low, high, epsrel=1e-10)[0]
        for low, high in ((LOWEST, 0.0), (0.0, 3.4), (3.4, HIGHEST))
    )
    assert float(log_e(5, 1.0)) == pytest.approx(math.log(expected), abs=1e-7)


@pytest.mark.parametrize("n", [40, 400])
def test_ridge_of_many_equal_values_is_integrated_up_to_the_cut_off(n: int) -> None:
    # There M_n(a) exp(-a^2/2) is sqrt(2 pi) / C_n times the (n-1)-th moment of
    # Normal(a, 1), which Gauss-Hermite gives exactly.
    nodes, weights = np.polynomial.hermite_e.hermegauss(220)
    log_c = (n / 2 - 1) * math.log(2) + math.lgamma(n / 2)

    def log_integrand(y: float) -> float:
        a = math.sqrt(n) * math.exp(y)
        powers = np.log(np.abs(1.0 + nodes / a)) * (n - 1)
        moment = (n - 1) * math.log(a) + math.log(float(weights @ np.exp(powers)))
        return moment - log_c + math.log(weight(y))

    end = HIGHEST
    peak = log_integrand(end)
    # It falls like exp((n-1) y) below the end; what is smaller by exp(-40) is negligible.
    body, _ = integrate.quad(
        lambda y: math.exp(log_integrand(y) - peak), end - 40 / (n - 1), end, epsrel=1e-9
    )
    assert float(log_e(n, 1.0)) == pytest.approx(peak + math.log(body), abs=1e-6)


@given(samples, st.floats(min_value=1e-3, max_value=1e3))
def test_unit_of_the_data_does_not_matter(x: list[float], scale: float) -> None:
    plain = log_e(len(x), direction(x))
    scaled = log_e(len(x), direction([value * scale for value in x]))
    assert float(scaled) == pytest.approx(float(plain), abs=1e-6 * max(1.0, abs(float(plain))))


@given(samples)
def test_turning_the_data_over_turns_the_direction_over(x: list[float]) -> None:
    assert float(direction([-value for value in x])) == -float(direction(x))


@given(samples)
def test_direction_is_the_t_statistic_on_another_scale(x: list[float]) -> None:
    spread = np.std(x, ddof=1)
    if spread > 1e-3:
        t = math.sqrt(len(x)) * np.mean(x) / spread
        assert float(direction(x)) == pytest.approx(u_of(len(x), t), abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 20, 60, 400])
def test_evidence_rises_with_t(n: int) -> None:
    steps = np.diff(log_e(n, np.tanh(np.linspace(-6.0, 12.0, 200))))
    assert (steps >= 0.0).all()


@pytest.mark.parametrize("n", [3, 10, 40, 400])
def test_either_side_of_zero_joins_smoothly(n: int) -> None:
    left, middle, right = log_e(n, [-1e-6, 0.0, 1e-6])
    assert float(left - 2 * middle + right) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_two_opposite_one_sided_questions_cannot_both_have_evidence(n: int) -> None:
    u = np.linspace(-1.0, 1.0, 401)
    assert (np.minimum(log_e(n, u), log_e(n, -u)) < 0.0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_one_value_is_no_evidence(n: int) -> None:
    assert log_e(n, [-1.0, 0.3, 1.0]).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "x",
    [[0.0] * 5, [0.1] * 5, [-0.1] * 5, [1e-300] * 4, [1e300, 2e300, 1e300], [5e-324, 0.0, 0.0]],
    ids=["zero", "equal", "equal-below", "tiny", "huge", "smallest"],
)
def test_degenerate_data_give_a_number(x: list[float]) -> None:
    n = len(x)
    u = direction(x)
    assert math.isfinite(float(log_e(n, u)))
    assert math.isfinite(float(tabulated(n)(u)))


def test_nothing_but_zeros_points_nowhere() -> None:
    assert float(direction([0.0, 0.0, 0.0])) == 0.0


def test_batches_keep_their_shape() -> None:
    x = np.random.default_rng(1).normal(size=(4, 3, 6))
    whole = log_e(6, direction(x))
    assert whole.shape == (4, 3)
    assert float(whole[2, 1]) == pytest.approx(float(log_e(6, direction(x[2, 1]))), abs=1e-12)


@pytest.mark.parametrize("n", [3, 4, 10, 40, 60, 150])
def test_table_agrees_with_the_integral(n: int) -> None:
    u = np.concatenate([np.tanh(np.linspace(-6.0, 15.0, 3000)), [-1.0, 0.0, 1.0]])
    exact = log_e(n, u)
    error = np.abs(tabulated(n)(u) - exact)
    assert error[exact > -3.0].max() < 0.003
    assert np.isfinite(tabulated(n)(u)).all()


@pytest.mark.parametrize("n", [3, 5, 12, 40, 120])
@pytest.mark.parametrize("threshold", [math.log(20), math.log(100), 6.5])
def test_critical_t_is_where_the_threshold_is_reached(n: int, threshold: float) -> None:
    t = critical_t(n, threshold)
    assert float(log_e(n, u_of(n, t))) == pytest.approx(threshold, abs=1e-6)


def test_evidence_at_the_first_look_is_capped() -> None:
    assert critical_t(MIN_PAIRS, math.log(60 / 0.01)) == math.inf


def test_two_pairs_never_reach_anything() -> None:
    assert critical_t(2, 0.1) == math.inf


def test_a_threshold_below_all_evidence_is_always_reached() -> None:
    assert critical_t(5, -50.0) == -math.inf


def test_looking_after_every_value_keeps_the_false_alarm_rate() -> None:
    chance = np.random.default_rng(20260501)
    x = chance.normal(size=(6000, 40))
    largest = np.max([tabulated(n)(direction(x[:, :n])) for n in range(3, 41)], axis=0)
    crossed = np.mean(largest >= math.log(20))
    # Ville: at most 1/20. Not vacuous either: a t test at every look would cross in about 25%.
    assert 0.005 < crossed <= 0.05


@pytest.mark.parametrize("n", [3, 5, 8])
def test_evidence_is_worth_the_mixtures_mass_on_average(n: int) -> None:
    # Under no effect u is the cosine of a random direction: density (1-u^2)^((n-3)/2) / B.
    log_beta = math.lgamma(0.5) + math.lgamma((n - 1) / 2) - math.lgamma(n / 2)

    def integrand(z: float) -> float:
        log_density = -(n - 1) * math.log(math.cosh(z)) - log_beta
        return math.exp(float(log_e(n, math.tanh(z))) + log_density)

    average, _ = integrate.quad(integrand, -15.0, 17.0, points=[0.0, 7.0], limit=200)
    # The mass of the mixture between its cut-offs; never more than 1.
    kept = np.diff(scipy_stats.t.cdf((np.array([LOWEST, HIGHEST]) - 0.5) / 0.6, 3))
    assert average == pytest.approx(float(kept[0]), abs=1e-5)


@given(samples, st.floats(min_value=0.0, max_value=1.0))
def test_raising_every_value_never_lowers_the_evidence(x: list[float], shift: float) -> None:
    before = float(log_e(len(x), direction(x)))
    after = float(log_e(len(x), direction([value + shift for value in x])))
    assert after >= before - 1e-6 * max(1.0, abs(before))
