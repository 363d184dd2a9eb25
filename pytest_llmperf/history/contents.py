"""Reads stored files from git and from the work tree, or returns why they cannot be read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.layout import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmperf.repository.git import Repository

_NOT_HERE = (
    "its content is not in this clone, or far too long\n"
    "restore the content: git fetch --refetch; a file that is too long can only be removed"
)
_NO_FILE = "not a regular file, or far too long\nremove it"
#: Opened without blocking, as it may be a pipe.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def committed_contents(repository: Repository, blobs: Sequence[str]) -> Iterator[bytes | str]:
    """Yield the content of each blob, in order, or why it cannot be read.

    Raises:
        GitError: git failed.
    """
    for content in repository.available_blobs(blobs, MAX_BYTES):
        yield _NOT_HERE if content is None else content


def work_tree_content(path: str) -> bytes | str | None:
    """Return a file's content, or why it cannot be read; None if the file is gone."""
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return _NO_FILE
            return file.read()
    except FileNotFoundError:  # also a link to nowhere
        return None
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
