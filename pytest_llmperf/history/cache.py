"""Remembers what was read of each record, by its blob, so that the next run only reads new ones.

One file per repository, replaced whole: a reader sees the old one or the new
one, a run that is killed leaves a temporary file that the next one removes, and
of two runs at once the later one's file stays. It holds only what the history
held when it was written; the files of other repositories are removed, oldest
first, where all of them are longer than ``MOST_BYTES``. Whatever is wrong with it
costs reading the records again, never an answer.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_llmperf.history.sessions import Sessions, from_bytes, to_bytes

if TYPE_CHECKING:
    from pathlib import Path

#: Raised whenever what is kept of a record changes.
VERSION = 2
#: Of all repositories together.
MOST_BYTES = 256 << 20
#: Fewer new records than this are quicker read again than written down.
WORTHWHILE = 20
_SUFFIX = ".sessions"
#: A temporary file this old belongs to no run, seconds.
_ABANDONED = 3600.0


class SessionCache:
    """What is remembered of one repository's records.

    ``folder`` is where files of this kind lie; ``common_dir`` the repository's own folder.
    """

    def __init__(self, folder: Path, common_dir: Path) -> None:
        name = hashlib.sha256(os.fsencode(common_dir)).hexdigest()[:24]
        self._file = folder / f"{name}{_SUFFIX}"

    def read(self) -> Sessions:
        """Return the sessions that are remembered; none if there is nothing usable."""
        try:
            with self._file.open("rb") as stream:
                head, packed = stream.read(_HEAD), stream.read()
            if head != _head(packed):
                return Sessions()
            return from_bytes(packed)
        except (OSError, ValueError, KeyError, TypeError, IndexError, MemoryError):
            return Sessions()

    def write(self, sessions: Sessions) -> None:
        """Remember these sessions instead; where that cannot be, nothing happens."""
        packed = to_bytes(sessions)
        folder = self._file.parent
        temporary = folder / f".{self._file.name}.{os.getpid()}.tmp"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._sweep(len(packed))
            try:
                with temporary.open("wb") as stream:
                    stream.write(_head(packed))
                    stream.write(packed)
                temporary.replace(self._file)
            finally:
                temporary.unlink(missing_ok=True)

    def _sweep(self, coming: int) -> None:
        """Remove leftovers, and other repositories' files until there is room."""
        now = time.time()
        others: list[tuple[float, int, Path]] = []
        for path in self._file.parent.iterdir():
            with suppress(OSError):  # another run was first
                status = path.stat()
                if path.suffix == ".tmp" and now - status.st_mtime > _ABANDONED:
                    path.unlink()
                elif path.suffix == _SUFFIX and path != self._file:
                    others.append((status.st_mtime, status.st_size, path))
        room = MOST_BYTES - coming - sum(size for _, size, _ in others)
        for _, size, path in sorted(others):
            if room >= 0:
                break
            with suppress(OSError):
                path.unlink()
            room += size


def _head(packed: bytes) -> bytes:
    """Return the line that goes before: what this is, and that it is whole."""
    return b"llmperf-sessions %03d %s\n" % (VERSION, hashlib.sha256(packed).hexdigest().encode())


_HEAD = len(_head(b""))
