"""Prints lines, messages and errors, and writes files, for the commands."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_llmperf.interrupts import sigterm_raises
from pytest_llmperf.text import printable, wrap_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

#: Lines longer than this are hard to read, however wide the terminal is.
_WIDEST = 100
_NARROWEST = 40


class OutputError(Exception):
    """A result that could not be written; str() is the complete message."""


def width(narrowest: int = _NARROWEST, widest: int = _WIDEST) -> int:
    """Return the columns to fill; 80 where the terminal does not say."""
    return max(narrowest, min(widest, shutil.get_terminal_size((80, 24)).columns))


def say(*lines: str) -> None:
    """Print lines; control characters, and what the encoding lacks, are shown as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        safe = "\n".join(map(printable, line.split("\n")))
        print(safe.encode(encoding, "backslashreplace").decode(encoding))


def say_words(text: str, first: str = "", indent: str = "  ") -> None:
    """Print a sentence, broken into lines at its spaces."""
    say(*wrap_words(text, width(), indent=indent, first=first))


def note(message: object) -> None:
    """Print a message on the standard error at once; control characters are shown as escapes."""
    lines = map(printable, f"llmperf: {message}".split("\n"))
    with suppress(BrokenPipeError):
        print("\n".join(lines), file=sys.stderr, flush=True)


def complain(error: object, status: int) -> int:
    """Print an error on the standard error, and return the exit status."""
    note(error)
    return status


def ending_on_sigterm() -> AbstractContextManager[None]:
    """End on SIGTERM as on Ctrl-C: with the engine that is running, and what lies in the cache."""
    return sigterm_raises(SystemExit(128 + signal.SIGTERM))


def run_reporting(
    command: Callable[[], int],
    *,
    wrong: tuple[type[Exception], ...] = (),
    problems: tuple[type[Exception], ...],
) -> int:
    """Run a command; print the errors that it raises as messages, and return the exit status.

    ``wrong``: of an argument, which end it with 2; ``problems``: the others, which end it with 1.
    """
    try:
        status = command()
        sys.stdout.flush()
    except wrong as error:
        return complain(error, 2)
    except problems as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:  # whoever read along has seen enough
        _discard_output()
        return 1
    return status


def put(text: str, what: str = "the comparison") -> None:
    """Print text at once; characters that the encoding lacks are shown as escapes.

    ``what`` it is, for the error.

    Raises:
        OutputError: the output cannot be written to, such as a full disk.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        _give_up_output(error, what)


def put_utf8(text: str, what: str) -> None:
    """Print text for another program at once: as UTF-8, whatever the terminal's encoding is.

    Raises:
        OutputError: as ``put``.
    """
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
        sys.stdout.buffer.flush()
    except OSError as error:
        _give_up_output(error, what)


def _give_up_output(error: OSError, what: str) -> None:
    _discard_output()
    if not isinstance(error, BrokenPipeError):  # else whoever read along has seen enough
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{what} can't be printed: {reason}") from None


def _discard_output() -> None:
    """Keep Python from complaining once more, at its end, that the output can't be written to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def write(path: Path, text: str, what: str, option: str) -> None:
    """Write ``what`` to a file, whole or not at all, creating its folder.

    ``option``: the one that named the file.

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
            f"{what} can't be written to {path}: {reason}\n"
            f"  give {option} a file name in a folder that can be written to"
        ) from None
