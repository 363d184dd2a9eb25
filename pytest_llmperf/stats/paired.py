"""Decision rule for interleaved pairs: clip, look after every pair, decide.

There is one difference d_i = ln(candidate) - ln(baseline) per pair of processes, signed so
that positive is worse. Two one-sided questions share an indifference zone: is the mean
above the negligible slowdown (``regressed``), and is it below the tolerance (``pass``)?
A target uses the same rule with d_i = ln(measured) - ln(limit).

For Gaussian d the validity of the evidence is a theorem (``e_process``). Simulations show that
clipping, other noise and the dependence inside a block of two pairs do no harm.
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
#: No difference within this distance of the median (natural log) is clipped. At smaller tolerances
#: the distance is smaller, because such an outlier would be a large one (``clip_floor``).
CLIP_MIN = 0.05
#: Percentiles measure a minority of iterations, which tight clipping would treat as outliers, and
#: which a few groups may lack: they are clipped further out, and first looked at after more groups.
TAIL_CLIP_MIN, TAIL_FIRST = 0.50, 8


#: A slowdown is called only if the pairs agree: among pairs with a difference that is not
#: negligible, so many must be slower that a fair coin would give as many with at most this
#: probability (6 of 6, 9 of 10).
AGREE = 1.0 / 64.0
#: Maximum share of pairs that is clipped: more are not outliers but a second state.
CLIP_SHARE = 0.25
#: Maximum number of pairs in a plan.
MAX_PAIRS = 400


@dataclass(frozen=True)
class Zone:
    """Thresholds on slowdowns, as natural logarithms of time ratios.

    Attributes:
        negligible: a true slowdown up to this must not be called.
        tolerance: a true slowdown of this or more must not pass.
        min_called: smallest measured mean that is called, whatever the evidence.
    """

    negligible: float
    tolerance: float
    min_called: float

    @classmethod
    def of(cls, tolerance: float) -> Zone:
        """Return the zone for a tolerated slowdown: 0.05 is 5% more time.

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
        log_e_worse: ln E that the mean is above the negligible slowdown.
        log_e_fine: ln E that the mean is below the tolerance.
        agreement_p: probability that a fair coin puts at least as many pairs on the slower side,
            among pairs with a difference that is not negligible.
    """

    n: int
    mean: Array
    sd: Array
    log_e_worse: Array
    log_e_fine: Array
    agreement_p: Array


def clip_floor(tolerance: float) -> float:
    """Return the distance from the median within which no difference is clipped (natural log).

    ``tolerance`` is a fraction; 0 means that the check is a limit.
    """
    return min(CLIP_MIN, math.log1p(tolerance)) if tolerance else CLIP_MIN


def clip(d: ArrayLike, clip_min: float = CLIP_MIN) -> Array:
    """Clip differences to median +- max(k * 1.4826 * MAD, clip_min), k = max(2.5, 1.5 + 40/n).

    Shape (..., n) -> (..., n). At most the furthest quarter of them is clipped (``CLIP_SHARE``).

    A stall that hits one process of a pair then cannot dominate the mean, yet still counts
    as a large difference. Source: Huber (1964), winsorised location.
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
    """Compute the statistics of all pairs; ``d`` has shape (..., n), with at least one pair.

    Raises:
        ValueError: there is no pair, or a difference is not finite.
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
        no_evidence = np.zeros_like(mean)
        return Look(n, mean, sd, no_evidence, no_evidence, no_evidence + 1.0)
    both = np.stack([clipped - zone.negligible, zone.tolerance - clipped])
    worse, fine = tabulated(n)(direction(both))
    above = np.sum(values > zone.negligible, axis=-1)
    below = np.sum(values < -zone.negligible, axis=-1)
    return Look(n, mean, sd, worse, fine, _coins(n)[above + below, above])


def min_pairs_to_call() -> int:
    """Return the minimum number of pairs that can agree enough for a call: 6."""
    return math.ceil(-math.log2(AGREE))


def may_be_called(look: Look, zone: Zone) -> NDArray[np.bool_]:
    """Whether the mean is large enough and the pairs agree; has the batch shape.

    Evidence alone would trust the spread of few pairs. If processes run at one of two speeds,
    three pairs that agree by chance show no spread at all.
    """
    return np.asarray((look.mean >= zone.min_called) & (look.agreement_p <= AGREE))


def bounds(look: Look, level: float) -> tuple[Array, Array]:
    """Return an anytime-valid interval of the mean; both ends have the batch shape.

    ln E against a mean theta reaches c exactly when t(theta) reaches critical_t(n, c),
    so mean +- critical_t(n, ln(2 / (1-level))) * sd / sqrt(n) holds exactly the means not
    yet refuted from either side. Whenever sampling stops, it misses the true mean with a
    probability of at most 1-level. It uses only this look: the intersection with earlier
    looks, which a running maximum implies, is never wider. Infinite while no mean can be
    refuted (n < 3); without spread both ends are the mean.
    """
    half = _half_width(look, math.log(2.0 / (1.0 - level)))
    return look.mean - half, look.mean + half


def upper_bound(look: Look, level: float) -> Array:
    """Return a one-sided anytime-valid upper bound of the mean; see ``bounds``."""
    return np.asarray(look.mean + _half_width(look, math.log(1.0 / (1.0 - level))))


def pairs_needed(
    look: Look,
    shift: float,
    log_threshold: float,
    *,
    above: bool = True,
    max_pairs: int = MAX_PAIRS,
) -> int | None:
    """Return the total number of pairs that would show a mean above (or below) ``shift``.

    Assumes that mean and spread stay the same. ``look`` belongs to one check, not a batch.
    None if ``max_pairs`` are not enough; never below the current number of pairs.
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
    """Return the smallest n in [first, last] for which ``reached(n)`` is True, or None.

    ``reached`` must stay True for larger n. The search doubles its steps and then bisects: calls
    with many pairs cost most, and few pairs are usually enough.
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
    """Return the smallest true slowdown (fraction) that ``pairs`` call with chance ``power``.

    The mean has to reach two thresholds: negligible + critical_t * sd / sqrt(n), and the
    smallest mean that is called. Infinite if that few pairs can't call anything.
    """
    critical = critical_t(pairs, log_alarm)
    if math.isinf(critical) or pairs < min_pairs_to_call():
        return math.inf
    zone = Zone.of(tolerance)
    step = sd / math.sqrt(pairs)
    bar = max(zone.negligible + critical * step, zone.min_called)
    return math.expm1(bar + NormalDist().inv_cdf(power) * step)


def pairs_to_pass(sd: float, log_pass: float, tolerance: float, power: float) -> int | None:
    """Return the pairs until an unchanged check passes with chance ``power``; None above 400."""
    room = Zone.of(tolerance).tolerance
    z = NormalDist().inv_cdf(power)

    def reached(pairs: int) -> bool:
        critical = critical_t(pairs, log_pass)
        return math.isfinite(critical) and (critical + z) * sd / math.sqrt(pairs) <= room

    return smallest_reaching(reached, MIN_PAIRS, MAX_PAIRS)


def smallest_tolerance(sd: float, pairs: int, log_alarm: float, log_pass: float) -> float | None:
    """Return the smallest workable tolerance (fraction, in half percents); None above 50%.

    In nine of ten sessions, ``pairs`` pairs then pass unchanged code, and call code whose slowdown
    is 1.25 times the tolerance.
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
    """Return P(at least w heads in n tosses) of a fair coin, by n and w up to ``max_pairs``."""
    chances = np.ones((1, 1))
    table = np.zeros((max_pairs + 1, max_pairs + 1))
    for n in range(max_pairs + 1):
        table[n, : n + 1] = np.cumsum(chances[0, ::-1])[::-1]
        row = np.append(chances, 0.0) + np.append(0.0, chances)
        chances = row[None, :] / 2.0
    return table


def _limits(values: Array, clip_min: float) -> tuple[Array, Array]:
    """Return the lower and upper clipping limits, shape (..., 1) each."""
    centre = _median(values)
    mad = _median(np.abs(values - centre))
    sds = max(CLIP_SDS, CLIP_SDS_START + CLIP_SDS_FALL / values.shape[-1])
    reach = np.maximum(sds * MAD_TO_SD * mad, clip_min)
    # With a tiny MAD, half of the pairs could otherwise count as outliers.
    n = values.shape[-1]
    distances = np.sort(np.abs(values - centre), axis=-1)
    kept = n - 1 - math.floor(CLIP_SHARE * n)
    reach = np.maximum(reach, distances[..., kept : kept + 1])
    return centre - reach, centre + reach


def _median(values: Array) -> Array:
    """Return medians along the last axis, which is kept; 10 times as fast as np.median."""
    n = values.shape[-1]
    ordered = np.sort(values, axis=-1)
    # Halved before adding, so that two huge values do not overflow.
    return np.asarray(ordered[..., (n - 1) // 2, None] / 2.0 + ordered[..., n // 2, None] / 2.0)


def _half_width(look: Look, log_threshold: float) -> Array:
    t = critical_t(look.n, log_threshold)
    if math.isinf(t):
        return np.full_like(look.mean, t)
    return np.asarray(t * look.sd / math.sqrt(look.n))
