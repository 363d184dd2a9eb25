"""Lines for the terminal: as wide as it is, and never failing on its encoding."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress

from pytest_llmperf.text import printable, wrap_words

#: Lines longer than this are hard to read, however wide the terminal is.
_WIDEST = 100
_NARROWEST = 40


def width() -> int:
    """Columns to fill; 80 where nobody knows."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))


def say(*lines: str) -> None:
    """Print lines; control characters, and what the encoding lacks, are shown as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        safe = "\n".join(map(printable, line.split("\n")))
        print(safe.encode(encoding, "backslashreplace").decode(encoding))


def say_words(text: str, first: str = "", indent: str = "  ") -> None:
    """Print a sentence, broken at its spaces."""
    say(*wrap_words(text, width(), indent=indent, first=first))


def complain(error: object, status: int) -> int:
    """Print a message on the standard error, and return the exit status.

    It may hold a commit's subject, and that anything.
    """
    lines = map(printable, f"llmperf: {error}".split("\n"))
    with suppress(BrokenPipeError):
        print("\n".join(lines), file=sys.stderr)
    return status
