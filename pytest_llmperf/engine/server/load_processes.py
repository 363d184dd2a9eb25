"""Additional client processes that send a load's requests if one process can't keep up."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.orphan import die_with_parent
from pytest_llmperf.engine.own_time import OWN_TIME
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.load_part import LoadPart, SentPart
from pytest_llmperf.engine.server.settings import ServerSettings

#: Seconds before the load begins in which each process receives its part.
_HEAD_START_S = 0.2
_END_S = 5.0
_GONE = (
    "a client process (llm.client_processes) ended before it had sent its part of the load; "
    "was it killed?"
)


class LoadProcesses:
    """Processes with their own clients, which end together with this process.

    All of them read the same clock, the system's.

    Args:
        settings: settings of their clients.
        count: number of processes.
    """

    def __init__(self, settings: ServerSettings, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = []
        self._sending: list[Connection] = []
        for _ in range(count):
            ours, its = context.Pipe()
            process = context.Process(target=_serve, args=(its, settings), daemon=True)
            process.start()
            its.close()
            self._processes.append((process, ours))
        for _, connection in self._processes:
            _received(connection)

    def begin(self, parts: Sequence[LoadPart]) -> float:
        """Give each part to a process; return the time at which all of them begin."""
        begin = OWN_TIME.now() + _HEAD_START_S
        self._sending = [connection for _, connection in self._processes[: len(parts)]]
        for connection, part in zip(self._sending, parts, strict=True):
            try:
                connection.send((part, begin))
            except OSError:
                raise EngineError(_GONE) from None
        return begin

    def sent(self) -> list[SentPart]:
        """Wait until every part is sent and answered; return their results.

        Raises:
            EngineError: a process could not send its part.
        """
        return [_received(connection) for connection in self._sending]

    def close(self) -> None:
        """End the processes."""
        for process, connection in self._processes:
            connection.close()
            process.join(_END_S)
            if process.is_alive():
                process.kill()


def _received(connection: Connection) -> SentPart:
    try:
        answer = connection.recv()
    except (EOFError, OSError):
        raise EngineError(_GONE) from None
    if isinstance(answer, EngineError):
        raise answer
    part: SentPart = answer
    return part


def _serve(connection: Connection, settings: ServerSettings) -> None:
    """Send parts until the connection is closed."""
    die_with_parent()
    asyncio.run(_serving(connection, settings))


async def _serving(connection: Connection, settings: ServerSettings) -> None:
    async with ServerClient(settings, OWN_TIME.now) as client:
        connection.send(None)
        while (order := await asyncio.to_thread(_next, connection)) is not None:
            part, begin = order
            try:
                connection.send(await part.send(client, OWN_TIME.now, begin))
            except EngineError as error:
                connection.send(error)


def _next(connection: Connection) -> tuple[LoadPart, float] | None:
    """Return the next part and when it begins; None at the end."""
    try:
        order: tuple[LoadPart, float] = connection.recv()
    except EOFError:
        return None
    return order
