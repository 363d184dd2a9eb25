"""Fitness checks of the machine: rules that turn its load and its counters into findings.

The rules of GPUs are in ``gpu/fitness.py``; names and severities in ``fitness_checks.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, TypeVar

from pytest_llmperf.fitness_checks import SEVERITIES, Severity, configured_severity
from pytest_llmperf.machine.host import HostReport
from pytest_llmperf.machine.load import BusyReport
from pytest_llmperf.text import count
from pytest_llmperf.units import format_duration

#: Share of the cores, and number of cores, that others may use without a warning.
FOREIGN_WARN_SHARE, FOREIGN_WARN_CORES = 0.10, 0.15
#: Number of cores missing for the engine's threads from which its speed is invalid.
LACKING_INVALID = 0.3
STEAL_WARN_SHARE, STEAL_INVALID_SHARE = 0.05, 0.10
#: A few stray pages read back from swap slow nothing down.
SWAP_INVALID_BYTES = 1 << 20
#: A process with fewer cores than this would be printed as 0.0.
_WORTH_A_NAME = 0.05
#: CPU counters tick every 10 ms; a shorter window is mostly rounding.
_SHORTEST_WINDOW = 0.5
#: Shares of a window. When all processes stop, so does the engine; a slowdown of 1% is negligible.
FULL_INVALID_SHARE, SOME_WARN_SHARE = 0.01, 0.05
STOPPED_INVALID_SHARE = HEAT_INVALID_SHARE = 0.01
#: A few stray pages of libraries slow nothing down; each fault reads 16 KiB or more.
FAULTS_INVALID = 16
#: Reported drop of the clock from the first readings to the last, and the number of each.
CLOCK_WARN_FALL, CLOCK_LOOKS = 0.10, 3
#: Governors that keep the clock low, or raise it late.
_SLOW_GOVERNORS = ("powersave", "conservative")
#: Drivers whose ``powersave`` governor follows the load instead of keeping the clock low.
_ADAPTIVE_DRIVERS = ("intel_pstate", "amd-pstate-epp", "amd-pstate")
_SAVING_PREFERENCES = ("power", "balance_power")


@dataclass(frozen=True)
class FitnessFinding:
    """A finding of a fitness check: a problem that affects the numbers.

    Attributes:
        name: the check's name in ``fitness_checks.CHECKS``.
        severity: ``invalid`` means that no speed may be judged.
        text: the observation in words, with names and loads.
        evidence: the numbers behind it, plain JSON types.
    """

    name: str
    severity: Severity
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the text and the name by which the configuration sets its severity."""
        return f"{self.text} ({self.name})"

    @property
    def rank(self) -> int:
        """Severity as a number; higher is worse."""
        return SEVERITIES.index(self.severity)


_Finding = TypeVar("_Finding", bound=FitnessFinding)


@dataclass(frozen=True)
class HostNeeds:
    """Memory and cores that an engine needs on its host.

    Attributes:
        mapped_bytes: bytes of the model that are mapped from its file (0: none).
        threads: number of its CPU threads.
        cores: number of cores that this process may use.
    """

    mapped_bytes: int = 0
    threads: int = 1
    cores: int = 1


def worst_first(findings: Iterable[_Finding]) -> list[_Finding]:
    """Return findings in the order of their severity."""
    return sorted(findings, key=lambda finding: -finding.rank)


def worst_of_each(findings: Iterable[FitnessFinding]) -> tuple[FitnessFinding, ...]:
    """Return the worst finding of each check, in order of first appearance."""
    worst: dict[str, FitnessFinding] = {}
    for finding in findings:
        known = worst.get(finding.name)
        if known is None or finding.rank > known.rank:
            worst[finding.name] = finding
    return tuple(worst.values())


def with_severities(
    findings: Iterable[FitnessFinding], configured: Mapping[str, Severity]
) -> list[FitnessFinding]:
    """Apply the severities of ``perf.fitness`` to findings, worst first."""
    return worst_first(
        replace(finding, severity=configured_severity(finding.name, finding.severity, configured))
        for finding in findings
    )


def judge(report: BusyReport, need: HostNeeds) -> list[FitnessFinding]:
    """Return the findings about other load, worst first."""
    return worst_first([*_cores(report, need), *_steal(report), *_swap(report)])


def _cores(report: BusyReport, need: HostNeeds) -> Iterator[FitnessFinding]:
    # Threads beyond the usable cores are the configuration's doing and need no further cores.
    needed = min(need.threads, need.cores)
    if report.seconds < _SHORTEST_WINDOW:
        return
    foreign = report.foreign_cores
    lacking = needed - (report.cpus - foreign)
    evidence = {
        "seconds": round(report.seconds, 3),
        "foreign_cores": round(foreign, 3),
        "cores": report.cpus,
        "needed_cores": needed,
        "processes": [
            {"pid": top.pid, "name": top.name, "cores": round(top.cores, 3)} for top in report.top
        ],
    }
    if lacking >= LACKING_INVALID:
        left = max(0.0, report.cpus - foreign)
        effect = f": {count(needed, 'engine thread')} had {left:.1f} cores left"
        yield FitnessFinding("busy_cores", "invalid", _who(report) + effect, evidence)
    elif foreign >= max(FOREIGN_WARN_CORES, FOREIGN_WARN_SHARE * report.cpus):
        yield FitnessFinding("busy_cores", "warn", _who(report), evidence)


def _who(report: BusyReport) -> str:
    """Name the process that causes nearly all of the load, else the total and its largest parts."""
    cores, total = report.foreign_cores, count(report.cpus, "core")
    named = [f"process {top.pid} ({top.name})" for top in report.top]
    if report.top and report.top[0].cores >= 0.8 * cores:
        return f"{named[0]} used {report.top[0].cores:.1f} of {total} while measuring"
    text = f"other processes used {cores:.1f} of {total} while measuring"
    if not named:
        return (
            f"{text} (not visible from here: in another container, another user's, or the host's)"
        )
    parts = [
        f"{name} {top.cores:.1f}"
        for name, top in zip(named, report.top, strict=True)
        if top.cores >= _WORTH_A_NAME
    ]
    return f"{text} (mainly {', '.join(parts)})" if parts else text


def _steal(report: BusyReport) -> Iterator[FitnessFinding]:
    share = report.steal_cores / report.cpus
    if report.seconds < _SHORTEST_WINDOW or share < STEAL_WARN_SHARE:
        return
    yield FitnessFinding(
        "stolen_cores",
        "invalid" if share >= STEAL_INVALID_SHARE else "warn",
        f"the host gave {share:.0%} of this virtual machine's CPU time to others "
        f"({report.steal_cores:.1f} of {count(report.cpus, 'core')} stolen) while measuring",
        {
            "seconds": round(report.seconds, 3),
            "stolen_cores": round(report.steal_cores, 3),
            "cores": report.cpus,
        },
    )


def _swap(report: BusyReport) -> Iterator[FitnessFinding]:
    if report.swapped_bytes >= SWAP_INVALID_BYTES:
        yield FitnessFinding(
            "swapping",
            "invalid",
            f"the system read {size(report.swapped_bytes)} back from swap while measuring: "
            "memory is short",
            {"seconds": round(report.seconds, 3), "swapped_in_bytes": report.swapped_bytes},
        )


def judge_host(report: HostReport, need: HostNeeds) -> list[FitnessFinding]:
    """Return the findings about the host, worst first; [] also if nothing can be read."""
    return worst_first(
        [
            *_pressure(report),
            *_memory(report, need),
            *_faults(report),
            *_quota(report, need),
            *_heat(report),
            *_clock(report),
            *_governor(report),
        ]
    )


def _pressure(report: HostReport) -> Iterator[FitnessFinding]:
    some, full = report.counters.some_us, report.counters.full_us
    if some is None or report.seconds < _SHORTEST_WINDOW:
        return
    some_share, full_share = (us / 1e6 / report.seconds for us in (some, full or 0))
    evidence = {
        "seconds": round(report.seconds, 3),
        "some_share": round(some_share, 4),
        "full_share": round(full_share, 4),
    }
    if full_share >= FULL_INVALID_SHARE:
        text = f"all processes waited for memory {full_share:.0%} of the time while measuring"
        yield FitnessFinding("memory_pressure", "invalid", text, evidence)
    elif some_share >= SOME_WARN_SHARE:
        text = f"some process waited for memory {some_share:.0%} of the time while measuring"
        yield FitnessFinding("memory_pressure", "warn", text, evidence)


def _memory(report: HostReport, need: HostNeeds) -> Iterator[FitnessFinding]:
    available = report.available_bytes
    if available is None or available >= need.mapped_bytes:
        return
    yield FitnessFinding(
        "memory_pressure",
        "warn",
        f"only {size(available)} of memory was available while measuring, less than the "
        f"{size(need.mapped_bytes)} of the model that are mapped from its file",
        {"available_bytes": available, "mapped_bytes": need.mapped_bytes},
    )


def _faults(report: HostReport) -> Iterator[FitnessFinding]:
    if report.faults is None or report.faults < FAULTS_INVALID:
        return
    read = f" ({size(report.read_bytes)} read from disk)" if report.read_bytes else ""
    yield FitnessFinding(
        "major_faults",
        "invalid",
        f"the engine waited {report.faults} times for memory to be read back from a file"
        f"{read} while measuring: a memory-mapped model did not stay in memory",
        {"major_faults": report.faults, "read_bytes": report.read_bytes},
    )


def _quota(report: HostReport, need: HostNeeds) -> Iterator[FitnessFinding]:
    stops, stopped_us = report.counters.stops, report.counters.stopped_us
    if not stops or not stopped_us:
        return
    share = stopped_us / 1e6 / report.seconds / need.cores
    # Engine threads that spin on every core of the quota leave nothing to its other processes.
    takes_whole_quota = need.threads >= need.cores
    text = (
        f"a CPU quota (cgroup) stopped this session's processes {count(stops, 'time')}, for "
        f"{format_duration(stopped_us / 1e6)} in {format_duration(report.seconds)}, while measuring"
    )
    if takes_whole_quota:
        # The configuration takes up the whole quota: that is judged.
        threads = count(need.threads, "engine thread")
        text += f": {threads} on {count(need.cores, 'usable core')}"
    yield FitnessFinding(
        "cpu_quota",
        "note" if share < STOPPED_INVALID_SHARE else "warn" if takes_whole_quota else "invalid",
        text,
        {
            "seconds": round(report.seconds, 3),
            "stops": stops,
            "stopped_seconds": round(stopped_us / 1e6, 6),
            "threads": need.threads,
            "cores": need.cores,
        },
    )


def _heat(report: HostReport) -> Iterator[FitnessFinding]:
    events, lasted = report.counters.heat_events, report.counters.heat_ms
    if not events:
        return
    share = None if lasted is None else lasted / 1000 / report.seconds
    watched = format_duration(report.seconds)
    time = "" if lasted is None else f", for {format_duration(lasted / 1000)} in {watched},"
    yield FitnessFinding(
        "cpu_throttled",
        "invalid" if share is None or share >= HEAT_INVALID_SHARE else "warn",
        f"the CPU was too hot and lowered its clocks {count(events, 'time')}{time} while measuring",
        {"seconds": round(report.seconds, 3), "events": events, "milliseconds": lasted},
    )


def _clock(report: HostReport) -> Iterator[FitnessFinding]:
    clocks = report.clocks_mhz
    if len(clocks) < 2 * CLOCK_LOOKS:
        return
    # Several readings, because a single one may be of an idle core.
    first, last = median(clocks[:CLOCK_LOOKS]), median(clocks[-CLOCK_LOOKS:])
    if last <= first * (1 - CLOCK_WARN_FALL):
        yield FitnessFinding(
            "cpu_clock",
            "warn",
            f"the CPU's clock fell from {first / 1000:.2f} to {last / 1000:.2f} GHz while "
            "measuring",
            {"first_mhz": first, "last_mhz": last, "looks": len(clocks)},
        )


def _governor(report: HostReport) -> Iterator[FitnessFinding]:
    for governor in report.governors:
        if governor.name not in _SLOW_GOVERNORS:
            continue
        adaptive = governor.driver in _ADAPTIVE_DRIVERS and governor.name == "powersave"
        if adaptive and governor.preference not in _SAVING_PREFERENCES:
            continue
        detail = f", energy preference {governor.preference}" if adaptive else ""
        yield FitnessFinding(
            "cpu_governor",
            "warn",
            f"the CPU's frequency governor is {governor.name} "
            f"({governor.driver or 'driver unknown'}{detail}): it saves power, not time",
            {
                "governor": governor.name,
                "driver": governor.driver,
                "energy_performance_preference": governor.preference,
            },
        )


def size(number: int) -> str:
    """Format a number of bytes for a reader."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
