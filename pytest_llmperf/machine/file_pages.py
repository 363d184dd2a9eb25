"""Puts a file's pages into memory anew, so that a mapped file lies there alike in every session."""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

#: Bytes of a read: small ones let the system read ahead, in pages of up to 2 MiB.
_PIECE = 16 * 1024
#: Seconds after which the rest is left to whoever maps the file.
LONGEST_S = 20.0


def read_again(file: Path, longest: float = LONGEST_S) -> None:
    """Drop a file's pages from memory and read it from its beginning.

    A file that was read in order is mapped in pages of up to 2 MiB. From small pages, which came
    one by one or were written in small pieces, decode is up to 15% slower
    (benchmarks/model_pages.py). Pages that another process has mapped stay as they are. Does
    nothing where the system can't drop pages (it is not Linux), or the file can't be read.

    Args:
        file: to read.
        longest: seconds after which the rest is not read.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError), file.open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        piece, end = bytearray(_PIECE), time.monotonic() + longest
        while stream.readinto(piece) and time.monotonic() < end:
            pass


def large_pages(file: Path) -> float | None:
    """Return the share of a file that is mapped in pages of 2 MiB; None if the system hides it.

    The whole file is mapped for that, and read where it is not in memory.

    Raises:
        OSError: it can't be mapped.
    """
    if not hasattr(mmap, "MAP_POPULATE"):
        return None
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped,
    ):
        inode = f" {os.fstat(stream.fileno()).st_ino} "
        found = 0
        is_own = False
        for line in Path("/proc/self/smaps").read_text(errors="replace").splitlines():
            name = line.split(None, 1)[0]
            if not name.endswith(":"):
                is_own = inode in line
            elif is_own and name == "FilePmdMapped:":
                found += int(line.split()[1]) * 1024
        return found / len(mapped)
