"""How much memory this process may still take: the system's, or what its control group leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_llmperf.cpus import control_groups

_ROOT = Path("/")
#: Memory a kernel names as the limit of a group without one.
_NO_LIMIT = 1 << 60


def free_memory(root: Path = _ROOT) -> int:
    """Return the bytes that can be taken without pushing anything out to swap."""
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_by_groups(root)]))


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield what every control group that holds this process leaves of its limit."""
    for _, folder in control_groups("memory", root):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None and most < _NO_LIMIT:
                # Files that were read and lie in memory (the model) make room when it is needed.
                yield most - now + _line(folder / "memory.stat", cache)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _line(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if words[0] == name), 0)
