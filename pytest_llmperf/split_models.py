"""The files of a model: one GGUF file, or all parts of one that gguf-split took apart.

A part says in its header which one it is (``split.no``, from 0) and of how many (``split.count``);
llama.cpp is given the first and finds the others by their names. Read here without llama.cpp,
since nothing is loaded yet where a missing part should be noticed.
Source: llama.cpp's ``llama_model_loader`` and ``llama_split_path``, and ggml's docs/gguf.md.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_NO, _COUNT = b"split.no", b"split.count"
#: Of enum gguf_type: how a value of a fixed size is stored.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Versions whose lengths are 64 bits; llama.cpp reads no others.
_VERSIONS = (2, 3)


class SplitModelError(ValueError):
    """A file is no model by itself; the message says which part it is, and what to name."""


def model_files(file: Path) -> tuple[Path, ...]:
    """Return all files of the model that starts with ``file``, whether or not they are there.

    Raises:
        SplitModelError: it is another part than the first, or its name hides where the others are.
        OSError: it can't be read.
    """
    named = _NAME.fullmatch(file.name)
    if named is None:
        # llama.cpp would find no other part from here, and says so.
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


def _split_keys(file: Path) -> tuple[int, int]:
    """Return which part a file is, from 0, and of how many; (0, 0) where it does not say."""
    with file.open("rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found = _find(data)
        except (ValueError, struct.error, OverflowError, KeyError):
            # An empty or damaged file; whoever loads it will say so.
            return 0, 0
    return found.get(_NO, 0), found.get(_COUNT, 0)


def _find(data: mmap.mmap) -> dict[bytes, int]:
    magic, version, _, keys = struct.unpack_from("<4sIQQ", data)
    found: dict[bytes, int] = {}
    if magic != b"GGUF" or version not in _VERSIONS:
        return found
    at = struct.calcsize("<4sIQQ")
    for _ in range(keys):
        end = _after_string(data, at)
        key = data[at + 8 : end]
        (kind,) = struct.unpack_from("<I", data, end)
        if key in (_NO, _COUNT):
            (found[key],) = struct.unpack_from(f"<{_FIXED[kind]}", data, end + 4)
            if len(found) == 2:
                break
        at = _after_value(data, end + 4, kind)
    return found


def _after_string(data: mmap.mmap, at: int) -> int:
    (length,) = struct.unpack_from("<Q", data, at)
    return at + 8 + int(length)


def _after_value(data: mmap.mmap, at: int, kind: int) -> int:
    """Return where the value of a type that lies at ``at`` ends."""
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
