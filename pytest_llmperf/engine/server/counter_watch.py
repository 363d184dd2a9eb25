"""Watch that reads a server's counters before, about once a second during, and after a load."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_llmperf.engine.server.counters import (
    NoCountersError,
    ServerCounters,
    ask_counters,
    counters_session,
)
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.engine.server.settings import ServerSettings

if TYPE_CHECKING:
    import aiohttp


class CounterWatch:
    """Watches a server's counters during an ``async with`` block that holds the load.

    A failed reading never ends the load.

    Args:
        settings: settings of the server.
        interval: seconds between two readings within the load; the first comes after half of it.

    Attributes:
        before, after: the readings around the load; None if not yet read, or if reading failed.
        problem: reason of the most recent failure to read; empty if there was none.
    """

    def __init__(self, settings: ServerSettings, *, interval: float = 1.0) -> None:
        self._settings = settings
        self._interval = interval
        self.before: ServerCounters | None = None
        self.after: ServerCounters | None = None
        self.problem = ""
        self._during: list[ServerCounters] = []
        self._failed = 0
        self._gives_up = False
        self._session: aiohttp.ClientSession | None = None
        self._reading: asyncio.Future[None] | None = None

    async def __aenter__(self) -> CounterWatch:
        self._session = counters_session(self._settings)
        try:
            self.before = await self._ask()
        except BaseException:
            await self._session.close()
            raise
        if not self._gives_up:
            self._reading = asyncio.ensure_future(self._read_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        try:
            if self._reading is not None:
                self._reading.cancel()
                with suppress(asyncio.CancelledError):
                    await self._reading
            if not self._gives_up:
                self.after = await self._ask()
        finally:
            await self._session.close()

    @property
    def summary(self) -> ServerSide | None:
        """The load by the server's own counters; None if it publishes none (``problem``)."""
        return ServerSide.of(self.before, self._during, self.after, failed=self._failed)

    async def _read_on(self) -> None:
        await asyncio.sleep(self._interval / 2)
        while not self._gives_up:
            counters = await self._ask()
            if counters is not None:
                self._during.append(counters)
            await asyncio.sleep(self._interval)

    async def _ask(self) -> ServerCounters | None:
        assert self._session is not None
        try:
            return await ask_counters(self._session, self._settings)
        except NoCountersError as error:
            self.problem = str(error)
            self._failed += 1
            self._gives_up = error.final
            return None
