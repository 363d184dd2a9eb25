"""Check that an engine's processes are idle while another engine has its turn."""

from __future__ import annotations

from functools import cached_property

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.machine.processes import cpu_seconds, process_trees

#: CPU seconds that a process may use during the other's turns: in total, and per turn and thread,
#: because threads spin for some milliseconds after a computation (llama.cpp's for 10), waiting for
#: the next one. Beyond both, a share of the cores.
_BUSY_S, _SPIN_S, _BUSY_SHARE = 0.1, 0.02, 0.05


class IdleTurns:
    """CPU time that one engine uses during the other engine's turns."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._waiting_seconds = self._busy_seconds = 0.0

    @cached_property
    def _pids(self) -> list[int]:
        """Ids of the engine's processes, found once: a turn is too short to look again."""
        return process_trees(self._client.processes)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the engine has used so far."""
        return sum(map(cpu_seconds, self._pids))

    def check_idle(self, seconds: float, used: float) -> None:
        """Check the CPU time (``used``) of the engine during the other engine's turn.

        Raises:
            EngineError: the engine keeps computing on the other's cores.
        """
        self._waiting_seconds += seconds
        # Each of its threads spins.
        self._busy_seconds += max(used - _SPIN_S * (usable_cpus() - 1), 0.0)
        cores = self._busy_seconds / self._waiting_seconds
        if self._busy_seconds > _BUSY_S and cores > _BUSY_SHARE * usable_cpus():
            raise EngineError(
                f"the waiting process kept {cores:.2f} cores busy during the other process's turn"
            )
