"""Where a marker stands in a test's source, for messages about it."""

from __future__ import annotations

import linecache
import re

import pytest

_BEGINS = re.compile(r"\s*(async\s+def|def|class)\b")


def marker_line(item: pytest.Item, name: str) -> str:
    """Return the marker's line with its file and number, on a line of its own.

    That of the test where the marker is set elsewhere, such as on a base class; empty where the
    source can't be read.
    """
    path, first, _ = item.location
    lines = linecache.getlines(str(item.path))
    if first is None or first >= len(lines):
        return ""
    uses = re.compile(rf"\bmark\.{re.escape(name)}\b")
    begins = next((n for n in range(first, len(lines)) if _BEGINS.match(lines[n])), first)
    found = [n for n in range(first, begins) if uses.search(lines[n])]
    if not found:
        # Of a class or a module; where several have such a marker, it could be any.
        everywhere = [n for n, line in enumerate(lines) if uses.search(line)]
        found = everywhere if len(everywhere) == 1 else [begins]
    return f"\n  {path}:{found[0] + 1}: {lines[found[0]].strip()}"
