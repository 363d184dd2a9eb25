"""Objective of a search: the metrics of the targets, or the workload's default metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.measure.samples import BASE
from pytest_llmperf.metrics import get_metric, percentile_parts

if TYPE_CHECKING:
    from pytest_llmperf.measure.samples import TestSamples
    from pytest_llmperf.metrics import Metric
    from pytest_llmperf.session.recorded import RecordedTest

#: Weight of a gain on a limit that is already kept, relative to one on a missed limit.
BEYOND = 0.1
_WHOLE = "end_to_end"
#: Default metric by arrivals of a load; how much a closed load sends depends on the engine.
_UNDER_LOAD = {"closed": "output_tokens_per_sec"}
_LATENCY = "request_latency"
#: Metrics that only a load defines.
_ONLY_UNDER_LOAD = (
    _LATENCY,
    "output_tokens_per_sec",
    "requests_per_sec",
    "goodput",
    "error_rate",
)


@dataclass(frozen=True)
class Goal:
    """One metric of one test that the search improves.

    Attributes:
        test: node id.
        metric: that is compared.
        limit: the target in base units; None: no limit, any improvement counts.
        target_metric: the metric of the target, such as a percentile of the compared metric.
    """

    test: str
    metric: Metric
    limit: float | None
    target_metric: Metric

    @property
    def limits_metric(self) -> bool:
        """Whether the limit is in the compared metric's unit: on that metric or its percentile."""
        return self.target_metric.unit is self.metric.unit

    def cost(self, log_level: float) -> float:
        """Return the cost of a level on the log scale of ``signed_log``; smaller is better."""
        over = self._over(log_level)
        if over is None:
            return log_level
        return over if over > 0 else BEYOND * over

    def weight(self, log_level: float) -> float:
        """Return the weight of a small change at this level."""
        over = self._over(log_level)
        return 1.0 if over is None or over > 0 else BEYOND

    def missed(self, log_level: float) -> float:
        """Return by how much a level misses the limit; 0 if it keeps it, or there is none."""
        return max(self._over(log_level) or 0.0, 0.0)

    def _over(self, log_level: float) -> float | None:
        """Return the distance from the limit; None if none is set in the compared metric's unit."""
        if self.limit is None or not self.limits_metric:
            return None
        return log_level - self.target_metric.signed_log(self.limit)


#: Levels on the log scale of ``signed_log``, by test and metric.
Levels = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Objective:
    """The goals of a search, whose costs are summed."""

    goals: tuple[Goal, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the compared metrics."""
        return tuple(dict.fromkeys(goal.metric.name for goal in self.goals))

    def misses(self, levels: Levels) -> bool:
        """Whether any of these levels misses its limit."""
        return any(
            goal.missed(levels[key]) > 0
            for goal in self.goals
            if (key := (goal.test, goal.metric.name)) in levels
        )

    def differences(self, tests: Mapping[str, TestSamples]) -> tuple[float, ...]:
        """Return the cost difference of each complete pair, candidate - base; positive is worse.

        Pair i combines the i-th pair of every test. If both sides keep, or both miss, every
        limit, the difference is the mean of the goals' metric differences on the log scale. A
        side that keeps every limit beats one that does not, however large its other gains.
        """
        columns, levels = [], []
        for goal in self.goals:
            samples = tests[goal.test]
            if found := samples.differences(goal.metric):
                columns.append((goal, found))
                levels.append(base_level(samples, goal.metric))
        pairs = zip(*(found for _, found in columns), strict=False)
        goals = [goal for goal, _ in columns]
        return tuple(_difference(goals, levels, pair) for pair in pairs)

    def between(self, candidate: Levels, base: Levels) -> float | None:
        """Return the cost difference of two sets of levels; None if a level is unknown."""
        keys = [(goal.test, goal.metric.name) for goal in self.goals]
        if not keys or any(key not in candidate or key not in base for key in keys):
            return None
        changes = [candidate[key] - base[key] for key in keys]
        return _difference(self.goals, [base[key] for key in keys], changes)


def _difference(goals: Sequence[Goal], levels: Sequence[float], changes: Sequence[float]) -> float:
    parts = [
        (goal, old, old + change) for goal, old, change in zip(goals, levels, changes, strict=True)
    ]
    whole = sum(goal.cost(new) - goal.cost(old) for goal, old, new in parts)
    before = sum(goal.missed(old) for goal, old, _ in parts)
    after = sum(goal.missed(new) for goal, _, new in parts)
    if after and not before:
        whole = max(whole, after)
    elif before and not after:
        whole = min(whole, -before)
    return whole / sum(goal.weight(level) for goal, level in zip(goals, levels, strict=True))


def base_level(samples: TestSamples, metric: Metric) -> float:
    """Return the base side's level on the log scale of ``signed_log``; 0 without values."""
    rows = samples.values(metric.name, BASE)
    return metric.signed_log(median(median(row) for row in rows)) if rows else 0.0


def objective_of(tests: Sequence[RecordedTest], targets: Mapping[str, float]) -> Objective:
    """Return the objective, built from the limits of the tests and of ``tune.targets``.

    Args:
        tests: the recorded tests, whose checks have their markers' limits.
        targets: limits in base units that replace those of the general configuration.
    """
    goals = []
    for test in tests:
        limits = {
            check.metric.name: check.limit for check in test.checks if check.limit is not None
        }
        asked = {check.metric.name for check in test.checks if check.asked and check.limit}
        # Limits of a test's own marker always count; default limits only without targets.
        own = {name: limit for name, limit in limits.items() if name in asked or not targets}
        candidates = [_goal(test, name, limit) for name, limit in {**targets, **own}.items()]
        whole = get_metric(_default(test))
        goals += [goal for goal in candidates if _is_measured(test, goal)] or [
            Goal(test.nodeid, whole, None, whole)
        ]
    return Objective(tuple(goals))


def _default(test: RecordedTest) -> str:
    """Return the metric to improve if no target names one."""
    load = test.workload.load
    return _UNDER_LOAD.get(load.arrivals, _LATENCY) if load.is_load else _WHOLE


def limits_of(objective: Objective) -> list[Goal]:
    """Return the goals that have a limit."""
    return [goal for goal in objective.goals if goal.limit is not None]


def _goal(test: RecordedTest, name: str, limit: float) -> Goal:
    target = get_metric(name)
    return Goal(test.nodeid, _compared(target), limit, target)


def _compared(metric: Metric) -> Metric:
    """Return the metric to compare in pairs for a target: for a percentile, the plain metric."""
    parts = percentile_parts(metric.name)
    if parts is not None:
        return get_metric(parts[0])
    if metric.kind == "share":
        return get_metric(_WHOLE)
    return metric if metric.compared else get_metric("tokens_per_sec")


def _is_measured(test: RecordedTest, goal: Goal) -> bool:
    """Whether the workload defines the metric; a single output token has no decode rate."""
    load = test.workload.load
    if goal.metric.name in (_WHOLE, *_ONLY_UNDER_LOAD):
        is_defined = load.is_load != (goal.metric.name == _WHOLE)
        return is_defined and (goal.metric.name != "goodput" or bool(load.limits))
    decodes = any(request.output_tokens > 1 for request in test.workload.requests)
    return decodes or goal.metric.quantity not in ("decode", "inter_token")


def as_change(log_ratio: float) -> float:
    """Convert a difference on the log scale to a fraction: positive is worse."""
    return math.expm1(min(log_ratio, 700.0))
