"""Checks that an engine's processes compute nothing while another one has its turn."""

from __future__ import annotations

from functools import cached_property

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.machine.processes import cpu_seconds, process_trees

#: CPU seconds that a process may use during the other's turns: in all, and in each, because after
#: a computation threads spin for some milliseconds (10 of llama.cpp's), waiting for the next one.
#: Beyond that a share of the cores.
_BUSY_S, _SPIN_S, _BUSY_SHARE = 0.1, 0.02, 0.05


class IdleTurns:
    """The CPU time that one engine uses during the other's turns."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._waiting_seconds = self._busy_seconds = 0.0

    @cached_property
    def _pids(self) -> list[int]:
        """Its processes, found once: a short turn leaves no time to look again."""
        return process_trees(self._client.processes)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the engine has used so far."""
        return sum(map(cpu_seconds, self._pids))

    def waited(self, seconds: float, used: float) -> None:
        """Check the CPU time that the engine used during the other's turn.

        Raises:
            EngineError: it keeps computing on the other's cores.
        """
        self._waiting_seconds += seconds
        # Of several threads each spins.
        self._busy_seconds += max(used - _SPIN_S * (usable_cpus() - 1), 0.0)
        cores = self._busy_seconds / self._waiting_seconds
        if self._busy_seconds > _BUSY_S and cores > _BUSY_SHARE * usable_cpus():
            raise EngineError(
                f"it kept {cores:.2f} cores busy while the other process had its turn"
            )
