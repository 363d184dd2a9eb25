"""Which NVIDIA GPUs this process may use and who else is on them, read through NVML."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")
#: NVML's "value not available" for a process's memory.
_NOT_AVAILABLE = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG slice of one.

    Attributes:
        name: the model's name as the driver gives it, without a MIG suffix.
        uuid: the driver's identifier, or None.
        memory_bytes: total device memory, or None where the driver does not say.
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
    """What NVML said.

    Attributes:
        gpus: the GPUs this process may use, in NVML's order.
        driver: the driver's version, or None.
        problem: what is wrong with the driver or a card, as a sentence, or None.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class GpuProcess:
    """A process with a context on a GPU.

    Attributes:
        pid: as the driver numbers it (the host's number inside some containers).
        name: the program, or None where the driver or system does not say.
        used_bytes: device memory it holds, or None.
        gpu: the name of the GPU.
        graphics: it also draws (a desktop), so its presence alone proves no load.
    """

    pid: int
    name: str | None
    used_bytes: int | None
    gpu: str
    graphics: bool = False


@dataclass(frozen=True)
class Throttled:
    """A GPU that ran slower than it could, and why (NVML's clock event reasons)."""

    gpu: str
    reason: str


#: Bits of NVML's clock event reasons that mean a slowed card. Source: nvml.h,
#: nvmlClocksEventReason*; idle, application clocks, sync boost and display are no slowdowns.
_THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown (heat or power supply)",
    0x20: "too hot (software thermal slowdown)",
    0x40: "too hot (hardware thermal slowdown)",
    0x80: "power brake (external power supply)",
}


class _NvmlUnavailableError(Exception):
    """NVML cannot be used; str() is the reason, empty when there is simply no NVIDIA driver."""


@contextmanager
def _nvml() -> Iterator[Any]:
    """Yield the initialised binding; shut it down afterwards."""
    try:
        import pynvml
    except ImportError:
        raise _NvmlUnavailableError("") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _NvmlUnavailableError(_init_problem(pynvml, error)) from None
    try:
        yield pynvml
    finally:
        _ask(pynvml, pynvml.nvmlShutdown)


def _init_problem(pynvml: Any, error: Any) -> str:
    if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return ""
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return (
            "the NVIDIA library and the loaded kernel driver have different versions "
            "(the driver was updated without a restart); restart the machine"
        )
    if error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return (
            "the NVIDIA library is installed but its kernel driver is not loaded; "
            "load it (modprobe nvidia) or give this container access to the GPU"
        )
    return f"the NVIDIA driver does not answer: {error}"


def _ask(pynvml: Any, function: Callable[..., _T], *args: Any) -> _T | None:
    """Call one NVML function; a counter that the card, driver or permissions lack is None."""
    try:
        return function(*args)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _select(
    devices: Sequence[tuple[Any, str | None]], migs: Mapping[str, Any], visible: str | None
) -> tuple[list[Any], str | None]:
    """Apply CUDA_VISIBLE_DEVICES as CUDA does; return the handles and a problem.

    CUDA takes indices, UUIDs and unambiguous UUID prefixes, and stops at the
    first entry that names nothing (CUDA C++ Programming Guide, "CUDA
    Environment Variables").
    """
    if visible is None:
        return [handle for handle, _ in devices], None
    chosen: list[Any] = []
    seen: set[str] = set()
    for entry in (part.strip() for part in visible.split(",")):
        uuids = [uuid for _, uuid in devices if uuid and uuid.startswith(entry)]
        if re.fullmatch(r"\d+", entry) and int(entry) < len(devices):
            name = str(int(entry))
            handle = devices[int(entry)][0]
        elif entry.startswith("GPU-") and len(uuids) == 1:
            index = [uuid for _, uuid in devices].index(uuids[0])
            name, handle = str(index), devices[index][0]
        elif entry in migs:
            name, handle = entry, migs[entry]
        else:
            hides = not visible.strip() or entry in {"-1", "NoDevFiles", "void", "none"}
            problem = f"CUDA_VISIBLE_DEVICES names no GPU of this machine: {entry!r}"
            return chosen, None if hides else problem
        if name in seen:
            return chosen, f"CUDA_VISIBLE_DEVICES names the same GPU twice: {entry!r}"
        seen.add(name)
        chosen.append(handle)
    return chosen, None


def _handles(pynvml: Any, environ: Mapping[str, str]) -> tuple[list[tuple[Any, Any]], str | None]:
    """Return (device or MIG slice, its physical device) of every usable GPU, and a problem."""
    problem: str | None = None
    devices: list[tuple[Any, str | None]] = []
    slices: dict[str, Any] = {}
    parents: dict[int, Any] = {}
    for index in range(_ask(pynvml, pynvml.nvmlDeviceGetCount) or 0):
        try:
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            problem = f"GPU {index} does not answer: {error}"
            continue
        first = device
        for number, (mig, uuid) in enumerate(_mig_slices(pynvml, device)):
            parents[id(mig)] = device
            slices[uuid] = mig
            # A CUDA process uses one slice of a partitioned card: the first
            # unless told otherwise.
            first = mig if number == 0 else first
        devices.append((first, _ask(pynvml, pynvml.nvmlDeviceGetUUID, device)))
    chosen, refused = _select(devices, slices, environ.get("CUDA_VISIBLE_DEVICES"))
    return [(handle, parents.get(id(handle), handle)) for handle in chosen], problem or refused


def _mig_slices(pynvml: Any, device: Any) -> Iterator[tuple[Any, str]]:
    mode = _ask(pynvml, pynvml.nvmlDeviceGetMigMode, device)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(_ask(pynvml, pynvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0):
        mig = _ask(pynvml, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device, index)
        uuid = mig and _ask(pynvml, pynvml.nvmlDeviceGetUUID, mig)
        if mig and uuid:
            yield mig, uuid


def _mig_profile(pynvml: Any, mig: Any, name: str) -> str:
    """Return the slice's profile: from its name (driver >= 470), else from its attributes."""
    in_name = re.search(r"\bMIG (\S+)$", name)
    if in_name:
        return in_name.group(1)
    attributes = _ask(pynvml, pynvml.nvmlDeviceGetAttributes, mig)
    if attributes is None:
        return "unknown"
    compute, slices = attributes.computeInstanceSliceCount, attributes.gpuInstanceSliceCount
    part = f"{compute}c." if compute < slices else ""
    return f"{part}{slices}g.{round(attributes.memorySizeMB / 1024)}gb"


def _read(pynvml: Any, handle: Any, device: Any) -> Gpu:
    name = _ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU"
    memory = _ask(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    # The configured limit, not the enforced one: laptops move the latter all the time.
    limit_mw = _ask(pynvml, pynvml.nvmlDeviceGetPowerManagementLimit, device)
    generation = _ask(pynvml, pynvml.nvmlDeviceGetMaxPcieLinkGeneration, device)
    width = _ask(pynvml, pynvml.nvmlDeviceGetMaxPcieLinkWidth, device)
    return Gpu(
        name=re.sub(r"\s+MIG \S+$", "", name),
        uuid=_ask(pynvml, pynvml.nvmlDeviceGetUUID, handle),
        memory_bytes=None if memory is None else int(memory.total),
        power_limit_w=None if limit_mw is None else round(limit_mw / 1000),
        mig=None if handle is device else _mig_profile(pynvml, handle, name),
        pcie=f"gen{generation} x{width}" if generation and width else None,
    )


def read_gpus(environ: Mapping[str, str] | None = None) -> GpuReading:
    """Read the NVIDIA GPUs that this process may use.

    No driver library means no GPUs and no problem; a driver that is there and
    does not work is a problem. What a card does not report is None.
    Source: NVML API reference; the binding is nvidia-ml-py.
    """
    try:
        with _nvml() as pynvml:
            handles, problem = _handles(pynvml, os.environ if environ is None else environ)
            return GpuReading(
                gpus=tuple(_read(pynvml, handle, device) for handle, device in handles),
                driver=_ask(pynvml, pynvml.nvmlSystemGetDriverVersion),
                problem=problem,
            )
    except _NvmlUnavailableError as error:
        return GpuReading(problem=str(error) or None)


def gpu_processes(environ: Mapping[str, str] | None = None) -> tuple[GpuProcess, ...]:
    """Return the processes that compute on the GPUs this process may use, by pid; () without NVML.

    Includes this session's own; a process on two GPUs appears once for each.
    """
    found: list[GpuProcess] = []
    try:
        with _nvml() as pynvml:
            handles, _ = _handles(pynvml, os.environ if environ is None else environ)
            for handle, _device in handles:
                name = _ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU"
                drawing = {process.pid for process in _running(pynvml, "Graphics", handle)}
                for process in _running(pynvml, "Compute", handle):
                    used = process.usedGpuMemory
                    found.append(
                        GpuProcess(
                            pid=int(process.pid),
                            name=_process_name(pynvml, int(process.pid)),
                            used_bytes=None if used in (None, _NOT_AVAILABLE) else int(used),
                            gpu=name,
                            graphics=process.pid in drawing,
                        )
                    )
    except _NvmlUnavailableError:
        return ()
    return tuple(sorted(found, key=lambda process: process.pid))


def throttled_gpus(environ: Mapping[str, str] | None = None) -> tuple[Throttled, ...]:
    """Return which of the GPUs this process may use run with lowered clocks; () without NVML."""
    found = []
    try:
        with _nvml() as pynvml:
            # The older name is the one that every driver and binding has.
            ask = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
            handles, _ = _handles(pynvml, os.environ if environ is None else environ)
            for handle, device in handles:
                name = _ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU"
                bits = _ask(pynvml, ask, device) or 0
                found += [
                    Throttled(name, text) for bit, text in _THROTTLE_REASONS.items() if bits & bit
                ]
    except _NvmlUnavailableError:
        return ()
    return tuple(found)


def _running(pynvml: Any, kind: str, handle: Any) -> list[Any]:
    for version in ("_v3", "_v2"):
        function = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses{version}", None)
        processes = function and _ask(pynvml, function, handle)
        if processes is not None:
            return list(processes)
    return []


def _process_name(pynvml: Any, pid: int) -> str | None:
    path = _ask(pynvml, pynvml.nvmlSystemGetProcessName, pid)
    return re.split(r"[/\\]", path.strip())[-1] or None if path else None
