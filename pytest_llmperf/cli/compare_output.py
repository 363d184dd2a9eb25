"""Where a comparison goes: the standard output, or a file that is written whole."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class OutputError(Exception):
    """The comparison could not be written; str() is the complete message."""


def put(text: str) -> None:
    """Print text; what the output's encoding lacks is shown as escapes.

    Raises:
        OutputError: the output cannot be written to, such as a full disk.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # Python must not complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # else whoever read along has seen enough
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"the comparison can't be printed: {reason}") from None


def check_writable(option: str, path: Path) -> None:
    """Refuse a place for a file before minutes go into what it is to hold.

    Raises:
        OutputError: nothing can be written there.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {folder}"
        raise OutputError(f"{option} {path}: {what}; name a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{option} {path}: nothing can be written in {folder}")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, creating its folder.

    Raises:
        OutputError: it can't be written there.
    """
    from pytest_llmperf.atomic_write import atomic_write

    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text.encode(errors="backslashreplace").decode())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(
            f"the comparison can't be written to {path}: {reason}\n"
            "  give --output a file name in a folder that can be written to"
        ) from None
