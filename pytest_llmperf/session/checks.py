"""Selects the checks of one test: requested metrics, configured targets, metrics only shown."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llmperf.gate.check import Check
from pytest_llmperf.metrics import ALWAYS_SHOWN, DEFAULT_GATED, METRICS, Metric, get_metric

#: Default tolerance of a stall rate, absolute: an increase by a fifth of the iterations.
STALL_TOLERANCE = 0.2


def default_tolerance(metric: Metric, tolerance: float) -> float:
    """Return a metric's tolerance where none is given; ``tolerance`` is the test's own default."""
    return STALL_TOLERANCE if metric.kind == "share" else tolerance


def checks_of_test(
    asked: Mapping[str, Check], targets: Mapping[str, float], tolerance: float
) -> list[Check]:
    """Return the metrics to gate and to show, in the order to show them.

    Args:
        asked: by metric, what the test's markers ask for; without any the default metrics are
            gated.
        targets: limits of metrics that the test does not name, base units.
        tolerance: default for the largest accepted slowdown, a fraction.
    """
    gated = dict(asked)
    for name, limit in targets.items():
        metric = get_metric(name)
        own = default_tolerance(metric, tolerance)
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
