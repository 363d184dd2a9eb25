"""Fitness checks of the machine's load: rules that turn measured load into findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_llmperf.fitness_checks import SEVERITIES, Severity, applied
from pytest_llmperf.machine.load import BusyReport

#: Share of the cores, and number of cores, that others may use without a warning.
FOREIGN_WARN_SHARE, FOREIGN_WARN_CORES = 0.10, 0.15
#: Cores that the engine's threads may lack before its speed is invalid.
LACKING_INVALID = 0.3
STEAL_WARN_SHARE, STEAL_INVALID_SHARE = 0.05, 0.10
#: A few stray pages read back from swap slow nothing down.
SWAP_INVALID_BYTES = 1 << 20
#: A process with fewer cores than this would be printed as 0.0.
_WORTH_A_NAME = 0.05
#: CPU counters tick every 10 ms; a shorter window is mostly rounding.
SHORTEST_WINDOW = 0.5


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


def worst_first(findings: Iterable[FitnessFinding]) -> list[FitnessFinding]:
    """Return findings in the order of their severity."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def with_severities(
    findings: Iterable[FitnessFinding], configured: Mapping[str, Severity]
) -> list[FitnessFinding]:
    """Apply the severities of ``perf.fitness`` to findings, worst first."""
    return worst_first(
        replace(finding, severity=applied(finding.name, finding.severity, configured))
        for finding in findings
    )


def judge(report: BusyReport, usable_cores: int, n_threads: int) -> list[FitnessFinding]:
    """Return the findings about other load, worst first.

    ``n_threads`` above ``usable_cores`` is due to the configuration, so the engine needs the
    smaller of both.
    """
    findings = [
        *_cores(report, min(n_threads, usable_cores)),
        *_steal(report),
        *_swap(report),
    ]
    return worst_first(findings)


def _cores(report: BusyReport, needed: int) -> Iterator[FitnessFinding]:
    if report.seconds < SHORTEST_WINDOW:
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
        effect = f": {needed} engine threads had {max(0.0, report.cpus - foreign):.1f} cores left"
        yield FitnessFinding("busy_cores", "invalid", _who(report) + effect, evidence)
    elif foreign >= max(FOREIGN_WARN_CORES, FOREIGN_WARN_SHARE * report.cpus):
        yield FitnessFinding("busy_cores", "warn", _who(report), evidence)


def _who(report: BusyReport) -> str:
    """Name the one process that is nearly all of the load, else the sum and its largest parts."""
    cores, total = report.foreign_cores, _cores_text(report.cpus)
    named = [f"process {top.pid} ({top.name})" for top in report.top]
    if report.top and report.top[0].cores >= 0.8 * cores:
        return f"{named[0]} used {report.top[0].cores:.1f} of {total} while measuring"
    text = f"other processes used {cores:.1f} of {total} while measuring"
    if not named:
        return f"{text} (which ones cannot be seen from here: another container, user or the host)"
    parts = [
        f"{name} {top.cores:.1f}"
        for name, top in zip(named, report.top, strict=True)
        if top.cores >= _WORTH_A_NAME
    ]
    return f"{text} (most: {', '.join(parts)})" if parts else text


def _cores_text(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _steal(report: BusyReport) -> Iterator[FitnessFinding]:
    share = report.steal_cores / report.cpus
    if report.seconds < SHORTEST_WINDOW or share < STEAL_WARN_SHARE:
        return
    yield FitnessFinding(
        "stolen_cores",
        "invalid" if share >= STEAL_INVALID_SHARE else "warn",
        f"the host gave {share:.0%} of this virtual machine's CPU time to others "
        f"({report.steal_cores:.1f} of {_cores_text(report.cpus)} stolen) while measuring",
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
            f"the system read {_mib(report.swapped_bytes)} back from swap while measuring: "
            "memory is short",
            {"seconds": round(report.seconds, 3), "swapped_in_bytes": report.swapped_bytes},
        )


def _mib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
