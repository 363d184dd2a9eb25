"""What the gate promises and where it draws its lines; the mathematics is in ``stats``."""

from __future__ import annotations

import math

#: Chance per session that any check with a negligible change is called ``regressed``.
FALSE_ALARMS = 0.01
#: Chance that one check which is slower by its whole tolerance passes.
FALSE_PASSES = 0.05
#: Confidence of every interval and bound that is shown.
LEVEL = 0.95
#: Evidence that a pass asks for, on the log scale.
LOG_PASS = math.log(1.0 / FALSE_PASSES)
#: A stored baseline and a slow creep from its anchor are two comparisons of one check.
CREEP_SHARE = 0.5
#: Sessions that count as the present level when creeping is looked for, this one included.
RECENT = 3


def log_alarm(share: float) -> float:
    """The evidence, on the log scale, that an alarm asks for with this share of the rate."""
    return math.log(1.0 / share)


def slowdown(log_ratio: float) -> float:
    """A difference on the log scale as a fraction: 0.05 is 5% slower."""
    return math.expm1(min(log_ratio, 700.0))
