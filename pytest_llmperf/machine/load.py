"""Other load on the machine during a measurement, from CPU and swap counters."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pytest_llmperf.machine.processes import (
    ProcessKey,
    ProcessTimes,
    SystemTimes,
    descendants,
    growth,
    processes,
    swapped_in_bytes,
    system_times,
)

#: Minimum number of busy cores for a process to be named.
_WORTH_NAMING = 0.02


@dataclass(frozen=True)
class ForeignProcess:
    """A process outside this session, and the cores it kept busy (1.0 = one core all the time)."""

    pid: int
    name: str
    cores: float


@dataclass(frozen=True)
class BusyReport:
    """Load besides this session, from a watch's creation to ``stop``.

    Attributes:
        seconds: length of the window.
        cpus: CPUs watched: those this process may run on.
        foreign_cores: cores kept busy by anything outside this session's processes.
        top: the busiest visible processes of those, busiest first.
        steal_cores: cores that the host gave to other virtual machines instead.
        swapped_bytes: bytes read back from swap, system-wide.
    """

    seconds: float
    cpus: int
    foreign_cores: float
    top: tuple[ForeignProcess, ...] = ()
    steal_cores: float = 0.0
    swapped_bytes: int = 0


class LoadWatch:
    """A watch over other load, from its creation to ``stop``; a call costs a few milliseconds.

    This session is ``root_pid`` (default: this process) and everything it
    started, children that ended in between included. Call ``sample`` just
    before ending a long-lived child where the system keeps no account of ended
    children (Windows).
    """

    def __init__(self, root_pid: int | None = None) -> None:
        self._root = os.getpid() if root_pid is None else root_pid
        self._own: set[ProcessKey] = set()
        self._before: dict[ProcessKey, ProcessTimes] = self._look()
        self._last = self._before
        self._swap = swapped_in_bytes()
        self._system: SystemTimes = system_times()
        self._t_start = time.monotonic()

    def _look(self) -> dict[ProcessKey, ProcessTimes]:
        seen = processes()
        self._own |= descendants(self._root, seen)
        return seen

    def sample(self) -> None:
        """Record the current processes of this session, which may end before ``stop``."""
        self._last = {**self._last, **self._look()}

    def stop(self, top: int = 3) -> BusyReport:
        """End the window and report the other load in it, with its ``top`` busiest processes."""
        seconds = max(time.monotonic() - self._t_start, 1e-6)
        system = system_times()
        after = self._look()
        used = growth(self._before, after)
        own_cpu = sum(value for key, value in used.items() if key in self._own)
        own_cpu += self._lost(after)
        busy = system.busy - self._system.busy
        foreign = [
            ForeignProcess(after[key].pid, after[key].name, value / seconds)
            for key, value in used.items()
            if key not in self._own and value / seconds >= _WORTH_NAMING
        ]
        foreign.sort(key=lambda process: -process.cores)
        return BusyReport(
            seconds=seconds,
            cpus=system.cpus,
            # CPU ticks are 10 ms: the difference of two sums can come out below 0.
            foreign_cores=max(0.0, busy - own_cpu) / seconds,
            top=tuple(foreign[:top]),
            steal_cores=max(0.0, system.steal - self._system.steal) / seconds,
            swapped_bytes=max(0, swapped_in_bytes() - self._swap),
        )

    def _lost(self, after: dict[ProcessKey, ProcessTimes]) -> float:
        """Return CPU seconds of own ended processes that no ancestor accounts for (Windows)."""
        if os.name != "nt":
            return 0.0
        return sum(
            self._last[key].own - (self._before[key].own if key in self._before else 0.0)
            for key in self._own
            if key not in after and key in self._last
        )
