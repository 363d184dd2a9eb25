"""Connections that note when bytes arrived at the socket, and pass them on at once.

A task that waits for bytes runs only when the event loop gets to it: with many concurrent answers,
after all others that arrived at the same time have been parsed. It also costs as much as all the
parsing. So the connection itself reads the clock, and calls the reader of its response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.payload import Payload

#: Idle connections are closed before common servers do so (uvicorn: 5 s); otherwise a request
#: could be written to a connection that is just being closed.
_KEEP_ALIVE_S = 4.0

#: Takes bytes of a response body and their arrival time.
Reader = Callable[[bytes, float], None]


class TimedConnection(ResponseHandler):
    """A connection that notes when it last received bytes.

    Attributes:
        requests: number of requests written to it.
        received_at: when it last received bytes, or None.
        on_received: called after each arrival.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        super().__init__(loop)
        self._clock = clock
        self.requests = 0
        self.received_at: float | None = None
        self.on_received: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Read the clock before anything is parsed."""
        if not data:
            # Not from the socket: a reader that emptied the buffer lets the parser continue.
            super().data_received(data)
            return
        self.received_at = self._clock()
        super().data_received(data)
        if self.on_received is not None:
            self.on_received()

    def resume_reading(self, *arguments: Any, **named: Any) -> None:
        """Resume reading only if it was paused: aiohttp calls this at each read of its buffer."""
        if getattr(self, "_reading_paused", True) or getattr(self, "_buffer_paused", False):
            super().resume_reading(*arguments, **named)


class TimedBody(Payload):
    """A request's body that reports when it is written, with the headers, to a connection.

    aiohttp writes in a separate task: if many requests are sent at once, the last one is
    written milliseconds after its connection was ready.

    Args:
        value: the body, as JSON.
        on_write: called just before writing, with the connection if it notes arrival times.
    """

    _value: bytes
    _autoclose = True

    def __init__(self, value: bytes, on_write: Callable[[TimedConnection | None], None]) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)
        self._on_write = on_write

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body."""
        connection = getattr(writer, "protocol", None)
        self._on_write(connection if isinstance(connection, TimedConnection) else None)
        await writer.write(self._value)

    async def write_with_length(
        self, writer: AbstractStreamWriter, _content_length: int | None
    ) -> None:
        """Write the body, whose length aiohttp knows from here."""
        await self.write(writer)


class TimedConnector(aiohttp.TCPConnector):
    """A connector without a connection limit whose connections note arrival times.

    aiohttp has no public way to choose the class of its connections. If a version lacks
    ``_factory``, ``read_body`` reads the clock when its task gets the bytes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        # TCP_NODELAY is set by aiohttp.
        super().__init__(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        if hasattr(self, "_factory"):
            factory = partial(TimedConnection, loop=asyncio.get_running_loop(), clock=clock)
            # aiohttp's annotation allows only the base class.
            self._factory = factory  # type: ignore[assignment]


def timed_connection(response: aiohttp.ClientResponse) -> TimedConnection | None:
    """Return the connection of a response, if it notes arrival times."""
    connection = getattr(response, "_protocol", None)
    return connection if isinstance(connection, TimedConnection) else None


async def read_body(
    response: aiohttp.ClientResponse, reader: Reader, clock: Callable[[], float]
) -> None:
    """Pass the bytes of a body to a reader as they arrive, until its end.

    A reader that needs no more closes the response.

    Raises:
        aiohttp.ClientError: the body was cut off before its end.
    """
    content, connection = response.content, timed_connection(response)
    if connection is None:
        while data := await content.readany():
            reader(data, clock())
        return

    def take() -> None:
        # After a break nothing is left: earlier bytes were taken when they arrived.
        if content.exception() is None and (data := content.read_nowait()):
            received_at = connection.received_at
            reader(data, clock() if received_at is None else received_at)

    # Bytes that arrived with the headers.
    take()
    connection.on_received = take
    try:
        # wait_eof() does not notice an error that occurred before.
        if content.exception() is None:
            await content.wait_eof()
    finally:
        connection.on_received = None
    # Bytes that a full buffer had held back.
    take()
    if (error := content.exception()) is not None:
        raise error
