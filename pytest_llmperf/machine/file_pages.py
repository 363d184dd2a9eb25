"""Reads files into memory again, so that they lie there in large pages."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

#: Bytes of a read: small ones let the system read ahead, in pages of up to 2 MiB.
_PIECE = 16 * 1024
#: Bytes that are dropped at a time, so that what is not read again stays in memory.
_WINDOW = 256 * 1024 * 1024
#: Seconds after which the rest is left as it is.
MAX_SECONDS = 20.0


def read_again(files: Sequence[Path], max_seconds: float = MAX_SECONDS) -> None:
    """Drop the pages of files from memory and read them in order.

    A file that was read in order is mapped in pages of up to 2 MiB. From small pages, which came
    one by one or were written in small pieces, decode is up to 15% slower
    (benchmarks/model_pages.py). Pages that another process has mapped stay as they are. Where the
    system can't drop pages (it is not Linux), nothing is read.

    Args:
        files: to read.
        max_seconds: after which the rest of them stays as it is.

    Raises:
        OSError: a file can't be read.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    end, piece = time.monotonic() + max_seconds, bytearray(_PIECE)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            for window in range(0, file.stat().st_size, _WINDOW):
                if time.monotonic() >= end:
                    return
                os.posix_fadvise(stream.fileno(), window, _WINDOW, os.POSIX_FADV_DONTNEED)
                while stream.tell() < window + _WINDOW and stream.readinto(piece):
                    pass
