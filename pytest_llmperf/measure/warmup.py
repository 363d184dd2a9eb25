"""When a process is warm enough to be measured."""

from __future__ import annotations

from collections.abc import Sequence

#: An iteration that is this much faster than the one before says that it was still warming up.
STILL_WARMING = 0.02
MIN_WARMUP = 2


def is_warm(durations: Sequence[float], most: int) -> bool:
    """Whether warm-up iterations of these durations (seconds, in order) are enough.

    At least two, then as many as it takes until one is no longer clearly faster
    than the one before, at most ``most``.
    """
    if len(durations) >= max(most, 1):
        return True
    if len(durations) < MIN_WARMUP:
        return False
    return durations[-1] >= durations[-2] * (1.0 - STILL_WARMING)
