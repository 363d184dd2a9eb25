"""Error rates and thresholds of the gate; the mathematics is in ``stats``."""

from __future__ import annotations

import math

#: Chance per session that any check with a negligible change is called ``regressed``.
FALSE_ALARMS = 0.01
#: Chance that one check which is slower by its whole tolerance passes.
FALSE_PASSES = 0.05
#: Confidence of every interval and bound that is shown.
LEVEL = 0.95
#: Evidence needed to pass, on the log scale.
LOG_PASS = math.log(1.0 / FALSE_PASSES)
#: A stored baseline and a slow creep from its anchor are two comparisons of one check.
CREEP_SHARE = 0.5
#: Number of sessions that make the present level in the check for creeping, this one included.
RECENT = 3


def log_alarm(share: float) -> float:
    """Evidence, on the log scale, needed for an alarm with this share of the rate."""
    return math.log(1.0 / share)


def slowdown(log_ratio: float) -> float:
    """Convert a difference on the log scale to a fraction: 0.05 is 5% slower."""
    return math.expm1(min(log_ratio, 700.0))
