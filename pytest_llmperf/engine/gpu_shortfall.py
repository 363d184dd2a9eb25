"""Explains why fewer layers are on the GPU than required, and how to fix it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pytest_llmperf.engine.load_report import DeviceLoad, GpuStatus, GpuUtilization
from pytest_llmperf.gpu_builds import VISIBLE_DEVICES, rebuild_command

_DRIVERS = {
    "cuda": (
        "nvidia-smi must list the card: install NVIDIA's driver, or start the container "
        "with its GPUs (--gpus all)"
    ),
    "hip": "rocminfo must list the card: install AMD's driver, or give the container /dev/kfd",
    "vulkan": (
        "vulkaninfo --summary must list the card: install its Vulkan driver (Debian: "
        "mesa-vulkan-drivers); a software device is used only where "
        "GGML_VK_VISIBLE_DEVICES names it"
    ),
}


class ShortfallCause(Enum):
    """Reasons why layers are not where they are required, each with a different fix."""

    BUILD = "build"
    NO_DEVICE = "no visible device"
    SETTING = "n_gpu_layers"
    MEMORY = "memory"
    DEVICE = "device"


@dataclass(frozen=True)
class GpuRequirement:
    """A required number of layers on a GPU, or on one particular GPU.

    Attributes:
        layers: minimum number, the output layer counted; None, or more than the model has,
            means all.
        device: the only device that may hold them: its name, or a part of its name or
            description, ignoring case; None allows any GPU.
    """

    layers: int | None = None
    device: str | None = None

    def wanted(self, total: int) -> int:
        """Return how many layers are required of a model with ``total``."""
        return total if self.layers is None else min(self.layers, total)

    def allows(self, device: DeviceLoad) -> bool:
        """Whether this is a GPU that may hold the layers."""
        if device.is_host:
            return False
        if self.device is None:
            return True
        asked = self.device.casefold()
        return asked in device.name.casefold() or asked in device.description.casefold()


@dataclass(frozen=True)
class LoadContext:
    """Circumstances of a model's load that its report does not contain.

    Attributes:
        backend: of the build: ``cpu``, ``cuda``, ``vulkan``, ...
        engine_version: of llama-cpp-python.
        environ: the variables of the engine's process.
        set_by: where ``n_gpu_layers`` got its value, such as ``config.yaml:8``.
        platform: as ``sys.platform``.
    """

    backend: str
    engine_version: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    set_by: str = ""
    platform: str = sys.platform


@dataclass(frozen=True)
class Shortfall:
    """Fewer layers than required, or layers on another GPU than required.

    Attributes:
        cause: its kind, which decides the fix.
        reason: how many layers are on the GPU, and how many are required.
        explanation: the cause in words, with its evidence.
        remedy: the exact change.
        devices: what each device holds.
    """

    cause: ShortfallCause
    reason: str
    explanation: str
    remedy: str
    devices: tuple[DeviceLoad, ...] = ()

    def __str__(self) -> str:
        """Return reason, cause, remedy and devices, on several lines."""
        lines = [self.reason, f"cause: {self.explanation}", f"remedy: {self.remedy}"]
        return "\n".join([*lines, *(f"  {device}" for device in self.devices)])


def find_shortfall(
    gpu: GpuUtilization, requirement: GpuRequirement, situation: LoadContext
) -> Shortfall | None:
    """Return how and why a requirement is not met; None if it is met."""
    wanted = requirement.wanted(gpu.total_layers)
    if requirement.device is None:
        placed, elsewhere = gpu.layers_on_gpu, 0
    else:
        placed = sum(device.layers for device in gpu.devices if requirement.allows(device))
        elsewhere = gpu.layers_on_gpu - placed
    if placed >= wanted and not elsewhere:
        return None
    cause = _cause(gpu, requirement, wanted, elsewhere)
    explanation, remedy = _explanation(cause, gpu, requirement, situation)
    return Shortfall(
        cause, _reason(gpu, requirement, placed, wanted), explanation, remedy, devices=gpu.devices
    )


def _cause(
    gpu: GpuUtilization, requirement: GpuRequirement, wanted: int, elsewhere: int
) -> ShortfallCause:
    if gpu.status is GpuStatus.CPU_ONLY_BUILD:
        return ShortfallCause.BUILD
    if gpu.status is GpuStatus.NO_DEVICE:
        return ShortfallCause.NO_DEVICE
    if gpu.gpus and not any(map(requirement.allows, gpu.gpus)):
        # More layers would go to other devices anyway.
        return ShortfallCause.DEVICE
    if 0 <= gpu.asked < wanted:
        return ShortfallCause.SETTING
    if elsewhere:
        return ShortfallCause.DEVICE
    return ShortfallCause.MEMORY


def _reason(gpu: GpuUtilization, requirement: GpuRequirement, placed: int, wanted: int) -> str:
    where = "a GPU" if requirement.device is None else f"{requirement.device!r}"
    required = "all are required" if wanted == gpu.total_layers else f"{wanted} are required"
    if placed >= wanted:
        return (
            f"{gpu.layers_on_gpu - placed} of {gpu.total_layers} layers are on a GPU other than "
            f"{where}"
        )
    return f"{placed} of {gpu.total_layers} layers are on {where}, and {required}"


def _explanation(
    cause: ShortfallCause, gpu: GpuUtilization, requirement: GpuRequirement, situation: LoadContext
) -> tuple[str, str]:
    """Return the cause in words, and the remedy."""
    if cause is ShortfallCause.BUILD:
        return (
            "CPU-only build: the installed llama-cpp-python has no GPU code",
            reinstall(situation.engine_version, situation.platform),
        )
    if cause is ShortfallCause.NO_DEVICE:
        return _no_device(situation)
    if cause is ShortfallCause.SETTING:
        by = f" ({situation.set_by})" if situation.set_by else ""
        enough = requirement.layers
        less = f", or {enough} at least" if enough is not None and enough < gpu.total_layers else ""
        return (
            f"llm.n_gpu_layers is only {gpu.asked}{by}",
            f"set llm.n_gpu_layers: -1{less}",
        )
    if cause is ShortfallCause.DEVICE:
        return _other_device(gpu, requirement)
    return (
        f"{'all' if gpu.asked < 0 else gpu.asked} layers were asked for and fewer were placed; "
        "usually too little free GPU memory",
        "free memory on the card (close what else uses it), or reduce what it has to hold: "
        "llm.n_ctx, llm.type_k and llm.type_v (q8_0, with llm.flash_attn: true), or a model of a "
        "smaller quantization",
    )


def _no_device(situation: LoadContext) -> tuple[str, str]:
    explanation = f"no visible device: the {situation.backend} build sees no GPU"
    driver = _DRIVERS.get(situation.backend, "install the card's driver")
    for name in VISIBLE_DEVICES.get(situation.backend, ()):
        if name in situation.environ:
            return (
                f"{explanation}, and {name} is {situation.environ[name]!r}",
                f"unset {name}, or let it name a device that is there (0 is the first); {driver}",
            )
    return explanation, driver


def _other_device(gpu: GpuUtilization, requirement: GpuRequirement) -> tuple[str, str]:
    names = ", ".join(
        f"{device.name} ({device.description})" if device.description else device.name
        for device in gpu.gpus
    )
    allowed = [index for index, device in enumerate(gpu.gpus) if requirement.allows(device)]
    if not allowed:
        return (
            f"the engine has no device {requirement.device!r}; it has {names}",
            "name one of those, or make the other visible to the engine",
        )
    return (
        f"the layers are split across {names}",
        f"set llm.split_mode: none and llm.main_gpu: {allowed[0]}",
    )


def reinstall(version: str = "", platform: str = sys.platform) -> str:
    """Return the command that replaces a CPU-only build by a GPU build of the same version."""
    flag = "GGML_METAL" if platform == "darwin" else "GGML_CUDA"
    other = "" if platform == "darwin" else " (-DGGML_VULKAN=on if the card is not NVIDIA's)"
    return f"reinstall it with GPU code{other}: {rebuild_command(f'-D{flag}=on', version)}"
