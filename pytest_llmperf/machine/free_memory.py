"""Total and free memory for this process: the system's, or its control group's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.cpus import control_groups
from pytest_llmperf.kernel_files import read_number, read_numbers

if TYPE_CHECKING:
    import psutil

_ROOT = Path("/")
#: The limit that a kernel reports for a group without one.
_NO_LIMIT = 1 << 60

#: Bytes that have to stay free for others; a GPU with fewer counts as short of memory.
_SPARE = 512 << 20
#: The second process may be larger than the first by this factor, which shows only at its end.
_LARGER = 1.25


@dataclass(frozen=True)
class Memory:
    """Total and available memory, in bytes.

    Attributes:
        total: the machine's, or its control group's limit if that is smaller.
        available: memory that can be allocated without swapping.
        limited: a control group (a container, a job) sets ``total``.
    """

    total: int
    available: int
    limited: bool = False


def free_memory(root: Path = _ROOT) -> int:
    """Return the bytes that can be allocated without swapping."""
    return read_memory(root).available


def read_memory(root: Path = _ROOT) -> Memory:
    """Read total and available memory, with the limits of this process's control groups."""
    import psutil

    machine = psutil.virtual_memory()
    total, available, limited = int(machine.total), int(machine.available), False
    for maximum, left in group_limits(root):
        total, limited = (maximum, True) if maximum < total else (total, limited)
        available = min(available, left)
    return Memory(total, max(0, available), limited)


def group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and remaining bytes of every control group of this process."""
    for _, folder in control_groups("memory", root):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            maximum, now = read_number(folder / limit), read_number(folder / used)
            if maximum is not None and now is not None and maximum < _NO_LIMIT:
                # Cached files (such as the model) are evicted when memory is needed.
                cached = read_numbers(folder / "memory.stat").get(cache, 0)
                yield maximum, maximum - now + cached


def has_room_beside(pids: Iterable[int]) -> bool:
    """Whether there is free memory for a copy of processes and their children, with a reserve.

    Memory that they share with others, such as a mapped model, is counted in full; False if
    unknown.
    """
    import psutil

    try:
        held = sum(process.memory_info().rss for process in _with_children(pids))
    except psutil.Error:
        return False
    return fits_again(free_memory(), held)


def fits_again(free: int, held: int) -> bool:
    """Whether the bytes that a process holds fit into the free bytes once more, with a reserve."""
    return free >= _LARGER * held + _SPARE


def peak_memory(pids: Iterable[int]) -> int:
    """Return the peak memory of processes and their children, in bytes; 0 if unknown.

    A mapped file counts as far as it was read. Where the system keeps no peak, current memory.
    """
    import psutil

    try:
        return sum(map(_peak, _with_children(pids)))
    except psutil.Error:
        return 0


def _with_children(pids: Iterable[int]) -> list[psutil.Process]:
    import psutil

    roots = [psutil.Process(pid) for pid in pids]
    processes = (process for root in roots for process in (root, *root.children(recursive=True)))
    return list({process.pid: process for process in processes}.values())


def _peak(process: psutil.Process) -> int:
    kept = read_numbers(Path(f"/proc/{process.pid}/status")).get("VmHWM:")
    return kept << 10 if kept else int(process.memory_info().rss)
