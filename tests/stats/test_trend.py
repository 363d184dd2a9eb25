"""Exact probabilities that values fall by chance."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from pytest_llmperf.stats.trend import falling_p


def test_probabilities_are_the_shares_of_permutations():
    falls = {
        order: sum(order[j] < order[i] for i in range(5) for j in range(i + 1, 5))
        for order in permutations(range(5))
    }
    for order in random.Random(1).sample([*falls], 20):
        as_steady = sum(other >= falls[order] for other in falls.values())
        assert falling_p(order) == pytest.approx(as_steady / 120)


def test_only_falling_values_are_unlikely():
    assert falling_p([5.0, 4.0, 3.0, 2.0, 1.0]) == pytest.approx(1 / 120)
    assert falling_p([1.0, 2.0, 3.0, 4.0, 5.0]) == 1.0
    assert falling_p([2.0] * 8) == 1.0
    assert falling_p([]) == falling_p([1.0]) == 1.0
