"""The Pareto front: the points that no other one beats in every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.metrics import METRICS
from pytest_llmperf.tune.race import MEMORY
from pytest_llmperf.tune.result import COMPARED

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import Level, Point

#: Metrics of the front, as far as points have them.
FRONT = (
    *("tokens_per_sec", "first_token", "end_to_end"),
    *("output_tokens_per_sec", "request_latency", "goodput"),
    *("gpu_memory", MEMORY, "energy_per_token"),
)


def front(
    points: Sequence[Point], today: Sequence[Level]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the numbers of the front's points, today's configuration being 0, and its metrics.

    A point is beaten only by one that has every metric that it has; of several tests, in every
    one. Points whose race was not decided, and rejected ones, are left out.
    """
    rows = {0: _row(today)}
    # What breaks a bound is no choice; of what failed only the memory may be known.
    kept = (one for one in points if one.levels and one.outcome in COMPARED)
    rows |= {one.number: _row(one.levels) for one in kept}
    found = [
        number
        for number, row in rows.items()
        if row and not any(_beats(other, row) for other in rows.values())
    ]
    known = {metric for row in rows.values() for _, metric in row}
    return tuple(found), tuple(name for name in FRONT if name in known)


#: Costs by test and metric; smaller is better.
_Row = Mapping[tuple[str, str], float]


def _row(levels: Sequence[Level]) -> _Row:
    """Return the cost of each level."""
    return {
        (one.test, one.metric): METRICS[one.metric].badness(one.value)
        if one.metric in METRICS
        else one.value
        for one in levels
        if one.metric in FRONT
    }


def _beats(one: _Row, other: _Row) -> bool:
    if not other.keys() <= one.keys():
        return False
    pairs = [(one[key], cost) for key, cost in other.items()]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
