"""Atomic writing of files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def atomic_write(path: Path, content: str | bytes, like: os.stat_result | None = None) -> None:
    """Write beside ``path`` and move into place, so that no reader sees half a file.

    Text is written as UTF-8. A killed writer may leave a hidden ``.llmperf-*.tmp``.

    Args:
        path: the file; if it is a link, its target is replaced.
        content: content of the file.
        like: the file gets this mode and, where the system allows it, this owner.

    Raises:
        OSError: as the system reports it; nothing is left behind.
        UnicodeEncodeError: UTF-8 can't express the text; nothing is written.
    """
    path = path.resolve()  # a link stays, its target is replaced
    data = content.encode() if isinstance(content, str) else content
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a pipe or /dev/stdout can't be replaced
        return
    temporary = _beside(path)
    try:
        write_new(temporary, data, like)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a file name beside ``path`` to write to; at the end of the block it becomes ``path``.

    If the block raises, whatever it wrote is removed. A killed writer may leave a hidden
    ``.llmperf-*.tmp``.

    Raises:
        OSError: the file can't be written through to the disk, or can't get its name.
    """
    temporary = _beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".llmperf-{os.getpid()}-{secrets.token_hex(6)}.tmp")


def write_new(path: Path, content: bytes, like: os.stat_result | None = None) -> None:
    """Write a new file through to the disk, with the mode and owner of ``like``.

    Raises:
        OSError: it exists, or as the system reports it; a partial file may be left behind.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # A file that only its owner may read is never readable by others, not even while written.
    descriptor = os.open(path, flags, 0o666 if like is None else 0o600)
    try:
        if like is not None:
            _imitate(descriptor, like)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _imitate(descriptor: int, like: os.stat_result) -> None:
    if hasattr(os, "fchown"):
        with suppress(OSError):
            os.fchown(descriptor, like.st_uid, like.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(like.st_mode))


def unwritable(folder: Path, setting: str) -> list[str]:
    """Return a problem if ``folder``, or its nearest existing parent, is not writable."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"{setting}: {place} is a file, not a folder; move it away or name another folder"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"{setting}: nothing can be written in {place}; change its permissions"]
    return []
