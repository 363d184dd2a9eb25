"""Why an engine could not load, read from its last words: which memory was too small for what."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_llmperf.engine.load_hint import ASKED

_UNSIZED = re.compile(r"unable to allocate (\S+) buffer")
#: Words of the backends themselves, where no buffer is named.
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
    """A load that ended for want of memory.

    Attributes:
        device: which device's, ``CPU`` for the system's.
        size: bytes of the buffer that could not be had; 0 where the engine does not say.
        is_kv: it was the KV cache.
    """

    device: str
    size: int = 0
    is_kv: bool = False


def memory_failure(message: str) -> MemoryFailure | None:
    """Return what memory a load lacked; None where it failed for another reason."""
    # A hint lists what may be wrong with any file, memory included.
    said = message.partition("\nhint: ")[0]
    is_kv = _KV.search(said) is not None
    if match := ASKED.search(said):
        return MemoryFailure(_host(match[1]), int(match[2]), is_kv)
    if match := _UNSIZED.search(said):
        return MemoryFailure(_host(match[1]), 0, is_kv)
    if _DEVICE.search(said):
        return MemoryFailure("GPU", 0, is_kv)
    if _HOST.search(said) or "was ended by SIGKILL" in said:
        return MemoryFailure("CPU", 0, is_kv)
    return None


def is_context_alone(failure: MemoryFailure, model_bytes: int) -> bool:
    """Whether it is the KV cache's own size that does not fit, not what the model left over."""
    return failure.is_kv and (not failure.size or failure.size >= model_bytes / 2)


def _host(buffer: str) -> str:
    """Name the device of a buffer type: CPU_Mapped and CUDA_Host are the host."""
    return "CPU" if buffer.startswith("CPU") or buffer.endswith("_Host") else buffer
