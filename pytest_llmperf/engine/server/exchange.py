"""One request to a server and its answer, read as it arrives, with deadlines and faults."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import aiohttp

from pytest_llmperf.engine.server.answer import (
    AnswerBuilder,
    FrameError,
    ServerAnswer,
    ServerSaysError,
)
from pytest_llmperf.engine.server.connections import (
    TimedBody,
    TimedConnection,
    read_body,
    timed_connection,
)
from pytest_llmperf.engine.server.fault import FaultKind, ServerFault, excerpt
from pytest_llmperf.engine.server.settings import ServerSettings, shown_url
from pytest_llmperf.engine.server.sse import SseError, SseParser

if TYPE_CHECKING:
    from json import loads
else:
    try:
        from orjson import loads
    except ImportError:
        from json import loads

#: Seconds for which a server may keep the connection busy after the end of its stream.
_AFTER_END_S = 0.25
_MAX_ERROR_BODY = 64 * 2**10
_CLOSE = {"Connection": "close"}
_TOO_MANY_FILES = (
    "no connection: too many open files; raise the limit (ulimit -n), or keep fewer requests in "
    "flight"
)


class Exchange:
    """One request and its answer.

    Args:
        settings: settings of the server.
        clock: clock for all times.
        secrets: strings that no fault may contain.
        asked: when the request was given to the client.

    Attributes:
        sent_before: number of requests written to the connection before this one; None if this
            one was not written, or the connection does not count requests.
    """

    def __init__(
        self,
        settings: ServerSettings,
        clock: Callable[[], float],
        secrets: tuple[str, ...],
        asked: float,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._secrets = secrets
        self.sent_before: int | None = None
        self._parser = SseParser()
        self._builder = AnswerBuilder()
        self._response: aiohttp.ClientResponse | None = None
        self._connection: TimedConnection | None = None
        self._asked = asked
        self._sent: float | None = None
        self._finished: float | None = None
        self._failed: ServerFault | None = None
        self._expired: Literal["idle_timeout", "total_timeout"] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None

    async def run(
        self, session: aiohttp.ClientSession, body: bytes, *, keep: bool
    ) -> ServerAnswer | ServerFault:
        """Send the request; return its answer, or its fault.

        ``keep``: whether the connection shall be kept open for another request.
        """
        self._task = asyncio.current_task()
        self._watch()
        broken = None
        try:
            async with session.post(
                self._settings.endpoint,
                data=TimedBody(body, self._note_write),
                headers=None if keep else _CLOSE,
                allow_redirects=False,
                proxy=self._settings.proxy,
            ) as response:
                self._response, self._connection = response, timed_connection(response)
                await self._refuse(response)
                if self._failed is None:
                    await read_body(response, self._take, self._clock)
        except asyncio.CancelledError:
            if self._expired is None:
                raise
            if sys.version_info >= (3, 11) and self._task is not None:
                self._task.uncancel()
            broken = self._expiry(self._expired)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            broken = self._breakage(error)
        finally:
            for timer in (self._timer, self._closing):
                if timer is not None:
                    timer.cancel()
        return self._outcome(broken)

    def _outcome(self, broken: ServerFault | None) -> ServerAnswer | ServerFault:
        """Return the result of the stream; a broken connection matters only without a result."""
        if self._failed is not None:
            return self._failed
        if self._finished is None:
            if broken is not None:
                return broken
            if self._builder.finish_reason is None:
                what = "ended its stream before the answer was finished"
                return self._fault("cut_short", what, self._parser.rest)
            self._finished = self._clock()
        sent = self._asked if self._sent is None else self._sent
        return self._builder.answer(self._asked, sent, self._finished)

    def _note_write(self, connection: TimedConnection | None) -> None:
        self._sent = self._clock()
        if connection is not None:
            self.sent_before = connection.requests
            connection.requests += 1

    def _watch(self) -> None:
        """Cancel the request if a deadline has passed; otherwise check again at the next one.

        aiohttp's own timeouts set a timer for each chunk, which costs half as much as parsing it.
        """
        now, active = self._clock(), self._asked
        if self._connection is not None and self._connection.received_at is not None:
            active = max(active, self._connection.received_at)
        idle_end = active + self._settings.idle_s
        total_end = self._asked + self._settings.total_s
        deadline = min(idle_end, total_end)
        if now < deadline:
            self._timer = asyncio.get_running_loop().call_later(deadline - now, self._watch)
            return
        self._expired = "idle_timeout" if idle_end <= total_end else "total_timeout"
        if self._task is not None:
            self._task.cancel()

    def _take(self, data: bytes, time: float) -> None:
        """Parse bytes of the stream."""
        if self._failed is not None or self._finished is not None:
            return
        shown, what = data, ""
        kind: FaultKind = "bad_frame"
        try:
            for event in self._parser.feed(data):
                shown = event.data
                if shown == b"[DONE]":
                    self._finish(time)
                    return
                if event.name == "error":
                    raise ServerSaysError
                self._builder.take(time, loads(shown))
            return
        except ServerSaysError:
            kind, what = "server_error", "reported an error in its stream"
        except FrameError as error:
            what = f"sent a frame that can't be read: {error}"
        except SseError as error:
            what = str(error)
        except ValueError:
            what = "sent a frame that is not JSON"
        self._failed = self._fault(kind, what, shown)
        self._close()

    def _finish(self, time: float) -> None:
        """Note the stream's end; the rest is read so that the connection can be reused."""
        self._finished = time
        if self._response is not None and self._response.content.is_eof():
            return
        self._closing = asyncio.get_running_loop().call_later(_AFTER_END_S, self._close)

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()

    async def _refuse(self, response: aiohttp.ClientResponse) -> None:
        """Note a fault if the response can't be an answer."""
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        kind: FaultKind = "bad_frame"
        if response.status != 200:
            kind, what = "status", f"answered with HTTP status {response.status}"
        elif encoding != "identity":
            what = f"sent its answer compressed ({encoding})"
        elif response.content_type in ("application/json", "text/html"):
            what = "answered without streaming"
        else:
            return
        body = b"" if kind == "bad_frame" and encoding != "identity" else await _beginning(response)
        if response.status == 200 and b'"error"' in body:
            kind, what = "server_error", "reported an error"
        self._failed = self._fault(kind, what, body, response.status)

    def _expiry(self, kind: Literal["idle_timeout", "total_timeout"]) -> ServerFault:
        if kind == "idle_timeout":
            return self._fault(kind, f"silent for {self._settings.idle_s:g} s")
        return self._fault(kind, f"not finished in {self._settings.total_s:g} s")

    def _breakage(self, error: BaseException) -> ServerFault:
        """Return the fault of a connection that failed or broke."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            what = f"no connection within {self._settings.connect_s:g} s"
            return self._fault("connect", what)
        if isinstance(error, aiohttp.ClientConnectorError):
            too_many = error.os_error.errno == errno.EMFILE
            return self._fault(
                "connect", _TOO_MANY_FILES if too_many else f"no connection: {error}"
            )
        if isinstance(error, aiohttp.ClientHttpProxyError):
            # For an https server, the proxy has to open a connection first.
            proxy = shown_url(self._settings.proxy or "")
            what = f"the proxy {proxy} refused the connection: {error.status} {error.message}"
            return self._fault("connect", what, status=error.status)
        if isinstance(error, aiohttp.ClientResponseError):
            return self._fault("bad_frame", f"its response is not HTTP: {error.message}")
        return self._fault("reset", f"the connection broke: {error or type(error).__name__}")

    def _fault(
        self, kind: FaultKind, what: str, body: bytes = b"", status: int | None = None
    ) -> ServerFault:
        if status is None and self._response is not None:
            status = self._response.status
        shown = excerpt(body, self._secrets)
        what = excerpt(what.encode(), self._secrets)
        message = f"{self._settings.shown_endpoint}: {what}{f': {shown}' if shown else ''}"
        return ServerFault(
            kind,
            message,
            at=self._clock(),
            status=status,
            sent=self._sent,
            chunks=tuple(self._builder.chunks),
        )


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response that is not an answer, or as much of it as arrived."""
    body = b""
    with suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
        while len(body) < _MAX_ERROR_BODY and (data := await response.content.readany()):
            body += data
    return body
