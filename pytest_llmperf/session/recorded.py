"""A recorded test, and the choice of its checks: requested, configured, only shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.check import Check
from pytest_llmperf.metrics import (
    ALWAYS_SHOWN,
    ALWAYS_SHOWN_UNDER_LOAD,
    DEFAULT_GATED,
    DEFAULT_GATED_IN_FLIGHT,
    DEFAULT_GATED_UNDER_LOAD,
    METRICS,
    Metric,
    between_chunks,
    get_metric,
)
from pytest_llmperf.stored_json import Name, Positive, Stored
from pytest_llmperf.units import ToleranceSetting, without_calibration

if TYPE_CHECKING:
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.quality.limits import QualityLimits
    from pytest_llmperf.session.cell import Cell


@dataclass(frozen=True)
class Location(Stored):
    """Where a test is defined.

    Attributes:
        file: its path from pytest's root folder.
        line: number of the line, from 1.
    """

    file: Name
    line: Positive


@dataclass(frozen=True)
class UnmeasuredTest(Stored):
    """A perf test that ran and could not be measured: its body failed, or it was skipped.

    Attributes:
        nodeid: its node id.
        outcome: ``failed`` or ``skipped``.
        reason: why, in one line.
        location: where it is defined.
    """

    nodeid: Name
    outcome: str
    reason: str
    location: Location | None = None

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.outcome == "failed"


@dataclass(frozen=True)
class RecordedTest:
    """A test whose body has run and whose requests were recorded.

    Attributes:
        nodeid: its node id.
        workload: its requests to the engine.
        seconds: time they spent inside generation.
        checks: the metrics to gate or show.
        budget: seconds that may go into replaying it; None takes ``perf.test_budget``.
        quality: limits on the answers' quality, or None.
        cell: its engine settings in a sweep; None takes the session's.
        location: where it is defined; None if it is not a pytest test.
    """

    nodeid: str
    workload: Workload
    seconds: float
    checks: Sequence[Check]
    budget: float | None = None
    quality: QualityLimits | None = None
    cell: Cell | None = None
    location: Location | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The settings of its cell, in the form in which they are stored; empty without one."""
        return {} if self.cell is None else self.cell.identity

    @property
    def quality_checks(self) -> tuple[Check, ...]:
        """A check for each limit on the quality."""
        return () if self.quality is None else self.quality.checks


#: Default tolerance of a stall rate, absolute: an increase by a fifth of the iterations.
STALL_TOLERANCE = 0.2


def default_tolerance(metric: Metric, tolerance: ToleranceSetting) -> ToleranceSetting:
    """Return a metric's default tolerance; ``tolerance`` is the default of the test."""
    return STALL_TOLERANCE if metric.kind == "share" else tolerance


def check_of(
    metric: Metric,
    limit: float | None,
    tolerance: ToleranceSetting,
    *,
    gated: bool = True,
    asked: bool = True,
) -> Check:
    """Return a check with a tolerance in its configured form, such as ``auto``."""
    number = without_calibration(tolerance)
    return Check(metric, limit, number, gated=gated, asked=asked, auto=tolerance == "auto")


def checks_of_test(
    asked: Mapping[str, Check],
    targets: Mapping[str, float],
    tolerance: ToleranceSetting,
    *,
    load: str | None = None,
    in_chunks: bool = False,
) -> list[Check]:
    """Return the metrics to gate and to show, in the order to show them.

    Args:
        asked: the checks that the test's markers ask for, by metric; without any, the default
            metrics are gated.
        targets: limits of metrics that the test does not name, base units.
        tolerance: default for the largest accepted slowdown.
        load: kind of the test's load, or None.
        in_chunks: whether answers come in chunks, which may be several tokens or a part of one.
    """
    default_gated = DEFAULT_GATED if load is None else DEFAULT_GATED_UNDER_LOAD
    if load == "closed":
        default_gated = DEFAULT_GATED_IN_FLIGHT
    always_shown = ALWAYS_SHOWN if load is None else ALWAYS_SHOWN_UNDER_LOAD
    gated = dict(asked)
    for name, limit in targets.items():
        metric = get_metric(name)
        own = default_tolerance(metric, tolerance)
        # A workload may leave a plain metric undefined, but a percentile without enough values,
        # or a stall rate, must not silently go unjudged.
        gated.setdefault(name, check_of(metric, limit, own, asked=metric.kind != "value"))
    if not asked:
        for name in default_gated:
            gated.setdefault(name, check_of(METRICS[name], None, tolerance, asked=False))
    shown = {
        name: check_of(METRICS[name], None, tolerance, gated=False, asked=False)
        for name in always_shown
        if name not in gated
    }
    by_name = {**gated, **shown}
    order = dict.fromkeys([*always_shown, *METRICS, *sorted(by_name)])
    checks = [by_name[name] for name in order if name in by_name]
    if not in_chunks:
        return checks
    return [replace(check, metric=between_chunks(check.metric)) for check in checks]


def with_roofline(checks: Sequence[Check], tolerance: ToleranceSetting) -> list[Check]:
    """Return a test's checks, with a shown roofline added if none is gated."""
    if any(check.metric.name == "roofline" for check in checks):
        return list(checks)
    return [*checks, check_of(METRICS["roofline"], None, tolerance, gated=False, asked=False)]
