"""What may be wrong where llama.cpp could not load a model: a setting, the memory, the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_MIB = 1024 * 1024
#: A buffer that could not be had: of which device, and its bytes.
ASKED = re.compile(r"failed to allocate (\S+) buffer of size (\d+)")
_FREE = re.compile(r"using device (\S+) .* - (\d+) MiB free")
#: What llama.cpp says where memory is short -> what it was for, and what makes it smaller.
_SHORT = (
    (
        re.compile(r"unable to allocate \S+ buffer"),
        "the model's weights",
        "fewer llm.n_gpu_layers, or a model of a smaller quantization",
    ),
    (
        re.compile(r"failed to allocate buffer for (kv|rs) cache", re.IGNORECASE),
        "the KV cache",
        "a smaller llm.n_ctx, llm.type_k and llm.type_v (q8_0, with llm.flash_attn: true), or "
        "llm.offload_kqv: false",
    ),
    (
        re.compile(r"failed to allocate compute|failed to allocate graph"),
        "computing",
        "a smaller llm.n_ubatch or llm.n_ctx, or llm.flash_attn: true",
    ),
)
#: What llama.cpp says of settings that this machine can't meet -> what to set instead.
_SETTINGS = (
    (
        re.compile(r"invalid value for main_gpu: (\d+) \(available devices: (\d+)\)"),
        "llm.main_gpu is {0}, and the number of GPUs is {1}: 0 is the first",
    ),
    (
        re.compile(r"device (\S+) does not support split buffers"),
        "{0} can't share rows with other GPUs: set llm.split_mode: layer",
    ),
)


def load_hint(path: str, log: Sequence[str] = ()) -> str:
    """Say what the engine's log, or the file at ``path``, shows of why it was not loaded."""
    if known := _setting_hint(log) or _memory_hint(log):
        return known
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"the file can't be read: {error}"
    if magic != b"GGUF":
        return "the file is no GGUF model"
    return (
        "the file may be truncated (compare its size or SHA-256 with the source), or memory is "
        "short (fewer llm.n_gpu_layers, a smaller llm.n_ctx or quantization)"
    )


def _setting_hint(log: Sequence[str]) -> str:
    """Name the setting that this machine can't meet; or nothing."""
    text = "\n".join(log)
    for pattern, hint in _SETTINGS:
        if match := pattern.search(text):
            return hint.format(*match.groups())
    return ""


def _memory_hint(log: Sequence[str]) -> str:
    """Name the device that has too little memory, what for, and the change; or nothing."""
    text = "\n".join(log)
    asked = [*ASKED.finditer(text)]
    free = {match[1]: int(match[2]) for match in _FREE.finditer(text)}
    for pattern, use, remedy in _SHORT:
        if pattern.search(text):
            if not asked:
                return f"too little memory for {use}: {remedy}"
            device, size = asked[-1][1], int(asked[-1][2]) // _MIB
            had = f", {free[device]} MiB were free" if device in free else ""
            return f"too little memory on {device} for {use} ({size} MiB asked{had}): {remedy}"
    return ""
