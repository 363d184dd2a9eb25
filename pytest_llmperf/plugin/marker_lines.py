"""Finds a marker in the source of its test, for messages about the marker."""

from __future__ import annotations

import linecache
import re

import pytest

_BEGINS = re.compile(r"\s*(async\s+def|def|class)\b")


def marker_line(item: pytest.Item, name: str) -> str:
    """Return the marker's source line with its file and number, to append to a message.

    If the marker is set elsewhere, such as on a base class, return the test's own line; if the
    source can't be read, an empty text.
    """
    path, first, _ = item.location
    lines = linecache.getlines(str(item.path))
    if first is None or first >= len(lines):
        return ""
    uses = re.compile(rf"\bmark\.{re.escape(name)}\b")
    definition = next((n for n in range(first, len(lines)) if _BEGINS.match(lines[n])), first)
    candidates = [n for n in range(first, definition) if uses.search(lines[n])]
    if not candidates:
        # It is set on a class or a module; if several have such a marker, it could be any of them.
        everywhere = [n for n, line in enumerate(lines) if uses.search(line)]
        candidates = everywhere if len(everywhere) == 1 else [definition]
    return f"\n  {path}:{candidates[0] + 1}: {lines[candidates[0]].strip()}"
