"""Error rates and thresholds of the gate; the mathematics is in ``stats``."""

from __future__ import annotations

import math

#: Chance per session that any check with a negligible change is called ``regressed``.
FALSE_ALARMS = 0.01
#: Chance that a check passes although it is slower by its whole tolerance.
FALSE_PASSES = 0.05
#: Confidence of every interval and bound that is shown.
LEVEL = 0.95
#: Evidence needed to pass, on the log scale.
LOG_PASS = math.log(1.0 / FALSE_PASSES)
#: Part of a check's share for the stored baseline; the rest is for creep from its anchor.
CREEP_SHARE = 0.5
#: Number of newest sessions, this one included, whose level is compared with the anchor.
RECENT = 3


def log_alarm(share: float) -> float:
    """Return the evidence, on the log scale, that an alarm with this share of the rate needs."""
    return math.log(1.0 / share)


def slowdown(log_ratio: float) -> float:
    """Convert a difference on the log scale to a fraction: 0.05 is 5% slower."""
    return math.expm1(min(log_ratio, 700.0))
