"""The registry of fitness checks: name, default severity and meaning of each.

The configuration sets a severity by these names (``perf.fitness``); findings,
reports and records use them. Nothing else in the code knows a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

#: ``invalid``: no speed may be judged; ``warn``: reported first; ``note``: kept in the report.
Severity = Literal["note", "warn", "invalid"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

#: Origin of a problem. A problem of the ``machine`` or the ``measurement`` may be invalid; an
#: effect of the ``configuration`` (or the commit) is judged, and named as the cause.
Origin = Literal["machine", "measurement", "configuration"]


@dataclass(frozen=True)
class FitnessCheck:
    """A check for one possible problem of a machine or a measurement.

    Attributes:
        name: its name in configuration, findings and files.
        severity: maximum severity by default; a finding may be less severe.
        origin: origin of the problem.
        meaning: one line for the docs and the JSON schema.
        hits_both: two processes that alternate within a fraction of a second are hit alike, so
            the difference between them stays valid.
        needs_both: it voids a pair only if found on both sides; on one side alone it is a
            difference that the comparison is about.
    """

    name: str
    severity: Severity
    origin: Origin
    meaning: str
    hits_both: bool = False
    needs_both: bool = False


CHECKS: dict[str, FitnessCheck] = {
    check.name: check
    for check in (
        FitnessCheck(
            "busy_cores",
            "invalid",
            "machine",
            "other processes used the engine's cores",
            hits_both=True,
        ),
        FitnessCheck(
            "stolen_cores",
            "invalid",
            "machine",
            "the host gave CPU time to other machines",
            hits_both=True,
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
            "cpu_quota",
            "invalid",
            "machine",
            "the container's CPU quota stopped the engine",
            hits_both=True,
        ),
        FitnessCheck(
            "cpu_throttled",
            "invalid",
            "machine",
            "the CPU lowered its clocks: too hot",
            hits_both=True,
        ),
        FitnessCheck("cpu_clock", "warn", "machine", "the CPU's clock fell from first to last"),
        FitnessCheck("clocks_differ", "invalid", "machine", "the clocks of the two sides differed"),
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
            "gpu_persistence", "note", "machine", "the GPU is initialised again for every process"
        ),
        FitnessCheck(
            "prompt_cached", "invalid", "measurement", "part of the prompt came out of a cache"
        ),
        FitnessCheck(
            "cache_hits_differ",
            "invalid",
            "measurement",
            "the servers of the two sides took other shares of the prompts from their caches",
        ),
        FitnessCheck(
            "cache_unknown",
            "warn",
            "measurement",
            "it is unknown how much of the prompts came from a server's cache",
        ),
        FitnessCheck(
            "cut_short", "invalid", "measurement", "fewer tokens came out than were recorded"
        ),
        FitnessCheck(
            "other_work", "invalid", "measurement", "a replay did other work than was recorded"
        ),
        FitnessCheck(
            "failed_requests",
            "invalid",
            "measurement",
            "more requests of a load failed than the test accepts",
            needs_both=True,
        ),
        FitnessCheck(
            "client_slip", "invalid", "measurement", "the client sent a load's requests late"
        ),
        FitnessCheck(
            "client_busy", "invalid", "measurement", "the client may be what limits a load"
        ),
        FitnessCheck(
            "rate_not_reached",
            "invalid",
            "measurement",
            "fewer requests per second were sent than the load asks for",
        ),
        FitnessCheck(
            "other_lengths",
            "invalid",
            "measurement",
            "answers to a load are longer or shorter than was asked for",
        ),
        FitnessCheck(
            "over_saturated",
            "invalid",
            "measurement",
            "the requests in flight grew as long as the load lasted",
            needs_both=True,
        ),
        FitnessCheck(
            "server_restarted",
            "invalid",
            "measurement",
            "a server that runs already was restarted during the session",
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


def disturbs(name: str, severity: str) -> bool:
    """Whether a finding is a disturbance by the machine, which reports list before any speed."""
    check = CHECKS.get(name)
    return severity != "note" and (check is None or check.origin == "machine")


def configured_severity(
    name: str, severity: Severity, configured: Mapping[str, Severity]
) -> Severity:
    """Return the severity of a finding with the settings of ``perf.fitness``.

    The configured severity replaces the check's maximum; a finding below the default maximum
    keeps its severity, but never exceeds the configured one.
    """
    asked = configured.get(name)
    if asked is None:
        return severity
    check = CHECKS.get(name)
    if check is None or severity == check.severity:
        return asked
    return min(severity, asked, key=SEVERITIES.index)
