"""Statistics of paired measurements: a robust centre and an interval that assumes no shape.

Standard library only, so that it runs in any environment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import NormalDist, median

#: Fewer pairs cannot reject anything at 95%: 2 * 0.5**6 is the first value below 0.05.
MIN_PAIRS = 6


@dataclass(frozen=True)
class Interval:
    """A centre and its 95% interval."""

    centre: float
    low: float
    high: float


def signed_rank_interval(differences: Sequence[float]) -> Interval:
    """Return the Hodges-Lehmann centre and the Wilcoxon signed-rank 95% interval.

    Args:
        differences: one per pair, at least MIN_PAIRS; independent, and symmetric
            about their centre (log ratios of like measurements are).

    Raises:
        ValueError: too few pairs.

    Source: Hollander, Wolfe and Chicken, Nonparametric Statistical Methods,
    sections 3.2 and 3.3, large-sample form.
    """
    n = len(differences)
    if n < MIN_PAIRS:
        raise ValueError(f"{n} pairs are too few for a 95% interval, at least {MIN_PAIRS} needed")
    walsh = sorted((a + b) / 2 for a, b in combinations_with_replacement(differences, 2))
    z = NormalDist().inv_cdf(0.975)
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    rank = max(0, math.floor(n * (n + 1) / 4 - z * spread))
    return Interval(median(walsh), walsh[rank], walsh[-1 - rank])


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Return the ratio of paired positive values with its 95% interval, worked out on logarithms.

    Raises:
        ValueError: too few pairs.
    """
    pairs = zip(numerators, denominators, strict=True)
    logs = signed_rank_interval([math.log(a / b) for a, b in pairs])
    return Interval(math.exp(logs.centre), math.exp(logs.low), math.exp(logs.high))


def spread_of(values: Sequence[float]) -> float:
    """Return the relative robust spread: 1.4826 * MAD / median, 0.01 = 1%."""
    centre = median(values)
    return 1.4826 * median(abs(v - centre) for v in values) / centre
