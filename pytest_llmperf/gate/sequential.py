"""Evidence from the differences measured so far: effect, interval, running maxima."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_llmperf.gate.rules import LEVEL, LOG_PASS, log_alarm

if TYPE_CHECKING:
    from pytest_llmperf.metrics import Metric
    from pytest_llmperf.stats.paired import Look, Zone


@dataclass(frozen=True)
class SequentialEvidence:
    """Evidence from a sequence of differences, on the log scale; positive is worse.

    Attributes:
        n: number of differences.
        effect: their clipped mean.
        low, high: anytime-valid 95% interval of the effect; infinite before the first look.
        bound: upper bound of the effect (95%, one-sided, anytime-valid); below the
            tolerance exactly if ``log_fine`` is enough to pass.
        log_worse: largest evidence so far that the effect is more than negligible.
        log_fine: largest evidence so far that it is less than the tolerance.
        clipped: numbers of differences clipped from below and from above.
    """

    n: int
    effect: float
    low: float
    high: float
    bound: float
    log_worse: float
    log_fine: float
    clipped: tuple[int, int] = (0, 0)
    look: Look | None = None


def first_look(metric: Metric) -> int:
    """Return the minimum number of differences for any decision.

    A high percentile needs more of them than a median: the slow iterations that it measures
    are a minority, and a few groups may contain none.
    """
    from pytest_llmperf.stats.e_process import MIN_PAIRS
    from pytest_llmperf.stats.paired import TAIL_FIRST

    return TAIL_FIRST if metric.kind == "percentile" else MIN_PAIRS


def has_enough_values(metric: Metric, percent: float, values_per_sample: int, samples: int) -> bool:
    """Whether ``samples`` samples form the groups of values that a percentile needs."""
    from pytest_llmperf.stats.percentiles import group_size

    return (
        values_per_sample > 0
        and group_size(values_per_sample, percent) * first_look(metric) <= samples
    )


def sequential_evidence(
    differences: tuple[float, ...], tolerance: float, metric: Metric
) -> SequentialEvidence:
    """Return the evidence from ``differences``, looked at again after every new difference.

    ``tolerance`` 0 means a limit without a zone: worse and fine are its two sides.
    """
    return _sequential_evidence(
        differences, tolerance, first_look(metric), _clip_min(tolerance, metric)
    )


def intervals_so_far(
    differences: tuple[float, ...], tolerance: float, metric: Metric
) -> list[tuple[int, float, float, float]]:
    """Return (number, effect, low, high) after each look that ``sequential_evidence`` takes."""
    clip_min, first = _clip_min(tolerance, metric), first_look(metric)
    lowest, highest = -math.inf, math.inf
    intervals = []
    for count in range(first, len(differences) + 1):
        look, (low, high, _) = _look(differences[:count], tolerance, clip_min)
        lowest, highest, effect = max(lowest, low), min(highest, high), float(look.mean)
        intervals.append((count, effect, min(lowest, effect), max(highest, effect)))
    return intervals


def _clip_min(tolerance: float, metric: Metric) -> float:
    from pytest_llmperf.stats.paired import TAIL_CLIP_MIN, clip_floor

    return TAIL_CLIP_MIN if metric.kind == "percentile" else clip_floor(tolerance)


@lru_cache(maxsize=4096)
def _sequential_evidence(
    differences: tuple[float, ...], tolerance: float, first: int, clip_min: float
) -> SequentialEvidence:
    import numpy as np

    from pytest_llmperf.stats import paired

    n = len(differences)
    if n < first:
        effect = float(np.mean(paired.clip(differences, clip_min))) if n else math.nan
        return SequentialEvidence(n, effect, -math.inf, math.inf, math.inf, 0.0, 0.0)
    taken = [_look(differences[:k], tolerance, clip_min) for k in range(first, n + 1)]
    looks, ends = [look for look, _ in taken], [ends for _, ends in taken]
    last = looks[-1]
    effect = float(last.mean)
    # Values that one look has ruled out stay ruled out, as the largest evidence stays;
    # including the estimate can only widen the interval.
    return SequentialEvidence(
        n=n,
        effect=effect,
        low=min(max(low for low, _, _ in ends), effect),
        high=max(min(high for _, high, _ in ends), effect),
        bound=max(min(bound for _, _, bound in ends), effect),
        log_worse=max(float(look.log_e_worse) for look in looks),
        log_fine=max(float(look.log_e_fine) for look in looks),
        clipped=paired.clipped_sides(differences, clip_min),
        look=last,
    )


@lru_cache(maxsize=1 << 16)
def _look(
    differences: tuple[float, ...], tolerance: float, clip_min: float
) -> tuple[Look, tuple[float, float, float]]:
    """Return one look, with its interval and bound as (low, high, bound).

    Cached, because earlier rounds already took the earlier looks.
    """
    from pytest_llmperf.stats.paired import bounds, look, upper_bound

    taken = look(differences, zone_of(tolerance), clip_min)
    low, high = bounds(taken, LEVEL)
    return taken, (float(low), float(high), float(upper_bound(taken, LEVEL)))


def zone_of(tolerance: float) -> Zone:
    """Return the indifference zone of a tolerance; for 0 it has no width."""
    from pytest_llmperf.stats.paired import Zone

    return Zone.of(tolerance) if tolerance else Zone(0.0, 0.0, 0.0)


def is_worse(state: SequentialEvidence, tolerance: float, share: float) -> bool:
    """Whether the effect is proven to be more than negligible, and is near the tolerance."""
    return state.log_worse >= log_alarm(share) and may_be_called(state, tolerance)


def may_be_called(state: SequentialEvidence, tolerance: float) -> bool:
    """Whether the effect is near the tolerance, and the differences agree about it.

    A limit (tolerance 0) needs no agreement: if half of the processes miss it, it is missed.
    """
    from pytest_llmperf.stats import paired

    look = state.look
    if look is None or not tolerance:
        return look is not None and state.effect >= 0.0
    return bool(paired.may_be_called(look, zone_of(tolerance)))


def is_fine(state: SequentialEvidence, tolerance: float) -> bool:
    """Whether the effect is proven to be less than the tolerance, and its current value still is.

    Sampling goes on for other checks, and the current effect must not contradict a pass.
    """
    return state.log_fine >= LOG_PASS and state.effect < zone_of(tolerance).tolerance


def more_needed(
    state: SequentialEvidence, tolerance: float, share: float, first: int
) -> int | None:
    """Estimate how many more differences like these would decide; None if none would."""
    from pytest_llmperf.stats.paired import min_pairs_to_call, pairs_needed

    if state.look is None:
        return max(first - state.n, 1)
    zone = zone_of(tolerance)
    totals = [pairs_needed(state.look, zone.tolerance, LOG_PASS, above=False)]
    if state.effect >= zone.min_called:
        total = pairs_needed(state.look, zone.negligible, log_alarm(share))
        totals.append(max(total, min_pairs_to_call()) if total and tolerance else total)
    known = [total for total in totals if total is not None]
    return max(min(known) - state.n, 1) if known else None
