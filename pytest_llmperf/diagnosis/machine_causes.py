"""Causes outside the configuration: what fitness checks found of the machine while measuring."""

from __future__ import annotations

import re
from collections.abc import Callable

from pytest_llmperf.diagnosis.cause import Cause, Evidence, Remedy
from pytest_llmperf.diagnosis.situation import Situation
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.gate.words import listed

_PROCESS = re.compile(r"process (\d+)(?: \(([^)]*)\))?")
_Look = Callable[[Situation], Evidence | None]


def _close(text: str, otherwise: str) -> Remedy:
    """Name the processes to close, as the finding names them."""
    named = [
        f"process {pid} ({name})" if name else f"process {pid}"
        for pid, name in dict.fromkeys(_PROCESS.findall(text))
    ]
    return Remedy(f"close {listed(named)}" if named else otherwise)


def _finding(name: str, slower: float, remedy: Callable[[str], Remedy]) -> _Look:
    """A rule that is a fitness check: what it found, where that is worth more than a note."""

    def look(situation: Situation) -> Evidence | None:
        found = situation.found(name)
        if found is None or found.severity == "note":
            return None
        # A warning's load is too small to make a run unfit to judge.
        certain = found.severity == "invalid"
        return Evidence(found.text, remedy(found.text), slower, certain=certain)

    return look


def _always(change: str, hint: str = "") -> Callable[[str], Remedy]:
    return lambda _: Remedy(change, hint=hint)


_BUSY_CORES = _finding(
    "busy_cores",
    2.0,
    lambda text: _close(text, "stop what else runs on this host: it cannot be seen from here"),
)
_BUSY_GPU = _finding(
    "busy_gpu",
    2.0,
    lambda text: _close(text, "stop what else is on the card: nvidia-smi lists it"),
)
_STOLEN = _finding(
    "stolen_cores", 1.5, _always("give this virtual machine cores of its own, or move it")
)
_THROTTLED = _finding(
    "gpu_throttled",
    1.5,
    _always("cool the card: its fans, its dust, its case", "nvidia-smi -q -d PERFORMANCE says why"),
)
_POWER_CAP = _finding(
    "gpu_power_cap",
    1.2,
    _always(
        "raise the power limit: nvidia-smi -pl WATTS", "nvidia-smi -q -d POWER names the default"
    ),
)
_PCIE = _finding(
    "gpu_pcie",
    1.1,
    _always("seat the card in a slot of its full width", "nvidia-smi -q -d PCIE names the link"),
)
#: Checks of the machine that have a rule of their own.
_OWN = frozenset(
    {
        "busy_cores", "busy_gpu", "stolen_cores", "gpu_throttled", "gpu_power_cap", "gpu_pcie",
        "swapping",
    }
)  # fmt: skip


def _unfit_machine(situation: Situation) -> Evidence | None:
    """What other checks of the machine found, so that nothing unfit is kept from a reader."""
    for found in situation.findings:
        check = CHECKS.get(found.name)
        machine = check is None or check.doing == "machine"
        if machine and found.severity == "invalid" and found.name not in _OWN:
            change = "mend what is named, and measure again"
            return Evidence(found.text, Remedy(change), 1.3)
    return None


MACHINE_CAUSES = (
    Cause("gpu_throttled", "the GPU is throttled", "machine", _THROTTLED),
    Cause("gpu_power_cap", "the GPU's power is capped", "machine", _POWER_CAP),
    Cause("pcie_narrow", "the GPU's PCIe link is narrow", "machine", _PCIE),
    Cause("busy_gpu", "another process is on the GPU", "machine", _BUSY_GPU),
    Cause("busy_cores", "other processes use the engine's cores", "machine", _BUSY_CORES),
    Cause("stolen_cores", "the host takes cores away", "machine", _STOLEN),
    Cause("unfit_machine", "the machine is not fit", "machine", _unfit_machine),
)
