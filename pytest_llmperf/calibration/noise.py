"""Estimates noise: the differences between equal iterations, processes, pairs and sessions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, stdev
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import differences
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.stats.summary import process_medians

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Samples


@dataclass(frozen=True)
class Noise:
    """Noise by level, as standard deviations of logarithms (0.01 is 1%).

    Attributes:
        within: iterations of one process; None where a process has one value (a percentile).
        between: processes' medians of one session.
        pair: differences of the two processes of a pair.
        runs: levels of this calibration's sessions; None below two.
        sessions: levels of recorded sessions and earlier calibrations; None below two.
        session_count: number of those levels.
    """

    within: float | None
    between: float
    pair: float
    runs: float | None
    sessions: float | None = None
    session_count: int = 0


def noise_of(
    name: str,
    sides: Sequence[tuple[Samples, Samples, Sequence[float] | None]],
    earlier: Sequence[float],
) -> Noise:
    """Return the noise of a metric, from the side without a planted slowdown.

    Args:
        name: the metric's name.
        sides: candidate and base of each session, by pair, and the pairs' differences if they took
            turns.
        earlier: levels of other sessions, in base units.
    """
    metric = get_metric(name)
    bases = [
        [metric.signed_log(value) for value in process_medians(base, metric.resolution)]
        for _, base, _ in sides
    ]
    pair_differences = [
        differences(metric, candidate, base) if measured is None else measured
        for candidate, base, measured in sides
    ]
    rows = [[metric.signed_log(value) for value in row] for _, base, _ in sides for row in base]
    levels = [median(values) for values in bases]
    session_levels = [metric.signed_log(value) for value in earlier]
    if session_levels:
        session_levels.append(median(levels))
    return Noise(
        within=None if metric.kind == "percentile" else _pooled_sd(rows),
        between=_pooled_sd(bases),
        pair=_pooled_sd(pair_differences),
        runs=stdev(levels) if len(levels) > 1 else None,
        sessions=stdev(session_levels) if len(session_levels) > 1 else None,
        session_count=len(session_levels),
    )


def _pooled_sd(groups: Iterable[Sequence[float]]) -> float:
    """Return a robust standard deviation within groups, from differences of neighbours.

    1.4826 / sqrt(2) times the median step: correct for Gaussian values and groups of any
    size, and insensitive to slow drift or occasional stalls.
    """
    steps = [abs(b - a) for group in groups for a, b in pairwise(group)]
    return 1.4826 / math.sqrt(2.0) * median(steps) if steps else 0.0
