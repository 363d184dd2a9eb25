"""Constant facts about a GPU, read once through NVML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.machine.gpu.nvml import Device, ask, mig_profile


@dataclass(frozen=True)
class GpuFacts:
    """Constant facts about one GPU or MIG slice; None if the driver does not report them.

    Attributes:
        index: NVML's number of the card (``nvidia-smi``'s, too).
        name: the model's name, without a MIG suffix.
        uuid: the driver's identifier of the card, or of the slice.
        mig: the profile of the used slice (``1g.10gb``); None for a whole card.
        mig_mode: whether the card is partitioned.
        memory_bytes: total memory, of the slice if one is used.
        memory_bus_bits: width of the memory bus.
        sm_clock_max_mhz, memory_clock_max_mhz: the highest clocks.
        pcie_generation_max, pcie_width_max: the fastest link that card and slot can have.
        power_limit_w, power_limit_default_w, power_limit_enforced_w: configured, maker's
            default, and in effect with all other limits.
        slowdown_c: temperature at which the card slows down.
        persistence: whether the driver keeps the card initialised while it is not used.
        driver: the driver's version.
        cuda: the highest CUDA version that the driver supports, such as ``12.4``.
    """

    index: int
    name: str
    uuid: str | None = None
    mig: str | None = None
    mig_mode: bool | None = None
    memory_bytes: int | None = None
    memory_bus_bits: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None
    power_limit_w: float | None = None
    power_limit_default_w: float | None = None
    power_limit_enforced_w: float | None = None
    slowdown_c: int | None = None
    persistence: bool | None = None
    driver: str | None = None
    cuda: str | None = None

    @property
    def label(self) -> str:
        """Name in a sentence: ``NVIDIA GeForce RTX 4090 (GPU 0)``."""
        return f"{self.name} (GPU {self.index}{', a MIG slice' if self.mig else ''})"


def read_facts(pynvml: Any, device: Device) -> GpuFacts:
    """Read the facts of a device."""
    handle, card = device.handle, device.card
    name = ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU"
    memory = ask(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    mode = ask(pynvml, pynvml.nvmlDeviceGetMigMode, card)
    persistence = ask(pynvml, pynvml.nvmlDeviceGetPersistenceMode, card)
    cuda = ask(pynvml, pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return GpuFacts(
        index=device.index,
        name=re.sub(r"\s+MIG \S+$", "", name),
        uuid=ask(pynvml, pynvml.nvmlDeviceGetUUID, handle),
        mig=mig_profile(pynvml, handle, name) if device.is_slice else None,
        mig_mode=None if mode is None else mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        memory_bytes=None if memory is None else int(memory.total),
        memory_bus_bits=ask(pynvml, pynvml.nvmlDeviceGetMemoryBusWidth, card),
        sm_clock_max_mhz=ask(pynvml, pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_SM),
        memory_clock_max_mhz=ask(
            pynvml, pynvml.nvmlDeviceGetMaxClockInfo, card, pynvml.NVML_CLOCK_MEM
        ),
        pcie_generation_max=ask(pynvml, pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card),
        pcie_width_max=ask(pynvml, pynvml.nvmlDeviceGetMaxPcieLinkWidth, card),
        power_limit_w=_watts(ask(pynvml, pynvml.nvmlDeviceGetPowerManagementLimit, card)),
        power_limit_default_w=_watts(
            ask(pynvml, pynvml.nvmlDeviceGetPowerManagementDefaultLimit, card)
        ),
        power_limit_enforced_w=_watts(ask(pynvml, pynvml.nvmlDeviceGetEnforcedPowerLimit, card)),
        slowdown_c=ask(
            pynvml,
            pynvml.nvmlDeviceGetTemperatureThreshold,
            card,
            pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
        ),
        persistence=None if persistence is None else bool(persistence),
        driver=ask(pynvml, pynvml.nvmlSystemGetDriverVersion),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
