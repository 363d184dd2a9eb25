"""Levels of points on one scale: today's levels, multiplied by the measured changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.metric_types import Direction
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.tune.result import Level

if TYPE_CHECKING:
    from pytest_llmperf.tune.objective import Levels
    from pytest_llmperf.tune.result import MetricChange, Point


def log_levels(rows: Sequence[Level | MetricChange]) -> Levels:
    """Return levels from a first look or a race on the log scale of ``signed_log``."""
    return {
        (row.test, row.metric): METRICS[row.metric].signed_log(row.value)
        for row in rows
        if row.value is not None and row.metric in METRICS
    }


def completed(number: int, levels: Sequence[Level], points: Sequence[Point]) -> tuple[Level, ...]:
    """Return a point's levels, completed by those that only a race measures.

    A first look has neither GPU memory nor energy; the first race against the point adds them.

    Args:
        number: number of the point; 0 is today's configuration.
        levels: the point's own levels.
        points: points of the study, in order.
    """
    by_key = {(level.test, level.metric): level for level in levels}
    for change in (c for point in points if point.against == number for c in point.metrics):
        if change.against is not None:
            level = Level(change.metric, change.against, change.test)
            by_key.setdefault((change.test, change.metric), level)
    return tuple(by_key.values())


def changed_levels(base: Sequence[Level], changes: Sequence[MetricChange]) -> tuple[Level, ...]:
    """Return the base's levels with the changes applied."""
    known = {(level.test, level.metric): level.value for level in base}
    return tuple(
        Level(c.metric, _changed(known[c.test, c.metric], c.metric, c.change), c.test)
        for c in changes
        if c.change is not None and (c.test, c.metric) in known
    )


def _changed(level: float, name: str, change: float) -> float:
    metric, ratio = METRICS[name], 1.0 + change
    level = max(level, metric.resolution or 0.0)
    changed = level / ratio if metric.direction is Direction.HIGHER else level * ratio
    return changed if metric.largest is None else min(changed, metric.largest)
