"""Kendall's rank test for values that fall in the order of their measurement.

Source: Mann, "Nonparametric tests against trend", Econometrica 13 (1945); the exact distribution of
the number of inversions of random permutations, Kendall, "Rank Correlation Methods" (1948).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import factorial


def falling_p(values: Sequence[float]) -> float:
    """Return the probability that these values, in random order, fall at least as steadily.

    A pair of equal values counts as rising, so the test errs on the side of no trend.
    """
    falls = sum(later < earlier for earlier, later in combinations(values, 2))
    numbers = _permutations_by_inversions(len(values))
    return sum(numbers[falls:]) / factorial(len(values))


def _permutations_by_inversions(n: int) -> list[int]:
    """Return how many permutations of n values have 0, 1, 2, ... inversions."""
    numbers = [1]
    for size in range(2, n + 1):
        longer = [0] * (len(numbers) + size - 1)
        for inversions, number in enumerate(numbers):
            for more in range(size):
                longer[inversions + more] += number
        numbers = longer
    return numbers
