"""The registry of fitness checks: the name of each, how severe it is by default, what it means.

The configuration sets a severity by these names (``perf.fitness``); findings,
reports and records use them. Nothing else in the code knows a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

#: ``invalid``: no speed may be judged; ``warn``: told first; ``note``: kept in the report.
Severity = Literal["note", "warn", "invalid"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

#: Whose doing it is. What the ``machine`` did, or what makes a ``measurement`` void, may be
#: invalid; what the ``configuration`` (or the commit) did is judged, and named as the cause.
Doing = Literal["machine", "measurement", "configuration"]


@dataclass(frozen=True)
class FitnessCheck:
    """One thing that can be wrong with a machine or a measurement.

    Attributes:
        name: what configuration, findings and files call it.
        severity: the most severe it gets by default; a check may find less.
        doing: whose doing it is.
        what: what it means, in one line.
    """

    name: str
    severity: Severity
    doing: Doing
    what: str


CHECKS: dict[str, FitnessCheck] = {
    check.name: check
    for check in (
        FitnessCheck("busy_cores", "invalid", "machine", "other processes used the engine's cores"),
        FitnessCheck(
            "stolen_cores", "invalid", "machine", "the host gave CPU time to other machines"
        ),
        FitnessCheck("swapping", "invalid", "machine", "memory was read back from swap"),
        FitnessCheck("busy_gpu", "invalid", "machine", "another process was on the GPU"),
        FitnessCheck(
            "gpu_throttled", "invalid", "machine", "the GPU lowered its clocks (heat, power supply)"
        ),
        FitnessCheck("gpu_power_cap", "note", "machine", "the GPU ran at its power limit"),
    )
}
