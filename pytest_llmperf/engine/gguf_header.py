"""Reads tensors and metadata from a GGUF file's header, with ggml's own functions.

The library that llama.cpp has loaded already exports them, so the types and
sizes of every quantization are ggml's own and can't go out of date here.
Source: llama.cpp's ggml/include/gguf.h.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.config.gguf import model_files

#: How each integer type of enum gguf_type is read.
_WHOLE = {
    0: ctypes.c_uint8,
    1: ctypes.c_int8,
    2: ctypes.c_uint16,
    3: ctypes.c_int16,
    4: ctypes.c_uint32,
    5: ctypes.c_int32,
    10: ctypes.c_uint64,
    11: ctypes.c_int64,
}
_STRING, _ARRAY = 8, 9


class GgufError(Exception):
    """The file, or a part of it, can't be read; the message names it."""


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a file.

    Attributes:
        name: such as ``blk.0.attn_q.weight``.
        rows: of a two-dimensional tensor; its last dimension otherwise.
        size: in bytes, as it is stored.
    """

    name: str
    rows: int
    size: int


@dataclass(frozen=True)
class GgufHeader:
    """Tensors and whole-number metadata of a model, from all files if it is split.

    Attributes:
        architecture: ``general.architecture``.
        tensors: all of them.
        numbers: the keys that hold whole numbers, one or (per layer) several.
    """

    architecture: str
    tensors: tuple[GgufTensor, ...]
    numbers: dict[str, tuple[int, ...]]

    def number(self, key: str) -> tuple[int, ...]:
        """Return the architecture's own ``key`` (``expert_count``); () where it has none."""
        return self.numbers.get(f"{self.architecture}.{key}", ())


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file; for a split model's first file, the headers of all.

    Raises:
        GgufError: a file is missing or is no GGUF file.
        AttributeError, OSError: the installed ggml lacks these functions.
    """
    headers = [_read_file(file) for file in model_files(path)]
    return GgufHeader(
        headers[0].architecture,
        tuple(tensor for header in headers for tensor in header.tensors),
        headers[0].numbers,
    )


class _InitParams(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


@functools.cache
def _ggml() -> ctypes.CDLL:
    """Return the ggml library that llama.cpp uses, with the signatures of the functions we call."""
    from llama_cpp import _ctypes_extensions, llama_cpp

    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(llama_cpp.__file__).parent / "lib")
    library: ctypes.CDLL = _ctypes_extensions.load_shared_library("ggml-base", folder)
    context, index, text = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
    for name, result, arguments in (
        ("gguf_init_from_file", context, [text, _InitParams]),
        ("gguf_free", None, [context]),
        ("gguf_get_n_kv", index, [context]),
        ("gguf_get_key", text, [context, index]),
        ("gguf_get_kv_type", ctypes.c_int, [context, index]),
        ("gguf_get_val_data", context, [context, index]),
        ("gguf_get_val_str", text, [context, index]),
        ("gguf_get_arr_type", ctypes.c_int, [context, index]),
        ("gguf_get_arr_n", ctypes.c_size_t, [context, index]),
        ("gguf_get_arr_data", context, [context, index]),
        ("gguf_get_n_tensors", index, [context]),
        ("gguf_get_tensor_name", text, [context, index]),
        ("gguf_get_tensor_size", ctypes.c_size_t, [context, index]),
        ("gguf_get_tensor_ne", ctypes.POINTER(ctypes.c_int64), [context, index]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _read_file(path: Path) -> GgufHeader:
    ggml = _ggml()
    if not path.is_file():
        raise GgufError(f"{path} is missing")
    # Without a context for tensors it reads the header alone.
    file = ggml.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not file:
        raise GgufError(f"{path} is not a GGUF file that this ggml can read")
    try:
        keys = {ggml.gguf_get_key(file, i).decode(): i for i in range(ggml.gguf_get_n_kv(file))}
        return GgufHeader(
            _string(ggml, file, keys.get("general.architecture")),
            tuple(_tensors(ggml, file)),
            {
                key: found
                for key, index in keys.items()
                if not key.startswith("tokenizer.") and (found := _numbers(ggml, file, index))
            },
        )
    finally:
        ggml.gguf_free(file)


def _tensors(ggml: Any, file: int) -> Iterator[GgufTensor]:
    for index in range(ggml.gguf_get_n_tensors(file)):
        # Four dimensions, 1 where there are fewer.
        shape = ggml.gguf_get_tensor_ne(file, index)[:4]
        rows = next((length for length in reversed(shape[1:]) if length > 1), 1)
        name = ggml.gguf_get_tensor_name(file, index).decode()
        yield GgufTensor(name, rows, ggml.gguf_get_tensor_size(file, index))


def _string(ggml: Any, file: int, place: int | None) -> str:
    if place is None or ggml.gguf_get_kv_type(file, place) != _STRING:
        return ""
    return str(ggml.gguf_get_val_str(file, place).decode("utf-8", "replace"))


def _numbers(ggml: Any, file: int, place: int) -> tuple[int, ...]:
    kind = ggml.gguf_get_kv_type(file, place)
    if kind in _WHOLE:
        data, count = ggml.gguf_get_val_data(file, place), 1
    elif kind == _ARRAY and (kind := ggml.gguf_get_arr_type(file, place)) in _WHOLE:
        data, count = (
            ggml.gguf_get_arr_data(file, place),
            ggml.gguf_get_arr_n(file, place),
        )
    else:
        return ()
    return tuple((_WHOLE[kind] * count).from_address(data)) if count else ()
