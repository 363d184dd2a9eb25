"""Planning: the smallest slowdown that a number of pairs can call, and the pairs to pass.

``sd`` is the standard deviation of one pair's difference (natural log), ``log_alarm`` and
``log_pass`` the ln E to reach. Figures are for the look after the last pair, in the normal
approximation to the mean; earlier looks can only add to the chance of a decision.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from pytest_llmperf.stats.e_process import MIN_PAIRS, critical_t
from pytest_llmperf.stats.paired import Zone, min_pairs_to_call, smallest_reaching

#: Maximum number of pairs in a plan.
MAX_PAIRS = 400


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


def pairs_to_pass(sd: float, log_pass: float, tolerance: float, power: float = 0.5) -> int | None:
    """Pairs until an unchanged check passes with chance ``power``; None above 400."""
    room = Zone.of(tolerance).tolerance
    z = NormalDist().inv_cdf(power)

    def reached(pairs: int) -> bool:
        critical = critical_t(pairs, log_pass)
        return math.isfinite(critical) and (critical + z) * sd / math.sqrt(pairs) <= room

    return smallest_reaching(reached, MIN_PAIRS, MAX_PAIRS)
