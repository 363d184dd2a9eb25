"""Folders that a test can't write, whoever runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Make a folder read-only, and give up root's right to write anywhere.

    The folder must not be in ``tmp_path``, which only its owner can enter.
    """
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
