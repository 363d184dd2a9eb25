"""Causes outside the configuration: findings of fitness checks while measuring.

Each cause is a fitness check and its remedy. A finding that made a run invalid is certain; a
warning is only worth looking into, and a note is ignored: a card at its power limit, or a
desktop on it, is normal on a healthy machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.gate.words import listed
from pytest_llmperf.machine.fitness import FitnessFinding

_PROCESS = re.compile(r"process (\d+)(?: \(([^)]*)\))?")
#: Checks whose findings name the processes to close.
_NAMING = frozenset({"busy_cores", "busy_gpu"})
#: Rows of: the check, its title, the estimated slowdown, the remedy, a hint.
_ROWS = (
    (
        "gpu_lost", "the GPU stops answering", 20.0, "reset the card, or restart the machine",
        "dmesg names the error (Xid)",
    ),
    (
        "cpu_quota", "a CPU quota stops the engine", 3.0,
        "raise the container's quota (docker run --cpus), or set n_threads below it", "",
    ),
    (
        "busy_gpu", "another process is on the GPU", 2.0,
        "stop what else is on the card: nvidia-smi lists it", "",
    ),
    (
        "busy_cores", "other processes use the engine's cores", 2.0,
        "stop what else runs on this host: it cannot be seen from here",
        "or use fewer threads (n_threads): all of them wait for one that has no core",
    ),
    (
        "memory_pressure", "processes wait for memory", 2.0, "close programs that hold memory",
        "or take a smaller model or n_ctx",
    ),
    (
        "gpu_throttled", "the GPU is throttled", 1.5, "cool the card: its fans, its dust, its case",
        "nvidia-smi -q -d PERFORMANCE says why",
    ),
    (
        "cpu_throttled", "the CPU is throttled", 1.5, "cool the CPU: its fan, its dust, its case",
        "",
    ),
    (
        "stolen_cores", "the host takes cores away", 1.5,
        "give this virtual machine cores of its own, or move it", "",
    ),
    (
        "gpu_power_cap", "the GPU's power is capped", 1.2,
        "raise the power limit: nvidia-smi -pl WATTS", "nvidia-smi -q -d POWER names the default",
    ),
    (
        "cpu_governor", "the CPU's frequency governor saves power", 1.2,
        "cpupower frequency-set -g performance", "",
    ),
    (
        "gpu_pcie", "the GPU's PCIe link is narrow", 1.1,
        "seat the card in a slot of its full width", "nvidia-smi -q -d PCIE names the link",
    ),
    (
        "traced", "a tracer or profiler slows the engine", 2.0,
        "run without that tool: it measures or debugs every Python process", "",
    ),
    (
        "debug_mode", "a debug mode slows the engine", 1.5,
        "unset the variable, or use a build that does not debug", "",
    ),
)  # fmt: skip
#: Checks that have a rule in ``memory_causes``.
_ELSEWHERE = frozenset({"swapping"})


def _check(
    situation: Situation, *, name: str, slower: float, change: str, hint: str
) -> CauseEvidence | None:
    finding = situation.fitness_finding(name)
    if finding is None or not _is_more_than_a_note(finding):
        return None
    if finding.evidence.get("needed_cores") == 1:
        hint = ""  # a single thread can't become fewer
    remedy = Remedy(change, hint=hint)
    if name in _NAMING and (named := _processes(finding.text)):
        remedy = replace(remedy, change=f"close {listed(named)}")
    elif default := finding.evidence.get("default_w"):
        remedy = replace(remedy, change=remedy.change.replace("WATTS", f"{default:.0f}"))
    certain = finding.severity == "invalid" or _is_certain(finding, situation)
    return CauseEvidence(finding.text, remedy, slower, certain=certain)


def _is_more_than_a_note(finding: FitnessFinding) -> bool:
    return finding.severity != "note" or _below_default(finding)


def _is_certain(finding: FitnessFinding, situation: Situation) -> bool:
    """Whether a warning is more than worth looking into."""
    if finding.name == "gpu_pcie":
        # Tokens cross the link only if layers are on several devices.
        on = sum(device.layers > 0 for device in situation.gpu_devices)
        return on > 1 or (on == 1 and 0.0 < situation.cpu_share < 1.0)
    return _below_default(finding)


def _below_default(finding: FitnessFinding) -> bool:
    """Whether a card's power limit is set below the maker's default."""
    evidence: Mapping[str, Any] = finding.evidence
    limit, default = evidence.get("limit_w"), evidence.get("default_w")
    return bool(
        finding.name == "gpu_power_cap" and limit and default and limit < 0.98 * float(default)
    )


def _processes(text: str) -> list[str]:
    """Return the processes that a finding names."""
    return [
        f"process {pid} ({name})" if name else f"process {pid}"
        for pid, name in dict.fromkeys(_PROCESS.findall(text))
    ]


def _unfit_machine(situation: Situation) -> CauseEvidence | None:
    """Return the findings of all other checks of the machine: invalid ones, else warnings."""
    with_rules = {row[0] for row in _ROWS} | _ELSEWHERE
    others = [
        finding
        for finding in situation.findings
        if finding.name not in with_rules
        and finding.severity != "note"
        and (finding.name not in CHECKS or CHECKS[finding.name].origin == "machine")
    ]
    if not others:
        return None
    unfit = [finding for finding in others if finding.severity == "invalid"]
    text = "; ".join(finding.text for finding in unfit or others)
    return CauseEvidence(text, Remedy("fix this, then measure again"), 1.3, certain=bool(unfit))


MACHINE_CAUSES = (
    *(
        Cause(
            name,
            title,
            "machine",
            partial(_check, name=name, slower=slower, change=change, hint=hint),
        )
        for name, title, slower, change, hint in _ROWS
    ),
    Cause("unfit_machine", "the machine is disturbed", "machine", _unfit_machine),
)
