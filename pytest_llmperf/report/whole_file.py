"""Writes a report's file whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write beside ``path`` and move into place, so that no reader sees half a file.

    Raises:
        OSError: as the system reports it; nothing is left behind.
    """
    path = path.resolve()  # a link keeps its place, what it points to is replaced
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")  # a pipe or /dev/stdout has no place to move to
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
