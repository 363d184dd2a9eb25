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
    """One GPU, or one MIG slice of one.

    Attributes:
        name: the model's name as the driver gives it, without a MIG suffix.
        uuid: the driver's identifier, or None.
        memory_bytes: total device memory, or None if unknown.
        power_limit_w: the configured limit in watts, or None.
        mig: the MIG profile (``1g.10gb``), or None for a whole card.
        pcie: the widest link this card and slot can have (``gen4 x16``), or None.
    """

    name: str
    uuid: str | None = None
    memory_bytes: int | None = None
    power_limit_w: int | None = None
    mig: str | None = None
    pcie: str | None = None


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
    """Read one GPU in an open NVML session; unreported values are None."""
    handle, card = device.handle, device.card
    name = ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU"
    memory = ask(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    # The configured limit, not the enforced one, which changes all the time on laptops.
    limit_mw = ask(pynvml, pynvml.nvmlDeviceGetPowerManagementLimit, card)
    generation = ask(pynvml, pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card)
    width = ask(pynvml, pynvml.nvmlDeviceGetMaxPcieLinkWidth, card)
    return Gpu(
        name=re.sub(r"\s+MIG \S+$", "", name),
        uuid=ask(pynvml, pynvml.nvmlDeviceGetUUID, handle),
        memory_bytes=None if memory is None else int(memory.total),
        power_limit_w=None if limit_mw is None else round(limit_mw / 1000),
        mig=mig_profile(pynvml, handle, name) if device.is_slice else None,
        pcie=f"gen{generation} x{width}" if generation and width else None,
    )


def read_gpus(environ: Mapping[str, str] | None = None) -> GpuReading:
    """Read the NVIDIA GPUs that this process may use.

    Without a driver library there are no GPUs and no problem; a driver that does not
    work is a problem. Unreported values are None.
    Source: NVML API reference; the binding is nvidia-ml-py.
    """
    try:
        with nvml() as pynvml:
            found, problem = devices(pynvml, os.environ if environ is None else environ)
            return GpuReading(
                gpus=tuple(read_gpu(pynvml, device) for device in found),
                driver=ask(pynvml, pynvml.nvmlSystemGetDriverVersion),
                problem=problem,
            )
    except NvmlUnavailableError as error:
        return GpuReading(problem=str(error) or None)
