"""Reads the files in which Linux shows its counters and settings.

One that is missing or hidden, or whose process is gone, is read as empty.
"""

from __future__ import annotations

from pathlib import Path


def text_of(path: Path) -> str:
    """Return a file's text."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def number_of(path: Path) -> int | None:
    """Return the number that a file holds; None if it holds none."""
    text = text_of(path).strip()
    return int(text) if text.isdecimal() else None


def numbers_of(path: Path, separator: str | None = None) -> dict[str, int]:
    """Return the numbers of a file of ``name number`` lines, by name."""
    found = {}
    for line in text_of(path).splitlines():
        words = line.split(separator)
        if len(words) > 1 and words[1].strip().isdecimal():
            found[words[0].strip()] = int(words[1])
    return found
