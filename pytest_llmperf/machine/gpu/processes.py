"""Owners of the processes on a GPU: the engine, this session, or others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.machine.gpu.nvml import ask


@dataclass(frozen=True)
class GpuProcess:
    """A process on a GPU, looked up when it was first seen.

    Attributes:
        pid: its number in the driver's list (the host's number inside some containers).
        name: the program, or None if neither driver nor system reports it.
        visible: whether its pid can be looked up. Inside a container the driver may report
            the host's pids; then the owner is unknown.
        engine: it is the engine's process, or was started by it.
        session: this session started it: the engine, others that are ending, an application.
    """

    pid: int
    name: str | None
    visible: bool
    engine: bool = False
    session: bool = False


class GpuProcesses:
    """All processes seen on the GPUs while one engine is watched, by pid.

    ``engine_pids``: the engine's processes; processes that they started are the engine's, too.

    A process is looked up when it is first seen, because its parents may end before it.
    """

    def __init__(self, pynvml: Any, engine_pids: Iterable[int]) -> None:
        self._pynvml = pynvml
        self._engine = frozenset(engine_pids)
        self._known: dict[int, GpuProcess] = {}

    def look_up(self, pid: int) -> GpuProcess:
        """Look up a process; cached after the first time."""
        if pid not in self._known:
            self._known[pid] = self._read(pid)
        return self._known[pid]

    def __getitem__(self, pid: int) -> GpuProcess:
        return self.look_up(pid)

    def _read(self, pid: int) -> GpuProcess:
        import psutil

        path = ask(self._pynvml, self._pynvml.nvmlSystemGetProcessName, pid)
        name = (re.split(r"[/\\]", path.strip())[-1] or None) if path else None
        try:
            process = psutil.Process(pid)
            line = {pid, *(parent.pid for parent in process.parents())}
            name = name or process.name()
        except psutil.NoSuchProcess:
            return GpuProcess(pid, name, visible=False)
        except psutil.AccessDenied:
            line = {pid}
        engine = not self._engine.isdisjoint(line)
        return GpuProcess(
            pid, name, visible=True, engine=engine, session=engine or os.getpid() in line
        )
