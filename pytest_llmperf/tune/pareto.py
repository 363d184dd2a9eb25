"""The Pareto front: the points that no other point beats in every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.metrics import METRICS
from pytest_llmperf.tune.race import MEMORY
from pytest_llmperf.tune.result import COMPARED

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import Level, Point

#: Metrics of the front, if a point has them.
FRONT = (
    *("tokens_per_sec", "first_token", "end_to_end"),
    *("output_tokens_per_sec", "request_latency", "goodput"),
    *("gpu_memory", MEMORY, "energy_per_token"),
)


def front(
    points: Sequence[Point], today: Sequence[Level]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the numbers of the front's points (0: today's configuration), and its metrics.

    A point is beaten only by a point that has all its metrics, for every test, and is no worse
    in any of them. Points that were rejected, or whose race was not decided, are left out.
    """
    rows = {0: _row(today)}
    # A rejected point can't be chosen, and a failed point may have no level but its memory.
    kept = (point for point in points if point.levels and point.outcome in COMPARED)
    rows |= {point.number: _row(point.levels) for point in kept}
    numbers = [
        number
        for number, row in rows.items()
        if row and not any(_beats(other, row) for other in rows.values())
    ]
    measured = {metric for row in rows.values() for _, metric in row}
    return tuple(numbers), tuple(name for name in FRONT if name in measured)


#: Costs by test and metric; smaller is better.
_Row = Mapping[tuple[str, str], float]


def _row(levels: Sequence[Level]) -> _Row:
    """Return the cost of each level."""
    return {
        (level.test, level.metric): METRICS[level.metric].signed_log(level.value)
        if level.metric in METRICS
        else level.value
        for level in levels
        if level.metric in FRONT
    }


def _beats(one: _Row, other: _Row) -> bool:
    if not other.keys() <= one.keys():
        return False
    pairs = [(one[key], cost) for key, cost in other.items()]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
