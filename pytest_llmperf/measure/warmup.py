"""The rule for when a process is warm enough to be measured."""

from __future__ import annotations

from collections.abc import Sequence

#: An iteration this much faster than the one before shows that warming up went on.
STILL_WARMING = 0.02
MIN_WARMUP = 2


def is_warm(durations: Sequence[float], max_iterations: int) -> bool:
    """Whether warm-up iterations of these durations (seconds, in order) are enough.

    At least two, then as many as it takes until one is no longer clearly faster
    than the one before, at most ``max_iterations``.
    """
    if len(durations) >= max(max_iterations, 1):
        return True
    if len(durations) < MIN_WARMUP:
        return False
    return durations[-1] >= durations[-2] * (1.0 - STILL_WARMING)
