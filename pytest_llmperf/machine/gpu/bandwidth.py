"""Memory bandwidth of NVIDIA GPUs, computed from NVML's bus width and memory clock.

NVML reports the memory clock so that two transfers a cycle give the data rate
of every known kind of memory (GDDR5 to GDDR7, HBM2 to HBM3e), although some of
them transfer more per cycle: bandwidth = bus width in bytes *
maximum memory clock * 2. An RTX 4090 (384 bit, 10501 MHz) has 1008 GB/s.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.machine.gpu.devices import read_gpu
from pytest_llmperf.machine.gpu.nvml import Device, NvmlUnavailableError, ask, devices, nvml

_TRANSFERS_PER_CYCLE = 2
#: A card's memory is partitioned in eighths (NVIDIA MIG user guide); a slice has as much of
#: the bandwidth as of the memory.
_MEMORY_SLICES = 8


@dataclass(frozen=True)
class GpuBandwidth:
    """The memory bandwidth of one GPU, or of its MIG slice.

    Attributes:
        gpu: its name as the driver gives it, without a MIG suffix.
        bytes_per_s: the bandwidth; None if the card does not report it.
        how: how it was computed.
    """

    gpu: str
    bytes_per_s: float | None
    how: str


def memory_bandwidth(bus_bits: int, clock_mhz: int) -> float:
    """Return bytes per second from the bus width and NVML's maximum memory clock."""
    return bus_bits / 8 * clock_mhz * 1e6 * _TRANSFERS_PER_CYCLE


def gpu_bandwidths() -> tuple[GpuBandwidth, ...]:
    """Return the bandwidth of the GPUs that this process may use; () without NVML."""
    try:
        with nvml() as pynvml:
            usable, _ = devices(pynvml, os.environ)
            return tuple(_bandwidth(pynvml, device) for device in usable)
    except NvmlUnavailableError:
        return ()


def _bandwidth(pynvml: Any, device: Device) -> GpuBandwidth:
    gpu = read_gpu(pynvml, device)
    bits, clock = gpu.memory_bus_bits, gpu.memory_clock_max_mhz
    if not bits or not clock:
        return GpuBandwidth(
            gpu.name, None, f"the {gpu.name} does not report its memory's bus width and clock"
        )
    whole, how = memory_bandwidth(bits, clock), f"{bits} bit x {clock} MHz x 2"
    if gpu.mig is None:
        return GpuBandwidth(gpu.name, whole, how)
    memory = ask(pynvml, pynvml.nvmlDeviceGetMemoryInfo, device.card)
    if gpu.memory_bytes is None or memory is None or not memory.total:
        return GpuBandwidth(
            gpu.name, None, f"the {gpu.name} does not report how much of its memory a slice has"
        )
    eighths = max(1, round(_MEMORY_SLICES * gpu.memory_bytes / memory.total))
    share = min(eighths, _MEMORY_SLICES) / _MEMORY_SLICES
    return GpuBandwidth(gpu.name, whole * share, f"{how}, {eighths} of 8 memory slices ({gpu.mig})")
