"""Chooses the metrics of a stored test to judge, each with its tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.check import Check
from pytest_llmperf.metrics import (
    ALWAYS_SHOWN,
    DEFAULT_GATED,
    METRICS,
    Metric,
    UnknownMetricError,
    get_metric,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class ComparisonRules:
    """Tolerance, error rate and metrics that a comparison judges by.

    Attributes:
        tolerance: slowdown that must be caught, a fraction.
        false_alarms: chance of any false ``regressed`` in the whole comparison.
        own_tolerances: a report's own tolerances count; not where the user gave one.
        metrics: names of the metrics to judge; None for those that the gate would.
        targets: metrics that the configuration has a target for, which makes them judged.
    """

    tolerance: float
    false_alarms: float
    own_tolerances: bool = True
    metrics: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()


def checks_of(
    measured: Collection[str], asked: Mapping[str, float] | None, rules: ComparisonRules
) -> list[Check]:
    """Return the checks of one test, in the order to show them.

    A record does not keep what the test's markers asked for. Judged are the metrics that
    the gate judges by itself, those with a target, and percentiles, which are only ever
    recorded for a marker.

    Args:
        measured: names of the metrics that the judged session holds.
        asked: metric -> tolerance, of the checks of a report; None for a record.
        rules: what to judge with.
    """
    known = {name: metric for name in measured if (metric := _metric(name)) is not None}
    judged = _judged(known, asked, rules)
    order = dict.fromkeys([*ALWAYS_SHOWN, *METRICS, *sorted(known)])
    checks = []
    for name in order:
        if name not in known or not (name in judged or name in ALWAYS_SHOWN):
            continue
        own = (asked or {}).get(name) if rules.own_tolerances else None
        checks.append(
            Check(
                known[name],
                None,
                rules.tolerance if own is None else own,
                gated=name in judged,
                asked=False,
            )
        )
    return checks


def _judged(
    known: Mapping[str, Metric], asked: Mapping[str, float] | None, rules: ComparisonRules
) -> set[str]:
    if rules.metrics is not None:
        return set(rules.metrics)
    if asked is not None:
        return set(asked)
    percentiles = {name for name, metric in known.items() if metric.kind == "percentile"}
    return {*DEFAULT_GATED, *rules.targets, *percentiles}


def _metric(name: str) -> Metric | None:
    """Return a metric that stored sessions can be compared on; None for any other name."""
    try:
        metric = get_metric(name)
    except UnknownMetricError:
        return None
    return None if metric.kind == "share" or not metric.compared else metric
