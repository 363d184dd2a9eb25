"""Checks a model's GGUF files before an engine loads them, so that a wrong file causes no crash.

A model is one file, or several parts made by gguf-split. A part's header has its number
(``split.no``, from 0) and the number of parts (``split.count``); llama.cpp gets the first part
and finds the others by their names. The header is read without llama.cpp, which is not loaded
yet when a missing part should be noticed.
Source: llama.cpp's ``llama_model_loader`` and ``llama_split_path``, and ggml's docs/gguf.md.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Set
from pathlib import Path

from pytest_llmperf.config.errors import ModelError

MAGIC = b"GGUF"
_LFS_POINTER = b"version https://git-lfs"
_SHOWN_NAMES = 5

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_NO, _COUNT = b"split.no", b"split.count"
_FILE_TYPE = b"general.file_type"
#: Formats of values of a fixed size, by enum gguf_type.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Versions with 64-bit lengths; llama.cpp reads no others.
_VERSIONS = (2, 3)


def check_gguf(path: Path, model_path: str) -> Path:
    """Return ``path`` if it is a readable file that starts like a GGUF file.

    Args:
        path: the file.
        model_path: the user's setting, for the message.

    Raises:
        ModelError: it is a directory, unreadable, empty, or of another format.
    """
    if path.is_dir():
        names = gguf_names(path)
        what = f"name one of its models: {', '.join(names)}" if names else "it holds no .gguf file"
        raise ModelError(model_path, f"{path} is a directory; {what}")
    if not path.is_file():
        raise ModelError(model_path, f"{path} is not a regular file")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_LFS_POINTER))
    except OSError as error:
        raise ModelError(model_path, f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise ModelError(model_path, f"{path} is empty; was its download cut short?")
    if head.startswith(_LFS_POINTER):
        text = f"{path} is a Git LFS pointer, not the model; run 'git lfs pull'"
        raise ModelError(model_path, text)
    if not head.startswith(MAGIC):
        got = ascii(head[: len(MAGIC)].decode("latin-1"))
        text = f"{path} is not a GGUF file (it starts with {got}, expected 'GGUF')"
        raise ModelError(model_path, text)
    return path


def gguf_names(folder: Path) -> list[str]:
    """Return the first names of GGUF files in ``folder``, sorted; none if it can't be read."""
    try:
        names = sorted(child.name for child in folder.iterdir() if child.suffix == ".gguf")
    except OSError:
        return []
    return names[:_SHOWN_NAMES]


class SplitModelError(ValueError):
    """A file is only part of a model; the message says which part, and the file to name instead."""


def model_files(file: Path) -> tuple[Path, ...]:
    """Return all files of the model that starts with ``file``, existing or not.

    Raises:
        SplitModelError: it is not the first part, or its name does not lead to the others.
        OSError: it can't be read.
    """
    named = _NAME.fullmatch(file.name)
    if named is None:
        # llama.cpp would find no other part either, and reports it.
        return (file,)
    number, count = _split_keys(file)
    if count <= 1:
        return (file,)
    first = f"{named['stem']}-00001-of-{count:05d}.gguf"
    if number:
        raise SplitModelError(
            f"{file.name} is part {number + 1} of a model in {count} files; name the first, {first}"
        )
    if file.name != first:
        raise SplitModelError(
            f"{file.name} is the first of {count} files by its content, and not by its name, from "
            f"which llama.cpp finds the others; rename it to {first}"
        )
    return tuple(
        file.with_name(f"{named['stem']}-{part:05d}-of-{count:05d}.gguf")
        for part in range(1, count + 1)
    )


def stated_file_type(file: Path) -> int | None:
    """Return the quantization in a file's header, from enum llama_ftype; None if there is none.

    Raises:
        OSError: it can't be read.
    """
    return _numbers(file, {_FILE_TYPE}).get(_FILE_TYPE)


def _split_keys(file: Path) -> tuple[int, int]:
    """Return a part's number, from 0, and the number of parts; (0, 0) if unknown."""
    numbers = _numbers(file, {_NO, _COUNT})
    return numbers.get(_NO, 0), numbers.get(_COUNT, 0)


def _numbers(file: Path, keys: Set[bytes]) -> dict[bytes, int]:
    """Return the numbers in a file's header, for those of the keys that it has."""
    with file.open("rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _find(data, keys)
        except (ValueError, struct.error, OverflowError, KeyError):
            # An empty or damaged file, which is reported when it is loaded.
            return {}


def _find(data: mmap.mmap, keys: Set[bytes]) -> dict[bytes, int]:
    magic, version, _, count = struct.unpack_from("<4sIQQ", data)
    numbers: dict[bytes, int] = {}
    if magic != MAGIC or version not in _VERSIONS:
        return numbers
    at = struct.calcsize("<4sIQQ")
    for _ in range(count):
        end = _after_string(data, at)
        key = data[at + 8 : end]
        (kind,) = struct.unpack_from("<I", data, end)
        if key in keys:
            (numbers[key],) = struct.unpack_from(f"<{_FIXED[kind]}", data, end + 4)
            if len(numbers) == len(keys):
                break
        at = _after_value(data, end + 4, kind)
    return numbers


def _after_string(data: mmap.mmap, at: int) -> int:
    (length,) = struct.unpack_from("<Q", data, at)
    return at + 8 + int(length)


def _after_value(data: mmap.mmap, at: int, kind: int) -> int:
    """Return the end of the value of type ``kind`` at position ``at``."""
    if kind in _FIXED:
        return at + struct.calcsize(f"<{_FIXED[kind]}")
    if kind == _STRING:
        return _after_string(data, at)
    if kind != _ARRAY:
        raise KeyError(kind)
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _FIXED:
        return at + int(count) * struct.calcsize(f"<{_FIXED[inner]}")
    for _ in range(count):
        at = _after_value(data, at, inner)
    return at
