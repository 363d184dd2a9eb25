"""What else the machine did during a measurement, measured from CPU, swap and GPU counters."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pytest_llmperf.environment.gpus import (
    GpuProcess,
    Throttled,
    gpu_processes,
    throttled_gpus,
)
from pytest_llmperf.environment.processes import (
    ProcessKey,
    ProcessTimes,
    SystemTimes,
    descendants,
    growth,
    processes,
    swapped_in_bytes,
    system_times,
)

#: Below this many cores a process is not worth naming.
_WORTH_NAMING = 0.02


@dataclass(frozen=True)
class ForeignProcess:
    """A process outside this session, and the cores it kept busy (1.0 = one core all the time)."""

    pid: int
    name: str
    cores: float


@dataclass(frozen=True)
class ForeignGpuProcess:
    """A process outside this session that computes on a GPU this session uses.

    Attributes:
        process: what the driver says of it.
        visible: its pid can be looked up here. Inside a container the driver
            may number processes as the host does; then nobody can tell whose
            it is.
    """

    process: GpuProcess
    visible: bool


@dataclass(frozen=True)
class BusyReport:
    """What ran besides this session between ``start`` and ``stop``.

    Attributes:
        seconds: length of the window.
        cpus: CPUs watched: those this process may run on.
        foreign_cores: cores kept busy by anything outside this session's processes.
        top: the busiest such processes that can be seen, busiest first.
        steal_cores: cores the host gave to other virtual machines instead.
        swapped_bytes: read back from swap, system-wide.
        gpu_processes: processes of others computing on the watched GPUs, the most
            seen at one time of those whose pid cannot be looked up.
        own_gpu_processes: how many of this session's processes were seen there.
        throttled: watched GPUs that were seen with lowered clocks, each reason once.
    """

    seconds: float
    cpus: int
    foreign_cores: float
    top: tuple[ForeignProcess, ...] = ()
    steal_cores: float = 0.0
    swapped_bytes: int = 0
    gpu_processes: tuple[ForeignGpuProcess, ...] = ()
    own_gpu_processes: int = 0
    throttled: tuple[Throttled, ...] = ()


class LoadWatch:
    """Watches from ``start`` to ``stop``; each call costs a few milliseconds.

    This session is ``root_pid`` (default: this process) and everything it
    started, children that ended in between included. Call ``sample`` just
    before ending a long-lived child where the system keeps no account of ended
    children (Windows), and between measurements to notice GPU guests that
    come and go.
    """

    def __init__(self, root_pid: int, watch_gpu: bool) -> None:
        self._root = root_pid
        self._watch_gpu = watch_gpu
        self._own: set[ProcessKey] = set()
        self._gpu: dict[int, GpuProcess] = {}
        self._hidden: list[GpuProcess] = []
        self._throttled: dict[Throttled, None] = {}
        self._before: dict[ProcessKey, ProcessTimes] = self._look()
        self._last = self._before
        self._swap = swapped_in_bytes()
        self._system: SystemTimes = system_times()
        self._t_start = time.monotonic()

    @classmethod
    def start(cls, root_pid: int | None = None, *, watch_gpu: bool = False) -> LoadWatch:
        """Begin a window; ``watch_gpu`` asks NVML too."""
        return cls(os.getpid() if root_pid is None else root_pid, watch_gpu)

    def _look(self) -> dict[ProcessKey, ProcessTimes]:
        seen = processes()
        self._own |= descendants(self._root, seen)
        if self._watch_gpu:
            self._look_at_gpus({pid for pid, _ in seen})
        return seen

    def _look_at_gpus(self, pids: set[int]) -> None:
        self._throttled.update(dict.fromkeys(throttled_gpus()))
        hidden = []
        for process in gpu_processes():
            if process.pid in pids:
                self._gpu[process.pid] = process
            else:
                hidden.append(process)
        # Not their union over time: one after the other they may all be this
        # session's engines, seen under the host's numbers.
        if len(hidden) > len(self._hidden):
            self._hidden = hidden

    def sample(self) -> None:
        """Look once more, to know processes of this session that will have ended at ``stop``."""
        self._last = {**self._last, **self._look()}

    def stop(self, top: int = 3) -> BusyReport:
        """End the window and report what else ran in it, the ``top`` busiest by name."""
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
        own_pids = {pid for pid, _ in self._own}
        return BusyReport(
            seconds=seconds,
            cpus=system.cpus,
            # CPU ticks are 10 ms: the difference of two sums can come out below 0.
            foreign_cores=max(0.0, busy - own_cpu) / seconds,
            top=tuple(foreign[:top]),
            steal_cores=max(0.0, system.steal - self._system.steal) / seconds,
            swapped_bytes=max(0, swapped_in_bytes() - self._swap),
            gpu_processes=(
                *(
                    ForeignGpuProcess(process, visible=True)
                    for pid, process in sorted(self._gpu.items())
                    if pid not in own_pids
                ),
                *(ForeignGpuProcess(process, visible=False) for process in self._hidden),
            ),
            own_gpu_processes=len(own_pids & self._gpu.keys()),
            throttled=tuple(self._throttled),
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
