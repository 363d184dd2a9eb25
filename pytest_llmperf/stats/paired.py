"""Decision rule for interleaved pairs: clip, look after every pair, decide.

One difference d_i = ln(candidate) - ln(baseline) per pair of processes, turned so
that positive is worse. Two one-sided questions share an indifference zone: is the
mean above the negligible slowdown (``regressed``), is it below the tolerance
(``pass``). A target is the same rule on d_i = ln(measured) - ln(limit).

Evidence is theorem for Gaussian d (``e_process``). Simulation shows that clipping,
other noise and the dependence inside a block of two pairs do no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.stats.e_process import MIN_PAIRS as MIN_PAIRS
from pytest_llmperf.stats.e_process import critical_t, direction, log_e, tabulated

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

#: Standard deviation of Gaussian data over its median absolute deviation.
MAD_TO_SD = 1.4826
#: Differences further than this many robust standard deviations from the median are clipped.
#: The MAD of few pairs is a poor guide, and clipping too close would make the spread look
#: smaller than it is: the fewer pairs, the wider (1.5 + 40/n), 14.8 at 3 and 2.5 from 40 on.
CLIP_SDS, CLIP_SDS_START, CLIP_SDS_FALL = 2.5, 1.5, 40.0
#: None is clipped within this distance of the median (natural log); less at smaller tolerances,
#: for which an outlier of this size would be a large one (``clip_floor``).
CLIP_MIN = 0.05
#: Percentiles measure a minority of iterations, which close clipping would treat as outliers, and
#: a few groups may contain none of it: they are clipped further out and looked at later.
TAIL_CLIP_MIN, TAIL_FIRST = 0.50, 8


#: A slowdown is called only if the pairs agree: among those with a difference that is not
#: negligible, so many must be slower that a fair coin would do it with at most this chance
#: (6 of 6, 9 of 10).
AGREE = 1.0 / 64.0
#: Largest share of pairs that is clipped: more of them are a second state, not outliers.
CLIP_SHARE = 0.25
#: Maximum number of pairs in a plan.
MAX_PAIRS = 400


@dataclass(frozen=True)
class Zone:
    """Thresholds on slowdowns, as natural logarithms of time ratios.

    Attributes:
        negligible: a true slowdown up to this must not be called.
        tolerance: one of this or more must not pass.
        min_called: smallest measured mean that is called at any amount of evidence.
    """

    negligible: float
    tolerance: float
    min_called: float

    @classmethod
    def of(cls, tolerance: float) -> Zone:
        """Return the zone of a tolerated slowdown: 0.05 is 5% more time.

        Raises:
            ValueError: ``tolerance`` is not a positive number.
        """
        if not (math.isfinite(tolerance) and tolerance > 0.0):
            raise ValueError(f"a tolerance must be a fraction above 0, got {tolerance!r}")
        return cls(math.log1p(0.2 * tolerance), math.log1p(tolerance), math.log1p(0.8 * tolerance))


@dataclass(frozen=True)
class Look:
    """Statistics of ``n`` pairs; every array has the batch shape of the differences.

    Attributes:
        n: number of pairs.
        mean: mean of the clipped differences.
        sd: their standard deviation (n-1); 0 where n is 1.
        log_worse: ln E that the mean is above the negligible slowdown.
        log_fine: ln E that the mean is below the tolerance.
        disagree: chance that a fair coin puts as many pairs on the slower side, among
            those with a difference that is not negligible.
    """

    n: int
    mean: Array
    sd: Array
    log_worse: Array
    log_fine: Array
    disagree: Array


def clip_floor(tolerance: float) -> float:
    """Return the distance from the median within which no difference is clipped (natural log).

    ``tolerance`` is a fraction; 0 stands for a limit.
    """
    return min(CLIP_MIN, math.log1p(tolerance)) if tolerance else CLIP_MIN


def clip(d: ArrayLike, clip_min: float = CLIP_MIN) -> Array:
    """Pull every difference to within median +- max(k * 1.4826 * MAD, clip_min).

    Shape (..., n) -> (..., n). At most a quarter of them, the furthest: ``CLIP_SHARE``.

    k = max(2.5, 1.5 + 40/n). A stall that hits one process of a pair cannot carry the
    mean away, yet still counts as a large difference. Source: Huber (1964), winsorised
    location.
    """
    values = np.asarray(d, dtype=np.float64)
    low, high = _limits(values, clip_min)
    return np.minimum(np.maximum(values, low), high)


def clipped_sides(d: ArrayLike, clip_min: float = CLIP_MIN) -> tuple[int, int]:
    """Count the values of ``d``, shape (n,), that clipping moves: (from below, from above)."""
    values = np.asarray(d, dtype=np.float64)
    low, high = _limits(values, clip_min)
    return int(np.sum(values < low)), int(np.sum(values > high))


def look(d: ArrayLike, zone: Zone, clip_min: float = CLIP_MIN) -> Look:
    """Take one look at all pairs; ``d`` has shape (..., n), at least one pair.

    Raises:
        ValueError: no pair, or a difference that is not finite.
    """
    values = np.asarray(d, dtype=np.float64)
    if values.shape[-1] < 1:
        raise ValueError("no pairs to look at")
    if not np.isfinite(values).all():
        raise ValueError("a difference between two processes is not a finite number")
    n = values.shape[-1]
    clipped = clip(values, clip_min)
    mean = clipped.sum(axis=-1) / n
    off = clipped - mean[..., None]
    sd = np.sqrt((off * off).sum(axis=-1) / max(n - 1, 1))
    if n < MIN_PAIRS:
        none = np.zeros_like(mean)
        return Look(n, mean, sd, none, none, none + 1.0)
    both = np.stack([clipped - zone.negligible, zone.tolerance - clipped])
    worse, fine = tabulated(n)(direction(both))
    above = np.sum(values > zone.negligible, axis=-1)
    below = np.sum(values < -zone.negligible, axis=-1)
    return Look(n, mean, sd, worse, fine, _coins(n)[above + below, above])


def min_pairs_to_call() -> int:
    """Minimum number of pairs that can agree enough to be called: 6."""
    return math.ceil(-math.log2(AGREE))


def may_be_called(look: Look, zone: Zone) -> NDArray[np.bool_]:
    """Whether a mean is near the tolerance and its pairs agree; the batch shape.

    Evidence alone trusts the spread of few pairs. If processes run at one of two speeds,
    three pairs that agree by chance show no spread at all.
    """
    return np.asarray((look.mean >= zone.min_called) & (look.disagree <= AGREE))


def bounds(look: Look, level: float) -> tuple[Array, Array]:
    """Anytime-valid interval of the mean at this look; both ends have the batch shape.

    ln E against a mean theta reaches c exactly when t(theta) reaches critical_t(n, c),
    so mean +- critical_t(n, ln(2 / (1-level))) * sd / sqrt(n) holds just the means not
    yet refuted from either side. Wherever one stops, it misses the true mean with
    probability 1-level at most. It uses this look alone: the intersection with earlier
    looks, which a running maximum implies, is never wider. Infinite while no mean can be
    refuted (n < 3); without spread both ends are the mean.
    """
    half = _half_width(look, math.log(2.0 / (1.0 - level)))
    return look.mean - half, look.mean + half


def upper_bound(look: Look, level: float) -> Array:
    """One-sided anytime-valid upper bound of the mean: see ``bounds``."""
    return np.asarray(look.mean + _half_width(look, math.log(1.0 / (1.0 - level))))


def pairs_needed(
    look: Look,
    shift: float,
    log_threshold: float,
    *,
    above: bool = True,
    max_pairs: int = MAX_PAIRS,
) -> int | None:
    """Total number of pairs that would show the mean to be above (or below) ``shift``.

    It assumes that mean and spread stay the same. ``look`` is of one check, not a batch.
    None if ``max_pairs`` are not enough; never below the present number of pairs.
    """
    gap = float(look.mean) - shift if above else shift - float(look.mean)
    if gap <= 0.0:
        return None
    sd = float(look.sd)

    def reached(n: int) -> bool:
        t = math.sqrt(n) * gap / sd if sd > 0.0 else math.inf
        u = t / math.sqrt(t * t + n - 1) if t < 1e100 else 1.0
        return n >= MIN_PAIRS and float(log_e(n, u)) >= log_threshold

    return smallest_reaching(reached, look.n, max_pairs)


def smallest_reaching(reached: Callable[[int], bool], first: int, last: int) -> int | None:
    """Return the smallest n in [first, last] with ``reached(n)``, or None.

    ``reached`` must stay True once it is. The search doubles its steps and then bisects: looks at
    many pairs cost most, and few are usually enough.
    """
    if first > last:
        return None
    low, high, step = first - 1, first, 1
    while not reached(high):
        if high == last:
            return None
        low, high, step = high, min(high + step, last), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def mde(sd: float, pairs: int, log_alarm: float, tolerance: float, power: float = 0.9) -> float:
    """Smallest true slowdown (fraction) that ``pairs`` pairs call with chance ``power``.

    The mean has to reach two thresholds: negligible + critical_t * sd / sqrt(n), and the
    smallest mean that is called. Infinite if so few pairs can call nothing.
    """
    critical = critical_t(pairs, log_alarm)
    if math.isinf(critical) or pairs < min_pairs_to_call():
        return math.inf
    zone = Zone.of(tolerance)
    step = sd / math.sqrt(pairs)
    bar = max(zone.negligible + critical * step, zone.min_called)
    return math.expm1(bar + NormalDist().inv_cdf(power) * step)


def pairs_to_pass(sd: float, log_pass: float, tolerance: float, power: float) -> int | None:
    """Pairs until an unchanged check passes with chance ``power``; None above 400."""
    room = Zone.of(tolerance).tolerance
    z = NormalDist().inv_cdf(power)

    def reached(pairs: int) -> bool:
        critical = critical_t(pairs, log_pass)
        return math.isfinite(critical) and (critical + z) * sd / math.sqrt(pairs) <= room

    return smallest_reaching(reached, MIN_PAIRS, MAX_PAIRS)


def smallest_tolerance(sd: float, pairs: int, log_alarm: float, log_pass: float) -> float | None:
    """Smallest tolerance (fraction, in half percents) that so many pairs can hold; None above 50%.

    In nine of ten sessions they pass what is unchanged, and call what is slower by a quarter more
    than the tolerance.
    """
    for half_percents in range(1, 101):
        tolerance = half_percents / 200
        passing = pairs_to_pass(sd, log_pass, tolerance, power=0.9)
        if passing is None or passing > pairs:
            continue
        if mde(sd, pairs, log_alarm, tolerance) <= 1.25 * tolerance:
            return tolerance
    return None


@lru_cache(maxsize=1024)
def _coins(max_pairs: int) -> Array:
    """P(at least w heads of n) of a fair coin, by n and w from 0 to ``max_pairs``."""
    chances = np.ones((1, 1))
    table = np.zeros((max_pairs + 1, max_pairs + 1))
    for n in range(max_pairs + 1):
        table[n, : n + 1] = np.cumsum(chances[0, ::-1])[::-1]
        row = np.append(chances, 0.0) + np.append(0.0, chances)
        chances = row[None, :] / 2.0
    return table


def _limits(values: Array, clip_min: float) -> tuple[Array, Array]:
    """Lower and upper clipping limit, shape (..., 1) each."""
    centre = _median(values)
    mad = _median(np.abs(values - centre))
    sds = max(CLIP_SDS, CLIP_SDS_START + CLIP_SDS_FALL / values.shape[-1])
    reach = np.maximum(sds * MAD_TO_SD * mad, clip_min)
    # With a tiny MAD, half of the pairs could count as outliers.
    n = values.shape[-1]
    distances = np.sort(np.abs(values - centre), axis=-1)
    kept = n - 1 - math.floor(CLIP_SHARE * n)
    reach = np.maximum(reach, distances[..., kept : kept + 1])
    return centre - reach, centre + reach


def _median(values: Array) -> Array:
    """Median along the last axis, which is kept; ten times faster than np.median on one check."""
    n = values.shape[-1]
    ordered = np.sort(values, axis=-1)
    # Halved before adding, so that two huge values do not overflow.
    return np.asarray(ordered[..., (n - 1) // 2, None] / 2.0 + ordered[..., n // 2, None] / 2.0)


def _half_width(look: Look, log_threshold: float) -> Array:
    t = critical_t(look.n, log_threshold)
    if math.isinf(t):
        return np.full_like(look.mean, t)
    return np.asarray(t * look.sd / math.sqrt(look.n))
