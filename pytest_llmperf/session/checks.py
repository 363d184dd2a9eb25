"""Selects the checks of one test: requested metrics, configured targets, metrics only shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.gate.check import Check
from pytest_llmperf.metrics import ALWAYS_SHOWN, DEFAULT_GATED, METRICS, Metric, get_metric

#: Default tolerance of a stall rate, absolute: an increase by a fifth of the iterations.
STALL_TOLERANCE = 0.2


@dataclass(frozen=True)
class AskedMetric:
    """A metric that a test's marker names.

    Attributes:
        metric: the metric.
        limit: the target in its base unit, or None.
        tolerance: largest accepted slowdown, a fraction; None takes the default.
    """

    metric: Metric
    limit: float | None = None
    tolerance: float | None = None


def checks_of_test(
    asked: Mapping[str, AskedMetric], targets: Mapping[str, float], tolerance: float
) -> list[Check]:
    """Return the metrics to gate and to show, in the order to show them.

    Args:
        asked: the test's own metrics, by name; without any the default metrics are gated.
        targets: limits of metrics that the test does not name, base units.
        tolerance: default for the largest accepted slowdown, a fraction.
    """
    gated = {
        name: Check(one.metric, one.limit, _tolerance(one, tolerance))
        for name, one in asked.items()
    }
    for name, limit in targets.items():
        metric = get_metric(name)
        own = STALL_TOLERANCE if metric.kind == "share" else tolerance
        # A workload may leave a plain metric undefined, but a percentile without enough values,
        # or a stall rate, must not silently go unjudged.
        gated.setdefault(name, Check(metric, limit, own, asked=metric.kind != "value"))
    if not asked:
        for name in DEFAULT_GATED:
            gated.setdefault(name, Check(METRICS[name], None, tolerance, asked=False))
    shown = {
        name: Check(METRICS[name], None, tolerance, gated=False, asked=False)
        for name in ALWAYS_SHOWN
        if name not in gated
    }
    every = {**gated, **shown}
    order = dict.fromkeys([*ALWAYS_SHOWN, *METRICS, *sorted(every)])
    return [every[name] for name in order if name in every]


def _tolerance(asked: AskedMetric, default: float) -> float:
    if asked.tolerance is not None:
        return asked.tolerance
    return STALL_TOLERANCE if asked.metric.kind == "share" else default
