"""Output of the commands: prints lines, messages and errors, and writes files."""

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
    """Raised if a result can't be written; ``str()`` is the complete message."""


def width(narrowest: int = _NARROWEST, widest: int = _WIDEST) -> int:
    """Return the width of the output in columns; 80 if the terminal's is unknown."""
    return max(narrowest, min(widest, shutil.get_terminal_size((80, 24)).columns))


def say(*lines: str, flush: bool = False) -> None:
    """Print lines, with control and unencodable characters shown as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        safe = "\n".join(map(printable, line.split("\n")))
        print(safe.encode(encoding, "backslashreplace").decode(encoding), flush=flush)


def say_wrapped(text: str, first: str = "", indent: str = "  ", *, flush: bool = False) -> None:
    """Print a text, broken into lines at its spaces."""
    say(*wrap_words(text, width(), indent=indent, first=first), flush=flush)


def note(message: object) -> None:
    """Print a message on standard error, flushed, with control characters shown as escapes."""
    lines = map(printable, f"llmperf: {message}".split("\n"))
    with suppress(BrokenPipeError):
        print("\n".join(lines), file=sys.stderr, flush=True)


def fail(error: object, status: int) -> int:
    """Print an error on standard error, and return the exit status."""
    note(error)
    return status


def ending_on_sigterm() -> AbstractContextManager[None]:
    """End on SIGTERM like on Ctrl-C, so that the running engine and the cache are cleaned up."""
    return sigterm_raises(SystemExit(128 + signal.SIGTERM))


def run_reporting(
    command: Callable[[], int],
    *,
    wrong: tuple[type[Exception], ...] = (),
    problems: tuple[type[Exception], ...],
) -> int:
    """Run a command, print its errors as messages, and return the exit status.

    ``wrong`` are errors of an argument (status 2); ``problems`` are other errors (status 1).
    """
    try:
        status = command()
        sys.stdout.flush()
    except wrong as error:
        return fail(error, 2)
    except problems as error:
        return fail(error, 1)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:  # the reader, such as head, has stopped reading
        _discard_output()
        return 1
    return status


def put(text: str, what: str = "the comparison") -> None:
    """Print text, flushed, with unencodable characters shown as escapes.

    ``what`` names the text in an error.

    Raises:
        OutputError: the output can't be written, for example because the disk is full.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        _give_up_output(error, what)


def put_utf8(text: str, what: str) -> None:
    """Print text for another program, flushed, as UTF-8 whatever the terminal's encoding is.

    Raises:
        OutputError: the output can't be written.
    """
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
        sys.stdout.buffer.flush()
    except OSError as error:
        _give_up_output(error, what)


def _give_up_output(error: OSError, what: str) -> None:
    _discard_output()
    if not isinstance(error, BrokenPipeError):  # otherwise the reader has just stopped reading
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{what} can't be printed: {reason}") from None


def _discard_output() -> None:
    """Keep Python from reporting at its exit, too, that the output can't be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_writable(option: str, path: Path) -> None:
    """Check that a file can be written, before minutes are spent on its content.

    Raises:
        OutputError: the file can't be written.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {folder}"
        raise OutputError(f"{option} {path}: {what}; name a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{option} {path}: nothing can be written in {folder}")


def write(path: Path, text: str, what: str, option: str) -> None:
    """Write ``text`` to a file atomically, creating its folder.

    ``what`` names the text, and ``option`` the option that gave the path, in an error.

    Raises:
        OutputError: the file can't be written.
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
