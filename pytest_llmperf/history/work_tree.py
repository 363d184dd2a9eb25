"""Reads records that lie in the work tree, so that git need not unpack what it has of them."""

from __future__ import annotations

import hashlib
import os
import stat

from pytest_llmperf.history.objects import MAX_BYTES

#: Whatever lies there instead of a file is opened without waiting for it (a pipe).
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def checked_out(top: str, path: str, blob: str) -> bytes | None:
    """Return a file's content if it is the blob's, byte for byte; None if it is not.

    Args:
        top: of the work tree.
        path: of the file from there.
        blob: its hash, SHA-1 or SHA-256.
    """
    try:
        content = regular_file(f"{top}/{path}")
    except (OSError, ValueError):
        return None
    return content if content is not None and _hash(content, len(blob)) == blob else None


def regular_file(path: str) -> bytes | None:
    """Return a file's content; None for what is no file, or too long for a record.

    Raises:
        OSError: it is not there, or may not be read.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        return os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _hash(content: bytes, digits: int) -> str:
    """Return git's name of a file with this content."""
    new = hashlib.sha1 if digits == 40 else hashlib.sha256
    digest = new(b"blob %d\0" % len(content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()
