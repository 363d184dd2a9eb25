"""NVIDIA GPUs that this process may use, read through NVML."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.machine.gpu.nvml import (
    Device,
    NvmlUnavailableError,
    ask,
    devices,
    mig_profile,
    nvml,
)


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one of its MIG slices; None if the driver does not report a value.

    Attributes:
        name: the model's name as the driver gives it, without a MIG suffix.
        uuid: the driver's identifier of the card, or of the slice.
        memory_bytes: total memory, of the slice if one is used.
        power_limit_w, power_limit_default_w, power_limit_enforced_w: configured, maker's
            default, and in effect with all other limits, which changes all the time on laptops.
        mig: the profile of the used slice (``1g.10gb``); None for a whole card.
        index: NVML's number of the card (``nvidia-smi``'s, too).
        mig_mode: whether the card is partitioned.
        memory_bus_bits: width of the memory bus.
        sm_clock_max_mhz, memory_clock_max_mhz: the highest clocks.
        pcie_generation_max, pcie_width_max: the fastest link that card and slot can have.
        slowdown_c: temperature at which the card slows down.
        persistence: whether the driver keeps the card initialised while it is not used.
        driver: the driver's version.
        cuda: the highest CUDA version that the driver supports, such as ``12.4``.
    """

    name: str
    uuid: str | None = None
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    mig: str | None = None
    index: int = 0
    mig_mode: bool | None = None
    memory_bus_bits: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None
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

    @property
    def pcie(self) -> str | None:
        """The fastest link that card and slot can have: ``gen4 x16``."""
        generation, width = self.pcie_generation_max, self.pcie_width_max
        return f"gen{generation} x{width}" if generation and width else None


@dataclass(frozen=True)
class GpuReading:
    """Result of reading the GPUs through NVML.

    Attributes:
        gpus: the GPUs this process may use, in NVML's order.
        driver: the driver's version, or None.
        problem: a problem of the driver or a card, as a sentence, or None.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    problem: str | None = None


def read_gpu(pynvml: Any, device: Device) -> Gpu:
    """Read one GPU in an open NVML session."""
    handle, card = device.handle, device.card
    name = ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU"
    memory = ask(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    mode = ask(pynvml, pynvml.nvmlDeviceGetMigMode, card)
    persistence = ask(pynvml, pynvml.nvmlDeviceGetPersistenceMode, card)
    cuda = ask(pynvml, pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return Gpu(
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


def read_gpus(environ: Mapping[str, str] | None = None) -> GpuReading:
    """Read the NVIDIA GPUs that this process may use.

    Without a driver library there are no GPUs and no problem; a driver that does not
    work is a problem. Unreported values are None.
    Source: NVML API reference; the binding is nvidia-ml-py.
    """
    try:
        with nvml() as pynvml:
            usable, problem = devices(pynvml, os.environ if environ is None else environ)
            return GpuReading(
                gpus=tuple(read_gpu(pynvml, device) for device in usable),
                driver=ask(pynvml, pynvml.nvmlSystemGetDriverVersion),
                problem=problem,
            )
    except NvmlUnavailableError as error:
        return GpuReading(problem=str(error) or None)
