"""The rule for when a process is warm enough to be measured."""

from __future__ import annotations

from collections.abc import Sequence

#: An iteration that is faster than the previous one by this share shows ongoing warm-up.
STILL_WARMING = 0.02
MIN_WARMUP = 2


def is_warm(durations: Sequence[float], max_iterations: int) -> bool:
    """Whether warm-up iterations of these durations (seconds, in order) are enough.

    It takes at least two, until an iteration is no longer clearly faster than the
    previous one; at most ``max_iterations``.
    """
    if len(durations) >= max(max_iterations, 1):
        return True
    if len(durations) < MIN_WARMUP:
        return False
    return durations[-1] >= durations[-2] * (1.0 - STILL_WARMING)
