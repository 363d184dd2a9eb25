"""Means of dependent values and their intervals."""

from __future__ import annotations

import math
import random

import pytest

from pytest_llmperf.stats.blocks import block_mean, cut_into_blocks


def test_equal_blocks_give_students_interval() -> None:
    found = block_mean([[1.0, 3.0], [2.0, 4.0], [4.0, 4.0]])
    assert found.value == 3.0
    # Block means 2, 3 and 4: standard deviation 1, t of 2 degrees of freedom 4.3027.
    assert found.error == pytest.approx(1 / math.sqrt(3))
    assert found.high == pytest.approx(3.0 + 4.30265 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(3.0 - 4.30265 / math.sqrt(3), rel=1e-5)


def test_two_blocks_have_no_interval() -> None:
    found = block_mean([[1.0], [2.0, 3.0]])
    assert (found.value, found.low, found.high, found.error) == (2.0, None, None, None)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        block_mean([[]])


@pytest.mark.parametrize("length", [0, 1, 5, 8, 9, 11, 12, 13, 16, 20, 21, 31, 100])
def test_blocks_hold_all_values_and_no_short_rest(length: int) -> None:
    values = [float(number) for number in range(length)]
    blocks = cut_into_blocks(values, 8)
    assert [value for block in blocks for value in block] == values
    assert all(len(block) == 8 for block in blocks[:-1])
    assert len(blocks) < 2 or 4 <= len(blocks[-1]) <= 12


def test_dependent_values_are_covered_by_blocks() -> None:
    """Skewed values whose neighbours resemble each other, as divergences do."""
    source, inside = random.Random(1), 0
    for _ in range(300):
        level, values = 0.0, []
        for _ in range(1024):
            level = 0.7 * level + source.gauss(0, math.sqrt(1 - 0.49))
            values.append(math.exp(1.2 * level))
        found = block_mean(cut_into_blocks(values, 32))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= math.exp(0.72) <= found.high
    # 95% at best; the tail of such values, and dependence across edges, cost a little.
    assert inside / 300 > 0.87
