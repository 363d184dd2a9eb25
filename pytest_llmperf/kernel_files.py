"""Reads the files in which Linux shows its counters, settings and processes.

A file that is missing or hidden, or whose process is gone, is read as empty.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

#: More than a line of /proc/PID/stat has: 52 numbers and a name of at most 64 bytes.
_STAT_BYTES = 4096


def read_text(path: Path) -> str:
    """Return a file's text."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """Return the number that a file holds; None if it holds none."""
    text = read_text(path).strip()
    return int(text) if text.isdecimal() else None


def read_numbers(path: Path, separator: str | None = None) -> dict[str, int]:
    """Return the numbers of a file of ``name number`` lines, by name."""
    numbers = {}
    for line in read_text(path).splitlines():
        words = line.split(separator)
        if len(words) > 1 and words[1].strip().isdecimal():
            numbers[words[0].strip()] = int(words[1])
    return numbers


def process_stats() -> Iterator[tuple[int, str, list[str]]]:
    """Yield pid, name and further fields, beginning with the state, of every visible process.

    Five times cheaper than psutil. Source: proc_pid_stat(5).
    """
    if not sys.platform.startswith("linux"):
        return
    for entry in os.listdir("/proc"):  # noqa: PTH208 - Path objects double the cost
        if not entry.isdigit():
            continue
        try:
            # Unbuffered: one read gets the whole line, and a buffer doubles the cost.
            with open(f"/proc/{entry}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                text = file.read(_STAT_BYTES).decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        # The name is in parentheses and may contain any character.
        end = text.rfind(")")
        yield int(entry), text[text.find("(") + 1 : end], text[end + 2 :].split()
