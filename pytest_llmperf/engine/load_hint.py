"""Hints on why llama.cpp could not load a model: a setting, the memory, the file."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_MIB = 1024 * 1024
#: A buffer that could not be allocated: its device and bytes.
ASKED = re.compile(r"failed to allocate (\S+) buffer of size (\d+)")
_FREE = re.compile(r"using device (\S+) .* - (\d+) MiB free")
#: llama.cpp's message when memory is short -> what it was for, and how to reduce it.
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
    (
        re.compile(r"failed to initialize the context: std::bad_alloc"),
        "the context",
        "a smaller llm.n_ctx",
    ),
)
#: llama.cpp's message about settings that this machine can't meet -> what to set instead.
_SETTINGS = {
    r"invalid value for main_gpu: (\d+) \(available devices: (\d+)\)": (
        "llm.main_gpu is {0}, and the number of GPUs is {1}: 0 is the first"
    ),
    r"device (\S+) does not support split buffers": (
        "{0} can't share rows with other GPUs: set llm.split_mode: layer"
    ),
    r"K cache type (\S+) with block size \d+ does not divide": (
        "the model's heads do not fill whole blocks of {0}: set llm.type_k to null"
    ),
    r"V cache type (\S+) with block size \d+ does not divide": (
        "the model's heads do not fill whole blocks of {0}: set llm.type_v to null"
    ),
    r"does not support different K \(\S+\) and V \(\S+\) cache types": (
        "this model keeps keys and values in one type: set llm.type_k and llm.type_v to the same "
        "type"
    ),
    r"llama_adapter_lora_init\S*: failed to (.*)": (
        "llm.extra.lora_path: llama.cpp failed to {0}; name an adapter that is there "
        "and was made for this model"
    ),
}
_NEWER = "a newer llama-cpp-python may"
#: llama.cpp's message about files it can't read -> what they are, and what to do.
_FILES = {
    r"GGUF file is version (\d+) but": (
        f"the file is of GGUF version {{0}}, which this llama.cpp can't read; {_NEWER}"
    ),
    r"mismatch between the host and model endianness": (
        "the file is in the other byte order; take one for this machine, or convert it with "
        "gguf-convert-endian of the package gguf"
    ),
    r"(?:unknown|unsupported) model architecture: '(.*?)'": (
        f"this llama.cpp does not know the model's architecture, '{{0}}'; {_NEWER}"
    ),
    r"CLIP cannot be used as main model": (
        "this file is the part of a model that reads images or sound (mmproj); name the language "
        "model's own file in llm.model_path"
    ),
    r"unknown (?:pre-)?tokenizer(?: type)?: '(.*?)'": (
        f"this llama.cpp does not know the model's tokenizer, '{{0}}'; {_NEWER}"
    ),
    r"has invalid ggml type (\d+)": (
        f"a tensor is of type {{0}}, a quantization that this llama.cpp does not know; {_NEWER}"
    ),
    r"invalid split file name": (
        "the parts of a split model must keep the names that gguf-split gave them, such as "
        "name-00001-of-00003.gguf"
    ),
    r"failed to load GGUF split from (.*)": "a part of the model, {0}, is missing or damaged",
    r"tensor '(\S+)' (?:not found|has wrong shape)|missing tensor '(\S+)'": (
        "the file and this llama.cpp do not agree on the tensor {0}: the file was converted by "
        f"another version ({_NEWER} read it), or llm.extra.kv_overrides misdescribes it"
    ),
    r"not within the file bounds|failed to read (?:key-value|tensor|header)": (
        "the file is truncated or damaged: compare its size or SHA-256 with the source, and "
        "download it again"
    ),
}
#: Errors of llama-cpp-python for an argument that it can't pass on.
_ARGUMENT = (TypeError, AttributeError, KeyError, OverflowError, ctypes.ArgumentError)
_CONTEXT = re.compile(r"failed to initialize the context: (.*)")


def load_hint(
    path: str,
    log: Sequence[str] = (),
    error: Exception | None = None,
    extra: Iterable[str] = (),
) -> str:
    """Return why a model was not loaded, and what to change.

    Args:
        path: the model's file.
        log: the engine's log lines.
        error: what llama-cpp-python raised.
        extra: names of the arguments in ``llm.extra``.
    """
    if known := _known(_SETTINGS, log) or _memory_hint(log) or _known(_FILES, log):
        return known
    names = ", ".join(sorted(extra))
    if isinstance(error, _ARGUMENT) and names:
        return (
            f"an argument of llama_cpp.Llama has a value of a wrong kind; check llm.extra ({names})"
        )
    if failed := _CONTEXT.search("\n".join(log)):
        return f"a setting in llm does not fit this model or machine: {failed[1]}"
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"the file can't be read: {error}"
    if magic != b"GGUF":
        return "the file is not a GGUF model"
    return (
        "the file may be truncated (compare its size or SHA-256 with the source), or memory is "
        "short (fewer llm.n_gpu_layers, a smaller llm.n_ctx or quantization)"
    )


def _known(hints: Mapping[str, str], log: Sequence[str]) -> str:
    """Return the first hint whose pattern is in the log, filled in; "" if none is."""
    text = "\n".join(log)
    for pattern, hint in hints.items():
        if match := re.search(pattern, text):
            return hint.format(*filter(None, match.groups()))
    return ""


def _memory_hint(log: Sequence[str]) -> str:
    """Describe which device lacks memory, for what, and the fix; return "" if none does."""
    text = "\n".join(log)
    asked = [*ASKED.finditer(text)]
    free = {match[1]: int(match[2]) for match in _FREE.finditer(text)}
    for pattern, use, remedy in _SHORT:
        if pattern.search(text):
            if not asked:
                return f"too little memory for {use}: {remedy}"
            device, size = asked[-1][1], int(asked[-1][2]) // _MIB
            had = f", {free[device]} MiB were free" if device in free else ""
            return f"too little memory on {device} for {use} (needs {size} MiB{had}): {remedy}"
    return ""
