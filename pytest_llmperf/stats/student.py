"""Quantiles of Student's t distribution for integer degrees of freedom, without scipy."""

from __future__ import annotations

import math
from functools import lru_cache


def t_cdf(t: float, df: int) -> float:
    """Return the probability that a t variable with ``df`` degrees of freedom is at most ``t``.

    Source: Abramowitz and Stegun 26.7.3 and 26.7.4, the finite sums for integer ``df``.

    Raises:
        ValueError: ``df`` is below 1.
    """
    if df < 1:
        raise ValueError(f"degrees of freedom must be at least 1, got {df}")
    theta = math.atan(t / math.sqrt(df))
    cosine, sine = math.cos(theta), math.sin(theta)
    term = cosine if df % 2 else 1.0
    total = 0.0
    # Odd df: cos + 2/3 cos^3 + ...; even df: 1 + 1/2 cos^2 + ...
    for k in range(3, df + 1, 2) if df % 2 else range(2, df + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    central = sine * total
    if df % 2:
        central = 2.0 / math.pi * (theta + central)
    return 0.5 + 0.5 * central


@lru_cache(maxsize=256)
def t_quantile(probability: float, df: int) -> float:
    """Return the ``t`` with ``t_cdf(t, df) == probability``, by bisection to the last digits.

    Raises:
        ValueError: ``probability`` is not inside (0, 1), or ``df`` is below 1.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must lie inside (0, 1), got {probability}")
    if probability < 0.5:
        return -t_quantile(1.0 - probability, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < probability:
        low, high = high, high * 2.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if t_cdf(middle, df) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
