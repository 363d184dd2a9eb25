"""High percentiles from few processes, refused below a minimum sample size."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Number of values that must lie beyond a percentile: with fewer, a single stall decides it.
VALUES_BEYOND = 5


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the ``percent``-th percentile, interpolated linearly between order statistics.

    Source: Hyndman and Fan (1996), definition 7, the default of numpy and R.

    Raises:
        ValueError: there are no values, or ``percent`` is not inside (0, 100).
    """
    _share_beyond(percent)
    if not values:
        raise ValueError("no values to take a percentile of")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100.0
    below = math.floor(position)
    if below + 1 >= len(ordered):
        return ordered[-1]
    return ordered[below] + (position - below) * (ordered[below + 1] - ordered[below])


def min_values(percent: float) -> int:
    """Return the number of values a percentile needs for five beyond it: 100 for the 95th.

    Raises:
        ValueError: ``percent`` is not inside (0, 100).
    """
    return math.ceil(VALUES_BEYOND / _share_beyond(percent))


def group_size(values_per_process: int, percent: float) -> int:
    """Return the number of processes whose pooled values give one percentile.

    Raises:
        ValueError: ``values_per_process`` is below 1, or ``percent`` is not inside (0, 100).
    """
    if values_per_process < 1:
        raise ValueError(f"a process must give at least one value, got {values_per_process}")
    return -(-min_values(percent) // values_per_process)


def pooled(rows: Sequence[Sequence[float]], percent: float) -> tuple[tuple[float, ...], ...]:
    """Return the percentile of each group of processes, as rows of one value: (groups, 1).

    ``rows``: (processes, values). Consecutive processes form a group once they have
    enough values. An incomplete last group is left out, because a counted group must not
    change (evidence is a running maximum). Empty if no group is complete.

    Raises:
        ValueError: ``percent`` is not inside (0, 100).
    """
    needed = min_values(percent)
    groups: list[list[float]] = []
    waiting: list[float] = []
    for row in rows:
        waiting.extend(row)
        if len(waiting) >= needed:
            groups.append(waiting)
            waiting = []
    return tuple((percentile(group, percent),) for group in groups)


def _share_beyond(percent: float) -> Fraction:
    """Return the exact share of values beyond the percentile, on its smaller side."""
    if not 0.0 < percent < 100.0:
        raise ValueError(f"a percentile must lie inside (0, 100), got {percent}")
    share = Fraction(str(percent)) / 100
    return min(share, 1 - share)
