"""Whether the GPUs' memory has room for a second engine beside a running one."""

from __future__ import annotations

from collections.abc import Collection

from pytest_llmperf.engine.load_report import DeviceLoad, GpuUtilization
from pytest_llmperf.machine.free_memory import fits_again
from pytest_llmperf.machine.gpu.metrics import is_unknown, memory_held, used_by_engine
from pytest_llmperf.machine.gpu.telemetry import Telemetry, Track


def cards_have_room_beside(
    telemetry: Telemetry | None, pids: Collection[int], load: GpuUtilization | None
) -> bool:
    """Whether every GPU that an engine uses has room for another one like it.

    NVML reports the memory that the engine holds and the memory that is free now. Without NVML, or
    on a card that it does not watch, llama.cpp's load report is used: the memory free before the
    load, and the size of the buffers put there. False where neither is known.

    Args:
        telemetry: the NVML session, or None.
        pids: the engine's processes, which are still alive.
        load: where the engine's layers are; None for an engine that does not report it.
    """
    if telemetry is not None:
        tracks, owners = telemetry.look(pids)
        if used := used_by_engine(tracks, owners):
            return all(_has_room(track, memory_held(track, owners)) for track in used)
        if load is None:
            # For example an application whose process NVML may list under another pid.
            return not any(is_unknown(track, owners) for track in tracks)
    if load is None or not load.layers_on_gpu:
        return True
    loaded = [device for device in load.gpus if _bytes(device)]
    return bool(loaded) and all(
        fits_again(device.free_bytes - _bytes(device), _bytes(device)) for device in loaded
    )


def _has_room(track: Track, held: int | None) -> bool:
    free = [reading.memory_free for reading in track.readings if reading.memory_free is not None]
    return held is not None and bool(free) and fits_again(free[-1], held)


def _bytes(device: DeviceLoad) -> int:
    return device.model_bytes + device.kv_bytes + device.compute_bytes
