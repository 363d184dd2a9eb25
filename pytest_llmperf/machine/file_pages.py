"""Reads files into memory again, so that they are mapped in large pages."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

#: Bytes per read: small reads let the system read ahead, in pages of up to 2 MiB.
_PIECE = 16 * 1024
#: Bytes dropped at a time, so that the part that is not read again stays in memory.
_WINDOW = 256 * 1024 * 1024
#: Seconds after which the rest of the files is left as it is.
MAX_SECONDS = 20.0


def read_again(files: Sequence[Path], max_seconds: float = MAX_SECONDS) -> None:
    """Drop the pages of files from memory and read them in order.

    A file that was read in order is mapped in pages of up to 2 MiB. From small pages, which were
    read one by one or written in small pieces, decoding is up to 15% slower
    (benchmarks/model_pages.py). Pages that another process has mapped stay as they are. Where the
    system can't drop pages (it is not Linux), nothing is read.

    Args:
        files: the files to read.
        max_seconds: time limit, after which the rest of the files is left as it is.

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
