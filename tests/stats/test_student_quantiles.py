"""Quantiles of Student's t without scipy."""

from __future__ import annotations

import pytest

from pytest_llmperf.stats.student import t_cdf, t_quantile

# Two-sided 95% quantiles as printed in tables (Abramowitz and Stegun, table 26.10).
TABLE = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    9: 2.262,
    10: 2.228,
    29: 2.045,
    30: 2.042,
    120: 1.980,
}


@pytest.mark.parametrize(("df", "expected"), TABLE.items())
def test_quantile_agrees_with_printed_tables(df: int, expected: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("df", [1, 2, 7, 30])
def test_quantile_inverts_the_distribution(df: int) -> None:
    assert t_cdf(t_quantile(0.9, df), df) == pytest.approx(0.9, abs=1e-12)


def test_quantiles_are_symmetric() -> None:
    assert t_quantile(0.025, 5) == -t_quantile(0.975, 5)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, float("nan")])
def test_probability_outside_the_open_interval_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="inside"):
        t_quantile(probability, 3)


def test_no_degrees_of_freedom_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0.9, 0)
