"""Failed loads for lack of memory, recognised from the engine's error message."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_llmperf.diagnosis.sizes import bytes_text
from pytest_llmperf.engine.load_hint import ASKED

_UNSIZED = re.compile(r"unable to allocate (\S+) buffer")
#: Error texts of the backends, used if no buffer is named.
_DEVICE = re.compile(
    r"cudaMalloc failed|CUDA error: out of memory|ErrorOutOfDeviceMemory"
    r"|Device memory allocation of size \d+ failed|hipMalloc failed",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"insufficient memory|MemoryError|Unable to allocate|Cannot allocate memory"
    r"|std::bad_alloc|out-of-memory|out of memory",
    re.IGNORECASE,
)
_KV = re.compile(r"failed to allocate buffer for (?:the )?kv cache|kv_cache.*failed", re.IGNORECASE)


@dataclass(frozen=True)
class MemoryFailure:
    """A load that failed for lack of memory.

    Attributes:
        device: the device that lacked memory; ``CPU`` is the system's memory.
        size: bytes of the buffer that could not be allocated; 0 if unknown.
        is_kv: the buffer was the KV cache.
    """

    device: str
    size: int = 0
    is_kv: bool = False


def memory_failure(message: str) -> MemoryFailure | None:
    """Return the lack of memory that made a load fail; None if it failed for another reason."""
    # The hint lists possible reasons, memory among them, so it is cut off.
    reason = message.partition("\nhint: ")[0]
    is_kv = _KV.search(reason) is not None
    if match := ASKED.search(reason):
        return MemoryFailure(_host(match[1]), int(match[2]), is_kv)
    if match := _UNSIZED.search(reason):
        return MemoryFailure(_host(match[1]), 0, is_kv)
    if _DEVICE.search(reason):
        return MemoryFailure("GPU", 0, is_kv)
    if _HOST.search(reason) or "was ended by SIGKILL" in reason:
        return MemoryFailure("CPU", 0, is_kv)
    return None


def why_not_loaded(error: str) -> str:
    """Return one line on why an engine was not loaded or measured, such as that it does not fit."""
    failure = memory_failure(error)
    if failure is None:
        return error.splitlines()[0]
    size = f" (a buffer of {bytes_text(failure.size)})" if failure.size else ""
    where = "system memory" if failure.device == "CPU" else f"the memory of {failure.device}"
    return f"it does not fit in {where}{size}"


def is_context_alone(failure: MemoryFailure, model_bytes: int) -> bool:
    """Whether the KV cache alone is too large, even without the model."""
    return failure.is_kv and (not failure.size or failure.size >= model_bytes / 2)


def _host(buffer: str) -> str:
    """Name the device of a buffer type: CPU_Mapped and CUDA_Host are the host."""
    return "CPU" if buffer.startswith("CPU") or buffer.endswith("_Host") else buffer
