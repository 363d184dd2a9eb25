"""Estimates of memory needs, from llama.cpp's load report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Situation

#: Share of a device's free memory for drivers and scratch buffers that are not reported.
_KEPT_FREE = 0.05
#: n_ctx is a multiple of this in llama.cpp.
CONTEXT_STEP = 256


def bytes_text(size: float) -> str:
    """Format a size for a reader: ``4.2 GiB``."""
    return format_quantity(float(size), Unit.BYTES)


def gpu_need(situation: Situation) -> int:
    """Return the bytes of GPU memory that all layers need: weights, KV cache, scratch buffers."""
    llama, layers = situation.llama, situation.layers
    if llama is None or layers is None:
        return situation.model_bytes
    scratch = max((device.compute_bytes for device in layers.devices), default=0)
    return llama.model_bytes + situation.kv_bytes + scratch


def fitting_layers(situation: Situation) -> int:
    """Return the number of layers that fit on the GPUs; all of them if free memory is unknown."""
    llama, layers = situation.llama, situation.layers
    if llama is None or layers is None or not layers.total_layers:
        return 0
    free = sum(device.free_bytes for device in situation.gpu_devices)
    if not free:
        return layers.total_layers
    room = free * (1.0 - _KEPT_FREE)
    need = gpu_need(situation)
    if need <= room:
        return layers.total_layers
    per_layer = (llama.model_bytes + situation.kv_bytes) / layers.total_layers
    scratch = need - llama.model_bytes - situation.kv_bytes
    return max(0, min(layers.total_layers, int((room - scratch) / per_layer)))


def host_need(situation: Situation) -> int:
    """Return the bytes of system memory that the engine needs: everything not on a GPU."""
    layers = situation.layers
    if layers is None:
        return situation.model_bytes
    return sum(
        device.model_bytes + device.kv_bytes + device.compute_bytes
        for device in layers.devices
        if device.is_host
    )


def mapped_bytes(situation: Situation) -> int:
    """Return the bytes of the model that the host maps from its file."""
    llama = situation.llama
    return llama.mapped_bytes(locked=situation.config.get("use_mlock", False)) if llama else 0


def context_for(tokens: int) -> int:
    """Return the n_ctx for a number of tokens: a quarter more, in llama.cpp's steps."""
    wanted = tokens + tokens // 4
    return max(CONTEXT_STEP, -(-wanted // CONTEXT_STEP) * CONTEXT_STEP)
