"""Levels of points on one scale: those of today's configuration, times the changes from there."""

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
    """Return the levels of a first look, or of a race, on the log scale of ``badness``."""
    return {
        (one.test, one.metric): METRICS[one.metric].badness(one.value)
        for one in rows
        if one.value is not None and one.metric in METRICS
    }


def completed(number: int, levels: Sequence[Level], points: Sequence[Point]) -> tuple[Level, ...]:
    """Return a point's levels, with those that only a race could measure.

    A first look has neither GPU memory nor energy; the first race against the point has them.

    Args:
        number: of the point; 0 is today's configuration.
        levels: its own.
        points: of the study, in order.
    """
    found = {(one.test, one.metric): one for one in levels}
    for change in (one for point in points if point.against == number for one in point.metrics):
        if change.against is not None:
            level = Level(change.metric, change.against, change.test)
            found.setdefault((change.test, change.metric), level)
    return tuple(found.values())


def changed_levels(base: Sequence[Level], changes: Sequence[MetricChange]) -> tuple[Level, ...]:
    """Return the levels that these changes make of the base's."""
    known = {(one.test, one.metric): one.value for one in base}
    return tuple(
        Level(one.metric, _changed(known[one.test, one.metric], one.metric, one.change), one.test)
        for one in changes
        if one.change is not None and (one.test, one.metric) in known
    )


def _changed(level: float, name: str, change: float) -> float:
    metric, ratio = METRICS[name], 1.0 + change
    level = max(level, metric.resolution or 0.0)
    found = level / ratio if metric.direction is Direction.HIGHER else level * ratio
    return found if metric.largest is None else min(found, metric.largest)
