"""The registry of fitness checks: the name of each, how severe it is by default, what it means.

The configuration sets a severity by these names (``perf.fitness``); findings,
reports and records use them. Nothing else in the code knows a default.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        FitnessCheck(
            "memory_pressure",
            "invalid",
            "machine",
            "processes had to wait for memory, or it is short",
        ),
        FitnessCheck(
            "major_faults", "invalid", "machine", "the engine read its memory back from a file"
        ),
        FitnessCheck(
            "cpu_quota", "invalid", "machine", "the container's CPU quota stopped the engine"
        ),
        FitnessCheck("cpu_throttled", "invalid", "machine", "the CPU lowered its clocks: too hot"),
        FitnessCheck("cpu_clock", "warn", "machine", "the CPU's clock fell from first to last"),
        FitnessCheck("cpu_governor", "warn", "machine", "the CPU's frequency governor saves power"),
        FitnessCheck("busy_gpu", "invalid", "machine", "another process was on the GPU"),
        FitnessCheck(
            "gpu_throttled", "invalid", "machine", "the GPU lowered its clocks (heat, power supply)"
        ),
        FitnessCheck("gpu_power_cap", "note", "machine", "the GPU ran at its power limit"),
        FitnessCheck(
            "gpu_clocks_low", "warn", "machine", "the GPU's clocks were far below their highest"
        ),
        FitnessCheck(
            "gpu_clock_drift", "warn", "machine", "the GPU's clocks changed within one process"
        ),
        FitnessCheck("gpu_hot", "warn", "machine", "the GPU was about to slow down for heat"),
        FitnessCheck("gpu_memory_pressure", "warn", "machine", "the GPU had little memory free"),
        FitnessCheck("gpu_others_grew", "warn", "machine", "others took more of the GPU's memory"),
        FitnessCheck("gpu_pcie", "warn", "machine", "the GPU's PCIe link was below its maximum"),
        FitnessCheck("gpu_ecc", "invalid", "machine", "the GPU's memory had uncorrected errors"),
        FitnessCheck("gpu_xid", "invalid", "machine", "the driver reported a critical error"),
        FitnessCheck("gpu_lost", "invalid", "machine", "the GPU stopped answering"),
        FitnessCheck(
            "gpu_persistence", "note", "machine", "the GPU is initialised for every process anew"
        ),
        FitnessCheck(
            "prompt_cached", "invalid", "measurement", "part of the prompt came out of a cache"
        ),
        FitnessCheck(
            "cut_short", "invalid", "measurement", "fewer tokens came out than were recorded"
        ),
        FitnessCheck(
            "other_work", "invalid", "measurement", "a replay did other work than was recorded"
        ),
        FitnessCheck(
            "traced",
            "invalid",
            "measurement",
            "a tracer, profiler or debugger was on in the engine",
        ),
        FitnessCheck(
            "debug_mode", "invalid", "measurement", "the engine's process ran in a debug mode"
        ),
        FitnessCheck(
            "threads_beyond_cores", "warn", "configuration", "more threads than usable cores"
        ),
        FitnessCheck(
            "other_backend", "warn", "configuration", "another backend than the baseline's"
        ),
        FitnessCheck(
            "other_layers", "warn", "configuration", "other layers on the GPU than the baseline's"
        ),
        FitnessCheck(
            "other_threads", "warn", "configuration", "other thread counts than the baseline's"
        ),
        FitnessCheck("other_build", "warn", "configuration", "another build than the baseline's"),
    )
}


def applied(name: str, found: Severity, configured: Mapping[str, Severity]) -> Severity:
    """Return how severe a finding is where ``perf.fitness`` sets its check.

    The configured severity takes the place of the most severe the check gets by default;
    what the check itself found to be less stays less, and at most as configured.
    """
    asked = configured.get(name)
    if asked is None:
        return found
    check = CHECKS.get(name)
    if check is None or found == check.severity:
        return asked
    return min(found, asked, key=SEVERITIES.index)
