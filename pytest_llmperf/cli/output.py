"""Prints lines and writes files for the commands, whatever the terminal's width and encoding."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_llmperf.text import printable, wrap_words

if TYPE_CHECKING:
    from pathlib import Path

#: Lines longer than this are hard to read, however wide the terminal is.
_WIDEST = 100
_NARROWEST = 40


class OutputError(Exception):
    """A result that could not be written; str() is the complete message."""


def width() -> int:
    """Return the columns to fill; 80 where the terminal does not say."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))


def say(*lines: str) -> None:
    """Print lines; control characters, and what the encoding lacks, are shown as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        safe = "\n".join(map(printable, line.split("\n")))
        print(safe.encode(encoding, "backslashreplace").decode(encoding))


def say_words(text: str, first: str = "", indent: str = "  ") -> None:
    """Print a sentence, broken into lines at its spaces."""
    say(*wrap_words(text, width(), indent=indent, first=first))


def complain(error: object, status: int) -> int:
    """Print a message on the standard error, and return the exit status.

    It may hold a commit's subject, and that anything.
    """
    lines = map(printable, f"llmperf: {error}".split("\n"))
    with suppress(BrokenPipeError):
        print("\n".join(lines), file=sys.stderr)
    return status


def put(text: str) -> None:
    """Print text at once; characters that the encoding lacks are shown as escapes.

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
    """Check that a file can be written, before minutes go into its content.

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
