"""Means of dependent values: neighbouring values are alike, so the unit is a block of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmperf.stats.student import t_quantile
from pytest_llmperf.stats.summary import LEVEL

#: Minimum number of blocks for an interval: fewer say too little about the spread between them.
MIN_BLOCKS = 3


@dataclass(frozen=True)
class BlockMean:
    """Mean over the values of all blocks, with its interval.

    Attributes:
        value: the mean.
        low, high: ends of its interval at confidence ``LEVEL``; None with too few blocks.
        error: standard error of the mean; None with too few blocks.
        blocks: number of blocks.
    """

    value: float
    low: float | None
    high: float | None
    error: float | None
    blocks: int


def block_mean(blocks: Sequence[Sequence[float]]) -> BlockMean:
    """Return the mean of all values, with a Student's t interval from differences between blocks.

    The mean is the ratio of the blocks' sums to their lengths; its variance is that of the
    residuals ``sum - mean * length``. Assumes that blocks are independent, that is long enough
    that values depend on each other only within a block. Source: Cochran (1977), Sampling
    Techniques, 2.11 and 9A.1.

    Raises:
        ValueError: there are no values.
    """
    sums = [math.fsum(block) for block in blocks]
    total = sum(map(len, blocks))
    if not total:
        raise ValueError("no values")
    count, value = len(blocks), math.fsum(sums) / total
    if count < MIN_BLOCKS:
        return BlockMean(value, None, None, None, count)
    residuals = [s - value * len(block) for s, block in zip(sums, blocks, strict=True)]
    variance = math.fsum(r * r for r in residuals) * count / (count - 1) / total**2
    error = math.sqrt(variance)
    half = t_quantile(0.5 + LEVEL / 2.0, count - 1) * error
    return BlockMean(value, value - half, value + half, error, count)


def cut_into_blocks(values: Sequence[float], size: int) -> list[list[float]]:
    """Cut consecutive values into blocks of ``size``; a rest below half a block joins the last."""
    count = max(1, round(len(values) / size))
    edges = [number * size for number in range(count)]
    ends = [*edges[1:], len(values)]
    return [list(values[a:b]) for a, b in zip(edges, ends, strict=True) if b > a]
