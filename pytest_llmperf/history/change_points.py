"""Finds changes of level in a series, with a measured rate of false positives.

Candidates come from ``changeforest`` (seeded binary segmentation of the mean:
Kovács, Bühlmann, Li and Munk 2023, "Seeded binary segmentation", Biometrika
110). This module decides which of them to keep:

1. The logarithms of the values are taken, and values far from the running median
   of seven are pulled to within 2.5 robust standard deviations of it: a stalled
   session is one large value, not a new level, and the median follows a step at once.
2. The library proposes candidates, generously.
3. Candidates are judged against their neighbours: difference of the means, over
   the spread within the segments, widened by (1 + r) / (1 - r) for the correlation
   r of neighbouring sessions. The weakest is dropped and the rest judged again, until
   each is beyond ``bar`` and more than negligible. Only then is it
   called a change: the place with the largest difference was chosen, so
   a t-test there means nothing at its nominal level, and ``bar`` is far above it.

Why not another library (same machine, one core, series without a change; false
positives per 100 series of 200 sessions under four kinds of noise: normal, Student
t with 3 degrees of freedom, correlation 0.3, 2% stalled; found: a step of 5% in 2%
normal noise, 10 sessions before the end):

    library, settings                   1,000   10,000   false per 100 series      found
    Otava 0.8.0, p 0.001 (default)      19 ms   152 ms   20    56    130    67      98%
    Otava 0.8.0, p 0.00001              19 ms   152 ms   0.3   12    6.3    28      97%
    ruptures 1.1.10 KernelCPD, 2 ln n    3 ms   325 ms   7.3   138   242    306     97%
    ruptures 1.1.10 KernelCPD, 4 ln n    3 ms   325 ms   0.03  33    18     199     97%
    skchange 0.18.0 seeded, numba        5 ms    45 ms   (513 MB, 11 s to compile)
    changeforest 1.2.1 alone            0.5 ms    6 ms   66    294   512    379     97%
    this module                         0.7 ms    5 ms   benchmarks/change_points.py  95%

Otava needs one version of numpy (2.2.0) and 44 packages (BigQuery, Slack); its
p-value is that of a t-test at the split that was chosen for the largest
difference, not corrected for the places looked at; it takes a numpy array for a
series without windows (quadratic, and at wrong indices). ruptures is exact and
quadratic without changes. changeforest is one wheel of 1.4 MB that needs numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_llmperf.metrics import Direction
from pytest_llmperf.stats.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_llmperf.metrics import Metric

#: Measured rate: at most one false positive per this many sessions without a change.
SESSIONS_PER_FALSE_FIND = 20_000
#: Minimum number of sessions of a level.
MIN = 5
#: Changes up to this share are never reported: a fifth of the default tolerance.
NEGLIGIBLE = 0.01
#: Confidence of the intervals shown.
LEVEL = 0.95
#: How to get the library.
INSTALL = "pip install 'pytest-llmperf[history]'"

_WINDOW = 7
_CLIP = 2.5
#: Share of the sessions that may be clipped.
_FEW = 0.05
#: Candidates need only this share of the bar, so that no change that passes it is missed.
_GENEROUS = 0.6
#: Skips every other layer of the library's default: half the time, the same results.
_SEED_DECAY = 0.5
#: A place where the change fits the data worse by this much is outside of its 95% interval,
#: according to the random walks on both sides of the change (Siegmund 1988).
_PLACE = -2.0 * math.log(1.0 - math.sqrt(LEVEL))
#: Smallest spread, for the clock's resolution: a hundredth of a percent.
_FINEST = 1e-4


@dataclass(frozen=True)
class ChangePoint:
    """One change of level.

    Attributes:
        index: the most likely first session of the new level.
        last_before: the last session that certainly (95%) belongs to the old level.
        first_after: the first one that certainly belongs to the new level.
        effect: how much slower the new level is, a fraction; below 0 it is faster.
        low, high: the effect's 95% interval, given the place.
    """

    index: int
    last_before: int
    first_after: int
    effect: float
    low: float
    high: float


class _Fit(NamedTuple):
    """The fit of segments to a series.

    Attributes:
        steps: differences between the means of neighbouring segments.
        scores: squares of the steps in standard errors, as if normally distributed.
        errors: standard errors of the steps.
        spread, freedom: variance within segments, widened for correlation; degrees of freedom.
    """

    steps: NDArray[np.float64]
    scores: NDArray[np.float64]
    errors: NDArray[np.float64]
    spread: float
    freedom: float


def bar(sessions: int) -> float:
    """Return the score that a change in a series of this length must reach.

    Found by simulation, for ``SESSIONS_PER_FALSE_FIND``; a normal deviate of 4.9 at 200.
    """
    slope = 3.0 if sessions > 200 else 1.0
    return 24.0 + slope * math.log(sessions / 200.0)


def library() -> str | None:
    """Return the name and version of the library that finds candidates; None without it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"changeforest {version('changeforest')}"
    except PackageNotFoundError:
        return None


def change_points(values: NDArray[np.float64], metric: Metric) -> tuple[ChangePoint, ...]:
    """Find the changes of a series, oldest session first; none in fewer than ten sessions.

    ``values`` are in the metric's unit, above 0 or, where it may be, 0.

    Raises:
        ImportError: the library is not installed (see ``library()``).
    """
    if len(values) < 2 * MIN:
        return ()
    sign = -1.0 if metric.direction is Direction.HIGHER else 1.0
    logs = clipped(sign * np.log(np.maximum(values, metric.resolution or 0.0)))
    level = bar(len(logs))
    cuts = candidates(logs, _GENEROUS * level)
    if not cuts:
        return ()
    segments = _Segments(logs)
    kept, fit = segments.prune(cuts, level)
    return () if fit is None else tuple(_change(segments, kept, n, fit) for n in range(len(kept)))


def clipped(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip outliers around the running median of seven."""
    half = _WINDOW // 2
    ends = np.concatenate([logs[half:0:-1], logs, logs[-2 : -half - 2 : -1]])
    windows = np.lib.stride_tricks.sliding_window_view(ends, _WINDOW)
    middle = np.partition(windows, half, axis=1)[:, half]
    far = np.sort(np.abs(logs - middle))
    # If more than a few are far away they are another state, not outliers, and the median
    # would alternate between the two.
    max_distance = max(
        _CLIP * 1.4826 * _middle_of(far), float(far[math.ceil(len(far) * (1 - _FEW)) - 1])
    )
    result: NDArray[np.float64] = np.clip(logs, middle - max_distance, middle + max_distance)
    return result


def _middle_of(ordered: NDArray[np.float64]) -> float:
    """Return the median of sorted values; numpy's own loads another 20 ms of modules."""
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2.0


def candidates(logs: NDArray[np.float64], gain: float) -> list[int]:
    """Return the places where the library sees a possible change of the mean, in order.

    ``gain`` is the minimum reduction of the sum of squares, in units of the noise's variance.
    """
    from changeforest import Control, changeforest

    # From differences of neighbours, so that a change of level hardly affects it.
    spread = 1.4826 * _middle_of(np.sort(np.abs(np.diff(logs)))) / math.sqrt(2.0)
    control = Control(
        # The library requires more than this share of sessions right of a change.
        minimal_relative_segment_length=(MIN - 1.5) / len(logs),
        minimal_gain_to_split=gain,
        seeded_segments_alpha=_SEED_DECAY,
    )
    scaled = np.ascontiguousarray(logs / max(spread, _FINEST)).reshape(-1, 1)
    cuts: Sequence[int] = changeforest(scaled, "change_in_mean", "sbs", control).split_points()
    return [cut for cut in cuts if MIN <= cut <= len(logs) - MIN]


class _Segments:
    """A series and its cumulative sums, to evaluate any segmentation quickly."""

    def __init__(self, logs: NDArray[np.float64]) -> None:
        # Centred, so that squares lose no digits.
        self.logs = logs - _middle_of(np.sort(logs))
        self._sum = _running(self.logs)
        self._squares = _running(self.logs**2)
        self._lagged = _running(self.logs[:-1] * self.logs[1:])

    def fit(self, cuts: Sequence[int]) -> _Fit:
        """Judge each cut against the segments on both sides."""
        count = len(self.logs)
        ends = np.array([0, *cuts, count])
        start, stop = ends[:-1], ends[1:]
        size = (stop - start).astype(np.float64)
        total = self._sum[stop] - self._sum[start]
        mean = total / size
        squares = float((self._squares[stop] - self._squares[start] - total * mean).sum())
        squares = max(squares, count * _FINEST**2)
        inner = 2.0 * total - self.logs[start] - self.logs[stop - 1]
        lagged = self._lagged[stop - 1] - self._lagged[start]
        products = float((lagged - mean * inner + (size - 1.0) * mean**2).sum())
        # Subtracting a segment's mean biases the correlation of neighbours downwards.
        correlation = products / squares + len(size) / count
        correlation = min(max(correlation, 0.0), 0.9)
        widening = (1.0 + correlation) / (1.0 - correlation)
        freedom = count - len(size)
        spread = squares / freedom * widening
        steps = np.diff(mean)
        errors = np.sqrt(spread * (1.0 / size[:-1] + 1.0 / size[1:]))
        fewer = max(freedom / widening, 2.0)
        return _Fit(steps, _as_normal((steps / errors) ** 2, fewer), errors, spread, fewer)

    def prune(self, cuts: Sequence[int], level: float) -> tuple[list[int], _Fit | None]:
        """Drop the weakest cut until all reach ``level`` and are more than negligible."""
        left = list(cuts)
        while left:
            fit = self.fit(left)
            weakest = int(np.argmin(fit.scores))
            if fit.scores[weakest] >= level:
                weakest = int(np.argmin(np.abs(fit.steps)))
                if abs(fit.steps[weakest]) > math.log1p(NEGLIGIBLE):
                    return left, fit
            del left[weakest]
        return left, None

    def places(self, start: int, cut: int, stop: int, spread: float) -> tuple[int, int]:
        """Return the first and the last place of the 95% interval of the change at ``cut``."""
        at = np.arange(start + 1, stop)
        left, right = at - start, stop - at
        total = self._sum[stop] - self._sum[start]
        before = self._sum[at] - self._sum[start]
        gains = (before - total * left / (stop - start)) ** 2 * (1.0 / left + 1.0 / right)
        near = np.flatnonzero(gains >= gains[cut - start - 1] - _PLACE * spread)
        return int(at[near[0]]), int(at[near[-1]])


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(1), np.cumsum(values)])


def _as_normal(squares: NDArray[np.float64], freedom: float) -> NDArray[np.float64]:
    """Turn squares of Student's t into those of a normal deviate with the same tail.

    Source: Wallace 1959, "Bounds on normal approximations to Student's and the chi-square
    distributions", Annals of Mathematical Statistics 30.
    """
    shrunk = ((8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)) ** 2
    result: NDArray[np.float64] = freedom * np.log1p(squares / freedom) * shrunk
    return result


def _change(segments: _Segments, cuts: Sequence[int], number: int, fit: _Fit) -> ChangePoint:
    start = cuts[number - 1] if number else 0
    stop = cuts[number + 1] if number + 1 < len(cuts) else len(segments.logs)
    first, last = segments.places(start, cuts[number], stop, fit.spread)
    # Beyond 200 degrees of freedom the quantile changes by less than half a percent.
    freedom = max(1, min(200, int(fit.freedom)))
    half = t_quantile(0.5 + LEVEL / 2.0, freedom) * float(fit.errors[number])
    step = float(fit.steps[number])
    return ChangePoint(
        index=cuts[number],
        last_before=first - 1,
        first_after=last,
        effect=math.expm1(step),
        low=math.expm1(step - half),
        high=math.expm1(step + half),
    )
