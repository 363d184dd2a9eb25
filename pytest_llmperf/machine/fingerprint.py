"""The machine's fingerprint: a readable key, strict items that decide speed, and other facts."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Annotated, Any

from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.cpu import Cpu, clock_facts, read_cpu, short_name
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.stored_json import NOT_STORED, Stored, expect

#: Maximum length of a key, which is a folder's name on any file system.
KEY_LENGTH = 80
#: Memory totals move a little with firmware, kernel and ECC settings.
MEMORY_TOLERANCE = 0.05
#: Text of an unknown value.
UNKNOWN = "unknown"
_GIB = 2**30
_GPU_NOISE = re.compile(
    r"\b(?:nvidia|geforce|tesla|amd|radeon|graphics|gpu|generation|intel|corporation)\b"
    r"|\((?:r|tm|c)\)|®|™|\b\d+ ?g(?:i?b)?\b|\bhbm\w*\b",
    re.IGNORECASE,
)

#: Items that must agree for two fingerprints to be of the same hardware, whatever the backend.
_HOST = (
    "cpu",
    "usable cores",
    "cpu family/model/stepping",
    "cpu instructions",
    "memory GiB",
)
#: Items of a fingerprint that list one value per GPU.
_CARD = ("gpus", "gpu memory GiB", "gpu MIG profile", "gpu power limit W")
#: GPUs emulated on the CPU.
_SOFTWARE = re.compile(r"llvmpipe|lavapipe|swiftshader", re.IGNORECASE)

#: A machine's key in files.
Key = Annotated[str, expect("a machine's key", lambda key: key == safe_name(key))]


@dataclass(frozen=True)
class Machine(Stored):
    """Fingerprint of the machine of a measurement.

    Attributes:
        key: readable, safe as a folder's name: ``1x-rtx-4090-24gib_cuda``.
        strict: items that decide speed; machines are compared only if all of them agree.
        info: other items, shown if they differ.
        present: items of all the machine's GPUs, used or not; empty for a stored fingerprint.
    """

    key: Key
    strict: dict[str, Any]
    info: dict[str, Any]
    present: dict[str, Any] = field(default_factory=dict, compare=False, metadata=NOT_STORED)


@dataclass(frozen=True)
class Difference:
    """One item that differs, with both values as text."""

    item: str
    baseline: str
    current: str

    def __str__(self) -> str:
        return f"{self.item}: baseline {self.baseline}, now {self.current}"


def safe_name(text: str) -> str:
    """Reduce any text to ``[a-z0-9._-]``, at most ``KEY_LENGTH`` long, never hidden or empty."""
    name = re.sub(r"[^a-z0-9._]+", "-", text.lower())
    name = re.sub(r"-*([._])[-._]*", r"\1", name)[:KEY_LENGTH].strip("-._")
    return name or "unknown"


def machine_key(backend: str, cpu: str, cores: int, gpus: Sequence[Gpu] = ()) -> str:
    """Return a machine's key: named by its GPUs if the backend uses any, else by its CPU.

    ``cpu`` is a short name (``Xeon sapphire-rapids``) and ``cores`` the number
    that this process may use.
    """
    if backend == "cpu" or not gpus:
        body = f"{_slug(cpu)[:50].strip('-._') or 'unknown-cpu'}-{cores}c"
    else:
        groups = [(name, len(list(same))) for name, same in groupby(_gpu_slug(g) for g in gpus)]
        body = "_".join(f"{count}x-{name}" for name, count in groups)
    room = KEY_LENGTH - len(_slug(backend)) - 1
    return safe_name(f"{body[:room]}_{_slug(backend)}")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _gpu_slug(gpu: Gpu) -> str:
    name = _slug(_GPU_NOISE.sub(" ", gpu.name))[:50].strip("-.") or "gpu"
    if gpu.mig:
        return f"{name}-mig-{_slug(gpu.mig)}"
    return name if gpu.memory_bytes is None else f"{name}-{round(gpu.memory_bytes / _GIB)}gib"


def read_machine(
    backend: str,
    gpus: Sequence[Gpu] = (),
    *,
    driver: str | None = None,
    present: Sequence[Gpu] | None = None,
) -> Machine:
    """Describe this machine as an engine with ``backend`` (``cpu``, ``cuda``, ...) uses it.

    ``gpus`` are those the engine may use, as NVML reads them or as an engine
    with another vendor's backend names them. ``driver`` is the GPU driver's
    version. ``present`` are all GPUs of the machine, if they differ.
    """
    from pytest_llmperf.cpus import usable_cpus

    used = () if backend == "cpu" else tuple(gpus)
    machine = describe(read_cpu(), usable_cpus(), _memory_bytes(), backend, used, driver)
    gpu_items = _gpu_items(gpus if present is None else present)
    if not used and gpu_items["gpus"]:
        # Recorded, so that a build that uses the GPUs is recognised as on the same machine.
        machine.info.update(gpu_items)
    return replace(machine, present=gpu_items)


def describe(
    cpu: Cpu,
    cores: int,
    memory_bytes: int,
    backend: str,
    gpus: Sequence[Gpu],
    driver: str | None = None,
) -> Machine:
    """Build the fingerprint from readings.

    With a GPU, system memory and the CPU's instruction sets are only recorded;
    the CPU's model and core count stay strict, because it launches the kernels.
    """
    memory_gib = round(memory_bytes / _GIB, 1)
    strict: dict[str, Any] = {"backend": backend, "cpu": cpu.name, "usable cores": cores}
    cpu_details = {
        "cpu family/model/stepping": cpu.family,
        "cpu instructions": list(cpu.instructions),
        "memory GiB": memory_gib,
    }
    info: dict[str, Any] = {}
    if gpus:
        strict |= _gpu_items(gpus)
        info |= cpu_details
        info["gpu PCIe"] = [gpu.pcie for gpu in gpus]
    else:
        strict |= cpu_details
    info |= {
        "os": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "gpu driver": driver,
        "microcode": cpu.microcode,
        **clock_facts(),
    }
    return Machine(
        machine_key(backend, short_name(cpu), cores, gpus),
        strict,
        {item: value for item, value in info.items() if value is not None},
    )


def _gpu_items(gpus: Sequence[Gpu]) -> dict[str, Any]:
    """Return the items that decide the speed of GPUs, one list per item."""
    return {
        "gpus": [gpu.name for gpu in gpus],
        "gpu memory GiB": [
            gpu.memory_bytes if gpu.memory_bytes is None else round(gpu.memory_bytes / _GIB, 1)
            for gpu in gpus
        ],
        "gpu MIG profile": [gpu.mig for gpu in gpus],
        "gpu power limit W": [
            gpu.power_limit_w if gpu.power_limit_w is None else round(gpu.power_limit_w)
            for gpu in gpus
        ],
    }


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def differences(current: Machine, baseline: Machine) -> list[Difference]:
    """Return the strict items that differ; machines without any may be compared."""
    return compare(current.strict, baseline.strict)


def info_differences(current: Machine, baseline: Machine) -> list[Difference]:
    """Return the other items that differ: shown, never a reason to refuse."""
    return compare(current.info, baseline.info)


def compare(current: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Difference]:
    """Compare two flat mappings item by item; memory with ``MEMORY_TOLERANCE``.

    An item that is missing on one side and unknown on the other is no difference.
    """
    differing = []
    for item in dict.fromkeys([*baseline, *current]):
        old, new = baseline.get(item), current.get(item)
        if same(old, new, _tolerance(item)):
            continue
        absent = item not in baseline or item not in current
        if not (absent and _nothing_known(old) and _nothing_known(new)):
            differing.append(Difference(item, display(old), display(new)))
    return differing


def relevant_differences(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences worth showing to a reader.

    Machines with different backends have different items: then only common items count.
    """
    if all(d.item != "backend" for d in differences):
        return list(differences)
    return [d for d in differences if not (_is_blank(d.baseline) or _is_blank(d.current))]


def _nothing_known(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_nothing_known, value))
    return value is None or value == ""


def _is_blank(text: str) -> bool:
    """Whether a text made by ``display`` shows unknown values only."""
    return set(text.split(", ")) == {UNKNOWN}


def same(old: Any, new: Any, tolerance: float) -> bool:
    """Whether two values of an item are equal: lists item by item, numbers within a tolerance."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return all(same(a, b, tolerance) for a, b in zip(old, new, strict=True))
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (old, new))
    if numbers:
        return math.isclose(old, new, rel_tol=tolerance or 1e-9)
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def display(value: Any) -> str:
    """Format a value for a reader: lists joined, None as ``unknown``."""
    if isinstance(value, list):
        return ", ".join(display(part) for part in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={display(part)}" for key, part in value.items()) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return UNKNOWN if value is None or value == "" else str(value)


def same_hardware(current: Machine, stored: Machine) -> bool:
    """Whether ``stored`` is this hardware, but used by another engine backend.

    CPU, usable cores and memory have to agree, and every GPU that the baseline used, or saw,
    has to be in this machine. A baseline without a list of GPUs does not match a machine with a
    GPU. An application's backend is unknown, so it never matches.
    """
    backend, stored_backend = (machine.strict.get("backend") for machine in (current, stored))
    if UNKNOWN_BACKEND in (backend, stored_backend) or None in (backend, stored_backend):
        return False
    ours = {**current.info, **current.strict}
    baseline = {**stored.info, **stored.strict}
    gpus_are_hidden = "gpus" in stored.strict and "gpus" not in current.strict
    if backend == stored_backend and not gpus_are_hidden:
        return False
    if not all(
        item in ours and item in baseline and same(ours[item], baseline[item], _tolerance(item))
        for item in _HOST
    ):
        return False
    present, used = _cards(current.present), _cards(baseline)
    if present and not used:
        return False
    for card in used:
        index = next((i for i, other in enumerate(present) if _same_card(other, card)), None)
        if index is None:
            return False
        del present[index]
    return True


def _cards(items: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the items of each hardware GPU of a fingerprint."""
    names = items.get("gpus", [])
    columns = [items.get(item, [None] * len(names)) for item in _CARD]
    if not all(isinstance(column, list) and len(column) == len(names) for column in columns):
        return [(None,)]  # not a valid fingerprint: equals nothing
    return [card for card in zip(*columns, strict=True) if not _SOFTWARE.search(str(card[0]))]


def _same_card(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return len(first) == len(second) and all(
        same(a, b, _tolerance(item)) for item, a, b in zip(_CARD, first, second, strict=True)
    )


def _tolerance(item: str) -> float:
    return MEMORY_TOLERANCE if "memory" in item else 0.0
