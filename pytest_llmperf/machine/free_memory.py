"""How much memory this process may take in all, and still: the system's, or its control group's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.cpus import control_groups

_ROOT = Path("/")
#: Memory a kernel names as the limit of a group without one.
_NO_LIMIT = 1 << 60

#: What has to stay free besides, for whatever else the machine does.
_SPARE = 512 << 20
#: How much larger than the first the second may be.
_LARGER = 1.25


@dataclass(frozen=True)
class Memory:
    """Bytes of memory.

    Attributes:
        total: the machine's, or its control group's limit where that is less.
        available: what can be taken without pushing anything out to swap.
        limited: a control group (a container, a job) sets ``total``.
    """

    total: int
    available: int
    limited: bool = False


def free_memory(root: Path = _ROOT) -> int:
    """Return the bytes that can be taken without pushing anything out to swap."""
    return read_memory(root).available


def read_memory(root: Path = _ROOT) -> Memory:
    """Read what there is and what is free, every control group that holds this process counted."""
    import psutil

    machine = psutil.virtual_memory()
    total, available, limited = int(machine.total), int(machine.available), False
    for most, left in group_limits(root):
        total, limited = (most, True) if most < total else (total, limited)
        available = min(available, left)
    return Memory(total, max(0, available), limited)


def group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit of every control group that holds this process, and what is left of it."""
    for _, folder in control_groups("memory", root):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None and most < _NO_LIMIT:
                # Files that were read and lie in memory (the model) make room when it is needed.
                yield most, most - now + _line(folder / "memory.stat", cache)


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


def has_room_beside(pid: int) -> bool:
    """Whether what a process and its children hold is free once more, with some to spare.

    What they share with others, a mapped model for one, is counted as if it were needed
    twice; False where it cannot be told.
    """
    import psutil

    try:
        one = psutil.Process(pid)
        held = sum(each.memory_info().rss for each in (one, *one.children(recursive=True)))
    except psutil.Error:
        return False
    return free_memory() >= _LARGER * held + _SPARE
