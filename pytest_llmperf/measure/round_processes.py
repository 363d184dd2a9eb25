"""Life of the engine processes of a round: start, configure, replace, close.

Each round has fresh processes: a process is the unit of replication (``replication.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.measure.replay_process import ReplayError
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.measure.turns import Turns


class RoundProcesses:
    """The running process of each side in one round.

    Args:
        before: called right before a process starts.
        possible_turns: called for every process, with each of its settings; returns the kind of
            turns that it could take beside another process. None: that is already known.

    Attributes:
        started: number of processes started.
        turns: by side, the kind of turns all its processes could take; None: they must run alone.
    """

    def __init__(
        self,
        before: Callable[[], None],
        possible_turns: Callable[[EngineClient], Turns | None] | None,
    ) -> None:
        self._before = before
        self._turns_of = possible_turns
        self._clients: dict[str, EngineClient] = {}
        self.started = 0
        self.turns: dict[str, Turns | None] = {}

    def make_room(self, sides: Sequence[Side], nodeid: str) -> None:
        """Close all processes if one can't take a test's settings: none may run beside a load."""
        for side in sides:
            client, spec = self._clients.get(side.role), side.specs.get(nodeid)
            if client is not None and spec is not None and not client.takes(spec):
                self.close()
                return

    def ready(self, side: Side, nodeid: str) -> EngineClient:
        """Return the side's process with a test's settings, started if needed.

        Raises:
            ReplayError: it can't be started or configured with these settings.
        """
        client, spec = self._clients.get(side.role), side.specs.get(nodeid)
        if client is not None and not client.alive:
            self._clients.pop(side.role).close()
            client = None
        if client is None:
            self._before()
        try:
            if client is None:
                client = side.start() if spec is None else side.start(spec)
                self._clients[side.role] = client
                self.started += 1
            elif spec is not None and not client.has_settings(spec):
                self._ask(side.role, client)
                client.configure(spec)
        except EngineError as error:
            raise ReplayError(side.role, error) from error
        return client

    def lose(self, role: str) -> None:
        """Forget a process that has ended."""
        self._clients.pop(role, None)

    def close(self) -> None:
        """Close all processes gracefully."""
        for role, client in self._clients.items():
            self._ask(role, client)
            client.close()
        self._clients.clear()

    def kill(self) -> None:
        """Kill all processes immediately."""
        for client in self._clients.values():
            client.kill()

    def _ask(self, role: str, client: EngineClient) -> None:
        """Note the kind of turns a process could take; the most restrictive answer counts."""
        if self._turns_of is None:
            return
        answer = self._turns_of(client) if client.alive else None
        if role in self.turns and (known := self.turns[role]) != answer:
            answer = "iterations" if known and answer else None
        self.turns[role] = answer
