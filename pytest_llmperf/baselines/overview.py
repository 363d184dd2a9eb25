"""Overview of a machine's stored sessions by test: levels, spread, drift, sensitivity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median, stdev
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.baselines.match import group_comparable
from pytest_llmperf.baselines.window import ANCHOR, WINDOW, BaselineWindow, window_of
from pytest_llmperf.metrics import METRICS, Direction, get_metric, known_metric
from pytest_llmperf.stats.prediction import decides_from, passes_up_to, predict
from pytest_llmperf.stats.summary import LEVEL, process_medians

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_llmperf.baselines.record import ModelIdentity
    from pytest_llmperf.baselines.store import Shelf, StoredRecord
    from pytest_llmperf.metrics import Metric

#: Largest logarithm whose exponential fits in a float.
_LARGEST = 700.0


@dataclass(frozen=True)
class MetricOverview:
    """One metric of one test over its window of sessions.

    Attributes:
        name: as stored.
        metric: None if this version knows no metric of that name.
        unit: as stored.
        sessions: number of sessions in the window.
        level: median over sessions of each session's median, in ``unit``.
        spread: standard deviation of the logarithms of session levels; None for one session.
        drift: how much slower the window is than the anchor (0.02 = 2%); None without a metric.
        found_from: smallest true slowdown that would be called regressed at least half of the
            time, from these sessions alone and as the only check; None without a metric.
        passes_to: largest measured slowdown that passes, below 0 if even an unchanged test
            does not pass; None without a metric.
    """

    name: str
    metric: Metric | None
    unit: str
    sessions: int
    level: float
    spread: float | None
    drift: float | None = None
    found_from: float | None = None
    passes_to: float | None = None


@dataclass(frozen=True)
class TestOverview:
    """The stored sessions of one test on one machine and model, oldest first.

    Attributes:
        nodeid: the test.
        model: the model it ran on.
        summary, workload: the newest stored workload in words, and its hash.
        sessions: the sessions that measured that workload, by role.
        other_work: sessions that measured another workload.
        metrics: in the registry's order, unknown ones last.
    """

    __test__ = False

    nodeid: str
    model: ModelIdentity
    summary: str
    workload: str
    sessions: BaselineWindow
    other_work: tuple[StoredRecord, ...]
    metrics: tuple[MetricOverview, ...]

    @property
    def window(self) -> tuple[StoredRecord, ...]:
        """The sessions that this test is compared with."""
        return self.sessions.compared[-WINDOW:]

    @property
    def anchor(self) -> tuple[StoredRecord, ...]:
        """The sessions that creeping is measured from."""
        chosen = self.sessions.chosen_anchor
        return (chosen.session,) if chosen else self.sessions.compared[:ANCHOR]


def overview(
    shelf: Shelf, tests: Collection[str] | None, tolerance: float, alpha: float
) -> list[TestOverview]:
    """Summarise every test of a machine, or the named ones, sorted by name.

    ``tolerance`` is a fraction; ``alpha`` the false-alarm rate of a check.
    """
    overviews = []
    for group in group_comparable(shelf.records):
        for nodeid in sorted({name for stored in group for name in stored.record.tests}):
            if tests is None or nodeid in tests:
                overviews.append(_test(group, nodeid, shelf, tolerance, alpha))
    return overviews


def _test(
    group: Sequence[StoredRecord], nodeid: str, shelf: Shelf, tolerance: float, alpha: float
) -> TestOverview:
    holding = [stored for stored in group if nodeid in stored.record.tests]
    newest = holding[-1].record.tests[nodeid]
    sessions = window_of(group, nodeid, newest.workload, shelf.decisions)
    names = {name for stored in sessions.compared for name in stored.record.tests[nodeid].metrics}
    known = [name for name in METRICS if name in names]
    return TestOverview(
        nodeid=nodeid,
        model=holding[-1].record.model,
        summary=newest.summary,
        workload=newest.workload,
        sessions=sessions,
        other_work=tuple(s for s in holding if s.record.tests[nodeid].workload != newest.workload),
        metrics=tuple(
            _metric(sessions, name, tolerance, alpha)
            for name in [*known, *sorted(names - set(known))]
        ),
    )


def _metric(sessions: BaselineWindow, name: str, tolerance: float, alpha: float) -> MetricOverview:
    window = sessions.window(name)
    levels = _levels(window, sessions.nodeid, name)
    unit = window[-1].record.tests[sessions.nodeid].metrics[name].unit
    metric = known_metric(name)
    if metric is None:
        spread = stdev(map(math.log, levels)) if min(levels) > 0 and len(levels) > 1 else None
        return MetricOverview(name, None, unit, len(levels), median(levels), spread)
    logs = [metric.log(level) for level in levels]
    spread = stdev(logs) if len(logs) > 1 else None
    # Only the width is used, so it does not matter which direction is worse.
    prediction = predict(np.array(logs))
    anchor = _levels(sessions.anchor(name), sessions.nodeid, name)
    moved_on = {s.path for s in window} - {s.path for s in sessions.anchor(name)}
    # Once the anchor is compared with too, each of the two comparisons gets half of the rate.
    called = decides_from(prediction, tolerance, alpha / 2 if moved_on else alpha)
    return MetricOverview(
        name=name,
        metric=metric,
        unit=unit,
        sessions=len(levels),
        level=median(levels),
        spread=spread,
        drift=metric.slowdown(median(levels), median(anchor)),
        found_from=math.expm1(
            min(math.log1p(float(called)) + _lead(window, sessions.nodeid, name), _LARGEST)
        ),
        passes_to=float(passes_up_to(prediction, tolerance, LEVEL)),
    )


def _lead(sessions: Sequence[StoredRecord], nodeid: str, metric: str) -> float:
    """Return the mean lead of the fastest process (the one judged) over the median, as a log."""
    leads = []
    known = get_metric(metric)
    for stored in sessions:
        samples = stored.record.tests[nodeid].metrics[metric].samples
        logs = [known.log(value) for value in process_medians(samples, known.resolution)]
        ends = (max(logs), min(logs))
        best = ends[known.direction is Direction.LOWER]
        leads.append(abs(median(logs) - best))
    return sum(leads) / len(leads)


def _levels(sessions: Sequence[StoredRecord], nodeid: str, metric: str) -> list[float]:
    """Return each session's median of per-process medians."""
    samples = (stored.record.tests[nodeid].metrics[metric].samples for stored in sessions)
    return [median(map(median, processes)) for processes in samples]
