"""The Pareto front: the points that no other one beats in every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.metrics import METRICS
from pytest_llmperf.tune.race import MEMORY

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

    Of several tests a point has to be beaten in every one. Rejected points are left out.
    """
    rows = {0: _row(today)}
    # What breaks a bound is no choice.
    kept = (one for one in points if one.levels and one.outcome != "rejected")
    rows |= {one.number: _row(one.levels) for one in kept}
    shared = [key for key in rows[0] if all(key in row for row in rows.values())]
    if not shared:
        return (), ()
    names = tuple(name for name in FRONT if any(key[1] == name for key in shared))
    costs = {number: [row[key] for key in shared] for number, row in rows.items()}
    found = [
        number
        for number, cost in costs.items()
        if not any(_beats(other, cost) for other in costs.values())
    ]
    return tuple(found), names


def _row(levels: Sequence[Level]) -> Mapping[tuple[str, str], float]:
    """Return the cost of each level: smaller is better."""
    return {
        (one.test, one.metric): METRICS[one.metric].badness(one.value)
        if one.metric in METRICS
        else one.value
        for one in levels
        if one.metric in FRONT
    }


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
