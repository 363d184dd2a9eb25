"""CPU time counters of every process and of the whole system."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.kernel_files import process_stats, read_numbers

#: Pid and start time. Pids are reused; together with the start time they are unique.
ProcessKey = tuple[int, float]


@dataclass(frozen=True)
class ProcessTimes:
    """CPU time of one process, seconds.

    Attributes:
        own: used by the process itself.
        reaped: used by children that ended and were waited for.
    """

    pid: int
    ppid: int
    started: float
    name: str
    own: float
    reaped: float

    @property
    def key(self) -> ProcessKey:
        """Unique identity: pid and start time."""
        return self.pid, self.started


@dataclass(frozen=True)
class SystemTimes:
    """CPU time of the watched CPUs since boot, seconds.

    Attributes:
        busy: spent working for this system.
        steal: wanted but given to another virtual machine by the host.
        cpus: number of CPUs watched: those this process may run on.
    """

    busy: float
    steal: float
    cpus: int


def system_times() -> SystemTimes:
    """Read the times of the CPUs that this process may run on."""
    import psutil

    per_cpu = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(per_cpu))
    # An offline CPU shifts the list against the kernel's numbers: then watch all.
    watched = [per_cpu[i] for i in allowed] if max(allowed) < len(per_cpu) else per_cpu
    busy = sum(
        times.user
        + times.system
        + getattr(times, "nice", 0.0)
        + getattr(times, "irq", 0.0)
        + getattr(times, "softirq", 0.0)
        for times in watched
    )
    steal = sum(getattr(times, "steal", 0.0) for times in watched)
    return SystemTimes(busy, steal, len(watched))


def processes() -> dict[ProcessKey, ProcessTimes]:
    """Read every visible process."""
    visible = _linux() if sys.platform.startswith("linux") else _portable()
    return {process.key: process for process in visible}


def _linux() -> Iterable[ProcessTimes]:
    tick = float(os.sysconf("SC_CLK_TCK"))
    for pid, name, fields in process_stats():
        yield ProcessTimes(
            pid=pid,
            ppid=int(fields[1]),
            started=int(fields[19]) / tick,
            name=name if name.isprintable() else _printable(name),
            own=(int(fields[11]) + int(fields[12])) / tick,
            reaped=(int(fields[13]) + int(fields[14])) / tick,
        )


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def _portable() -> Iterable[ProcessTimes]:
    import psutil

    attributes = ["pid", "ppid", "name", "cpu_times", "create_time"]
    for process in psutil.process_iter(attributes):
        info = process.info
        times = info["cpu_times"]
        if times is None:  # another user's process on a system that hides it
            continue
        reaped = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        if info["pid"] == os.getpid() and reaped == 0.0:
            reaped = _own_children()  # macOS: psutil does not fill it in
        yield ProcessTimes(
            pid=info["pid"],
            ppid=info["ppid"] or 0,
            started=info["create_time"] or 0.0,
            name=info["name"] or "?",
            own=times.user + times.system,
            reaped=reaped,
        )


def _own_children() -> float:
    if sys.platform == "win32":
        return 0.0
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def descendants(root: int, seen: dict[ProcessKey, ProcessTimes]) -> set[ProcessKey]:
    """Return ``root`` and all its descendants."""
    children: dict[int, list[ProcessTimes]] = {}
    for process in seen.values():
        children.setdefault(process.ppid, []).append(process)
    tree: set[ProcessKey] = set()
    queue = [process for process in seen.values() if process.pid == root]
    while queue:
        process = queue.pop()
        if process.key not in tree:
            tree.add(process.key)
            queue.extend(children.get(process.pid, ()))
    return tree


def swapped_in_bytes() -> int:
    """Return the bytes read back from swap since boot (Linux; 0 elsewhere)."""
    pages = read_numbers(Path("/proc/vmstat")).get("pswpin")
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


def growth(
    before: dict[ProcessKey, ProcessTimes], after: dict[ProcessKey, ProcessTimes]
) -> dict[ProcessKey, float]:
    """Return the CPU seconds each living process used between two readings.

    Children that ended are counted with the ancestor that waited for them,
    less what they had already used at the first reading.
    """
    used = {
        key: process.own + process.reaped - _total(before.get(key))
        for key, process in after.items()
    }
    alive = {key[0]: key for key in after}
    parents = {process.pid: process.ppid for process in before.values()}
    for key, process in before.items():
        if key in after:
            continue
        # Its whole time went into an ancestor's ``reaped``: subtract the part used before.
        ancestor, steps = process.ppid, 0
        while ancestor not in alive and ancestor in parents and steps < len(parents):
            ancestor, steps = parents[ancestor], steps + 1
        heir = alive.get(ancestor)
        if heir is not None and heir in before:
            used[heir] -= min(_total(process), max(0.0, after[heir].reaped - before[heir].reaped))
    return {key: max(0.0, seconds) for key, seconds in used.items()}


def _total(process: ProcessTimes | None) -> float:
    return process.own + process.reaped if process is not None else 0.0


def process_trees(pids: Iterable[int]) -> list[int]:
    """Return processes and their living descendants, without those that are gone."""
    import psutil

    tree: dict[int, None] = {}
    for pid in pids:
        with suppress(psutil.Error):
            root = psutil.Process(pid)
            tree |= dict.fromkeys(process.pid for process in (root, *root.children(recursive=True)))
    return list(tree)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, seconds; 0 if it is gone."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
