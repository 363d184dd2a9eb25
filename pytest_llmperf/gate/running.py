"""The evidence of a sequence of differences as it stands: effect, interval, running maxima."""

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
class Running:
    """What a sequence of differences says so far, all on the log scale, positive is worse.

    Attributes:
        n: how many differences.
        effect: their clipped mean.
        low, high: anytime-valid 95% interval of the effect; infinite before the first look.
        bound: the effect is at most this (95%, one-sided, anytime-valid): below the
            tolerance just where ``log_fine`` is enough to pass.
        log_worse: largest evidence so far that the effect is more than negligible.
        log_fine: largest evidence so far that it is less than the tolerance.
        pulled: differences clipped from below and from above.
    """

    n: int
    effect: float
    low: float
    high: float
    bound: float
    log_worse: float
    log_fine: float
    pulled: tuple[int, int] = (0, 0)
    look: Look | None = None


def first_look(metric: Metric) -> int:
    """The fewest differences that may decide anything.

    A high percentile needs more of them than a median: what it is there to catch hits a
    minority of iterations, and so few may hold none of it.
    """
    from pytest_llmperf.stats.e_process import MIN_PAIRS
    from pytest_llmperf.stats.paired import TAIL_FIRST

    return TAIL_FIRST if metric.kind == "percentile" else MIN_PAIRS


def running(differences: tuple[float, ...], tolerance: float, metric: Metric) -> Running:
    """Return the state after all ``differences``, with a look after each that may decide.

    ``tolerance`` 0 is a limit instead of a zone: worse and fine are its two sides.
    """
    from pytest_llmperf.stats.paired import CLIP_LEAST, TAIL_CLIP_LEAST

    least = TAIL_CLIP_LEAST if metric.kind == "percentile" else CLIP_LEAST
    return _running(differences, tolerance, first_look(metric), least)


@lru_cache(maxsize=4096)
def _running(differences: tuple[float, ...], tolerance: float, first: int, least: float) -> Running:
    import numpy as np

    from pytest_llmperf.stats import paired

    n = len(differences)
    if n < first:
        effect = float(np.mean(paired.clip(differences, least))) if n else math.nan
        return Running(n, effect, -math.inf, math.inf, math.inf, 0.0, 0.0)
    taken = [_look(differences[:k], tolerance, least) for k in range(first, n + 1)]
    looks, ends = [look for look, _ in taken], [ends for _, ends in taken]
    last = looks[-1]
    effect = float(last.mean)
    # What one look has ruled out stays ruled out, as the largest evidence so far does;
    # an interval that has to hold the estimate as well is only the wider for it.
    return Running(
        n=n,
        effect=effect,
        low=min(max(low for low, _, _ in ends), effect),
        high=max(min(high for _, high, _ in ends), effect),
        bound=max(min(bound for _, _, bound in ends), effect),
        log_worse=max(float(look.log_worse) for look in looks),
        log_fine=max(float(look.log_fine) for look in looks),
        pulled=paired.clipped_sides(differences, least),
        look=last,
    )


@lru_cache(maxsize=1 << 16)
def _look(
    differences: tuple[float, ...], tolerance: float, least: float
) -> tuple[Look, tuple[float, float, float]]:
    """One look, and the ends of its interval and its bound: low, high, bound.

    Earlier looks were taken after earlier rounds, and are remembered.
    """
    from pytest_llmperf.stats.paired import bounds, look, upper_bound

    found = look(differences, zone_of(tolerance), least)
    low, high = bounds(found, LEVEL)
    return found, (float(low), float(high), float(upper_bound(found, LEVEL)))


def zone_of(tolerance: float) -> Zone:
    """The zone of a tolerance; of 0, a single line."""
    from pytest_llmperf.stats.paired import Zone

    return Zone.of(tolerance) if tolerance else Zone(0.0, 0.0, 0.0)


def is_worse(state: Running, tolerance: float, share: float) -> bool:
    """Whether the effect is proven to be more than negligible, and is near the tolerance."""
    return state.log_worse >= log_alarm(share) and may_be_called(state, tolerance)


def may_be_called(state: Running, tolerance: float) -> bool:
    """Whether the effect is near the tolerance, and the differences agree about it.

    A limit (tolerance 0) is missed by however few processes leave no doubt: a machine
    half of whose processes miss it does miss it.
    """
    from pytest_llmperf.stats import paired

    look = state.look
    if look is None or not tolerance:
        return look is not None and state.effect >= 0.0
    return bool(paired.may_be_called(look, zone_of(tolerance)))


def is_fine(state: Running, tolerance: float) -> bool:
    """Whether the effect is proven to be less than the tolerance, and still looks it.

    Samples go on for the sake of other checks; what they say now must not contradict it.
    """
    return state.log_fine >= LOG_PASS and state.effect < zone_of(tolerance).tolerance


def more_needed(state: Running, tolerance: float, share: float, first: int) -> int | None:
    """How many more differences would decide if they go on alike; None where none would."""
    from pytest_llmperf.stats.paired import least_to_call, pairs_needed

    if state.look is None:
        return max(first - state.n, 1)
    zone = zone_of(tolerance)
    totals = [pairs_needed(state.look, zone.tolerance, LOG_PASS, above=False)]
    if state.effect >= zone.least:
        total = pairs_needed(state.look, zone.negligible, log_alarm(share))
        totals.append(max(total, least_to_call()) if total and tolerance else total)
    known = [total for total in totals if total is not None]
    return max(min(known) - state.n, 1) if known else None
