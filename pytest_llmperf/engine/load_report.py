"""Reads llama.cpp's own load report: which layers and how many bytes went to which device.

Source: the log lines of ``load_tensors``, ``llama_kv_cache`` and
``sched_reserve`` in llama.cpp's src/llama-model.cpp, llama-kv-cache.cpp and
llama-context.cpp. With no visible device, or a build without GPU code, no
``offloaded X/Y layers to GPU`` line is printed at all; a build with RPC always
prints it, with the number that was asked for. Where every layer has its own
line, those lines are counted instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from pytest_llmperf.text import count

#: Name of the CPU's own memory among the devices.
HOST = "CPU"
_MIB = 1024 * 1024
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_ASSIGNED = re.compile(r"layer\s+(\d+) assigned to device ([^,\s]+)")
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output) buffer size\s*=\s*([\d.]+) MiB")
_DEVICE = re.compile(r"using device (\S+) \((.*?)\)(?: \(([^)]*)\))? - (\d+) MiB free")


class GpuStatus(Enum):
    """Outcomes of placing layers, each with a different fix."""

    FULL = "all layers on GPU"
    AS_ASKED = "as many layers on GPU as asked"
    FEWER = "fewer layers than asked"
    NONE_ASKED = "no layers asked"
    NO_DEVICE = "no visible device"
    CPU_ONLY_BUILD = "CPU-only build"


@dataclass(frozen=True)
class DeviceLoad:
    """Contents of one device: sizes in bytes, layers including the output layer.

    Attributes:
        name: llama.cpp's name, such as ``CUDA0`` or ``Vulkan1``; ``CPU`` is the host.
        description: the card's name.
        layers: how many are on it.
        model_bytes, kv_bytes, compute_bytes: the weights, the KV cache (or a recurrent
            model's state), and what computing needs.
        free_bytes: what was free on it before the load; 0 where that was not reported.
    """

    name: str
    description: str = ""
    layers: int = 0
    model_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    free_bytes: int = 0

    @property
    def is_host(self) -> bool:
        """Whether this is the CPU's own memory."""
        return self.name == HOST

    def __str__(self) -> str:
        """Return one line: the device and what it holds."""
        title = f"{self.name} ({self.description})" if self.description else self.name
        sizes = [
            f"{kind} {size / _MIB:.1f} MiB"
            for kind, size in (
                ("model", self.model_bytes),
                ("KV cache", self.kv_bytes),
                ("compute", self.compute_bytes),
            )
            if size
        ]
        return f"{title}: {', '.join([count(self.layers, 'layer'), *sizes])}"


@dataclass(frozen=True)
class GpuUtilization:
    """Number of layers on each device, and in total.

    Attributes:
        status: one of GpuStatus.
        layers_on_gpu: layers on any GPU, the output layer counted.
        total_layers: layers of the model, the output layer counted.
        asked: the ``n_gpu_layers`` that was asked for (-1 is all).
        devices: per device; the host is called ``CPU``.
    """

    status: GpuStatus
    layers_on_gpu: int
    total_layers: int
    asked: int
    devices: tuple[DeviceLoad, ...] = field(default=())

    def __str__(self) -> str:
        """Return the one line that is logged."""
        line = f"GPU Utilization: {self.share} layers on GPU"
        whole = self.status is GpuStatus.FULL and not self.kv_on_host
        return line if whole else f"{line} ({self.explain()})"

    @property
    def share(self) -> str:
        """The layers on any GPU out of all, such as ``12/31``."""
        return f"{self.layers_on_gpu}/{self.total_layers}"

    @property
    def gpus(self) -> tuple[DeviceLoad, ...]:
        """All GPUs, including those without a layer."""
        return tuple(device for device in self.devices if not device.is_host)

    @property
    def kv_on_host(self) -> bool:
        """Whether the KV cache is in the CPU's memory although layers that use it are on a GPU."""
        # One layer on a GPU is the output layer, which has no part in the cache.
        on_gpus = sum(device.kv_bytes for device in self.gpus)
        anywhere = sum(device.kv_bytes for device in self.devices)
        return self.layers_on_gpu > 1 and on_gpus == 0 and anywhere > 0

    def explain(self) -> str:
        """Return the status's meaning and the fix."""
        asked = "all" if self.asked < 0 else str(self.asked)
        meaning = {
            GpuStatus.FULL: "every layer is on a GPU",
            GpuStatus.AS_ASKED: f"n_gpu_layers: {asked}",
            GpuStatus.FEWER: (
                f"fewer layers than asked: {asked} asked; usually too little free GPU memory"
            ),
            GpuStatus.NONE_ASKED: "n_gpu_layers: 0 asks for none",
            GpuStatus.NO_DEVICE: (
                "no visible device: this build has GPU code, but the driver shows it no GPU"
            ),
            GpuStatus.CPU_ONLY_BUILD: (
                "CPU-only build: reinstall llama-cpp-python with GPU code to use a GPU"
            ),
        }[self.status]
        return f"{meaning}; the KV cache is on the CPU" if self.kv_on_host else meaning

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "status": self.status.value}

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> GpuUtilization:
        """Rebuild from ``to_wire``'s output."""
        devices = tuple(DeviceLoad(**device) for device in data["devices"])
        return cls(**{**data, "status": GpuStatus(data["status"]), "devices": devices})


def is_report_line(level: int, text: str) -> bool:
    """Whether a log line is part of the report, or more than debug output (ggml level 1)."""
    return level != 1 or "assigned to device" in text


def assigned_layers(lines: Iterable[str]) -> dict[int, str]:
    """Return the device of each layer, the output layer last; the host is called ``CPU``."""
    matches = filter(None, map(_ASSIGNED.search, lines))
    return {int(match[1]): device_of_buffer(match[2]) for match in matches}


def read_load_report(
    lines: Iterable[str], *, asked: int, supports_gpu: bool, n_layer: int
) -> GpuUtilization:
    """Turn the lines logged during a load into a GpuUtilization.

    Args:
        lines: the engine's log of one load.
        asked: ``n_gpu_layers`` as configured, -1 for all.
        supports_gpu: whether the build has GPU code, whatever devices it sees.
        n_layer: layers of the model without the output layer; used where the
            log does not count them.
    """
    offloaded: tuple[int, int] | None = None
    layers: dict[int, str] = {}
    buffers: dict[tuple[str, str], float] = {}
    descriptions: dict[str, str] = {}
    free: dict[str, int] = {}
    for line in lines:
        if match := _OFFLOADED.search(line):
            offloaded = int(match[1]), int(match[2])
        elif match := _ASSIGNED.search(line):
            layers[int(match[1])] = device_of_buffer(match[2])
        elif match := _BUFFER.search(line):
            buffer, mib = (match[1], match[2]), float(match[3])
            # Compute buffers are reported again whenever they are reserved again; a model or
            # a cache of several buffers has one line for each.
            again = match[2] in ("compute", "output")
            buffers[buffer] = mib if again else buffers.get(buffer, 0.0) + mib
        elif match := _DEVICE.search(line):
            descriptions[match[1]] = match[2]
            free[match[1]] = int(match[4]) * _MIB
    total = offloaded[1] if offloaded else (len(layers) or n_layer + 1)
    counted = list(layers.values())
    if layers:
        on_gpu = sum(device != HOST for device in counted)
        device_seen = on_gpu > 0 or bool(descriptions)
    else:
        on_gpu, device_seen = (offloaded[0] if offloaded else 0), offloaded is not None
    known = {*counted, *descriptions}
    sizes = _by_device(buffers, known)
    cards = {*sizes, *known} - {HOST}
    if not layers and len(cards) == 1:
        # Older builds report how many layers went to a GPU but not to which; here only one has any.
        counted = [*cards] * on_gpu + [HOST] * (total - on_gpu)
    names = sorted({*sizes, *known}, key=lambda name: (name == HOST, len(name), name))
    devices = tuple(
        DeviceLoad(
            name,
            descriptions.get(name, ""),
            counted.count(name),
            **sizes.get(name, {}),
            free_bytes=free.get(name, 0),
        )
        for name in names
    )
    status = _status(asked, on_gpu, total, supports_gpu, device_seen)
    return GpuUtilization(status, on_gpu, total, asked, devices)


def _by_device(
    buffers: Mapping[tuple[str, str], float], known: Collection[str]
) -> dict[str, dict[str, int]]:
    """Return the total size of each device's buffers, in bytes, by their purpose."""
    sizes: dict[str, dict[str, int]] = {}
    for (buffer, kind), mib in buffers.items():
        field_name = {"model": "model_bytes", "KV": "kv_bytes", "RS": "kv_bytes"}.get(
            kind, "compute_bytes"
        )
        name = device_of_buffer(buffer)
        # A buffer such as MTL0_Mapped is on MTL0.
        name = next((device for device in known if name.startswith(f"{device}_")), name)
        device = sizes.setdefault(name, {})
        device[field_name] = device.get(field_name, 0) + round(mib * _MIB)
    return sizes


def device_of_buffer(buffer: str) -> str:
    """Return the device of a buffer type: CPU_Mapped, CPU_REPACK and CUDA_Host are on the host."""
    return HOST if buffer.startswith(HOST) or buffer.endswith("_Host") else buffer


def _status(
    asked: int, on_gpu: int, total: int, supports_gpu: bool, device_seen: bool
) -> GpuStatus:
    if on_gpu == total:
        return GpuStatus.FULL
    if not supports_gpu and on_gpu == 0:
        return GpuStatus.CPU_ONLY_BUILD
    if not device_seen:
        return GpuStatus.NO_DEVICE
    if asked == 0:
        return GpuStatus.NONE_ASKED
    wanted = total if asked < 0 else min(asked, total)
    return GpuStatus.FEWER if on_gpu < wanted else GpuStatus.AS_ASKED
