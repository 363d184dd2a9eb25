"""The regularised incomplete beta function, in logarithms and without scipy."""

from __future__ import annotations

import math


def log_beta(a: float, b: float) -> float:
    """ln B(a, b)."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_beta_cdf(x: float, a: float, b: float) -> float:
    """ln I_x(a, b): how likely a Beta(a, b) variable is at most ``x``.

    Accurate in the far tails, where the probability itself would be 0. Source: DLMF
    8.17.22, its continued fraction by Lentz's method; it converges fast for x below
    (a+1)/(a+b+2), the rest is I_x(a, b) = 1 - I_{1-x}(b, a).

    Raises:
        ValueError: ``a`` or ``b`` is not positive.
    """
    if not (a > 0.0 and b > 0.0):
        raise ValueError(f"a beta distribution needs positive parameters, got {a} and {b}")
    if x <= 0.0:
        return -math.inf
    if x > (a + 1.0) / (a + b + 2.0):
        return math.log1p(-min(math.exp(log_beta_cdf(1.0 - x, b, a)), 1.0 - 1e-16))
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a) - log_beta(a, b)
    return min(log_front - math.log(_fraction(x, a, b)), 0.0)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction 1 + d_1/(1 + d_2/(1 + ...)) of DLMF 8.17.22."""
    # Lentz: c and 1/d are ratios of successive numerators and denominators.
    value, c, d = 1.0, 1.0, 0.0
    for term in range(1, 100_000):
        m = term // 2
        if term % 2:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + part * d)
        c = 1.0 + part / c
        value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value
