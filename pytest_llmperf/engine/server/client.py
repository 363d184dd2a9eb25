"""Client of an OpenAI-compatible server that reads when each chunk of an answer arrived."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.server.answer import (
    AnswerBuilder,
    FrameError,
    ServerAnswer,
    ServerRequest,
    ServerSaysError,
)
from pytest_llmperf.engine.server.fault import FaultKind, ServerFault, excerpt
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.engine.server.sse import SseError, SseParser

try:
    import aiohttp
except ImportError:
    raise EngineError(
        "servers are asked with aiohttp, which is not installed; "
        "run: pip install 'pytest-llmperf[serve]'"
    ) from None

try:
    from orjson import loads as _loads
except ImportError:
    from json import loads as _loads  # type: ignore[assignment]

#: Bytes that may wait to be parsed before the socket is no longer read.
_READ_BUFFER = 2**20
#: Idle connections are closed before common servers do so (uvicorn: 5 s), else a request could
#: be written to a connection that is just being closed.
_KEEP_ALIVE_S = 4.0
#: How long a server may keep the connection busy after the end of its stream.
_AFTER_END_S = 0.25
_MAX_ERROR_BODY = 64 * 2**10
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


class ServerClient:
    """Asks a server, any number of requests at a time, over connections that are kept.

    Args:
        settings: where the server is and how it is asked.
        clock: monotonic clock of all times, in seconds.
    """

    def __init__(
        self, settings: ServerSettings, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings!r})"

    async def __aenter__(self) -> ServerClient:
        settings = self._settings
        headers = _headers(settings)
        self._secrets = _secrets(settings, headers)
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._note_connection)
        trace.on_connection_reuseconn.append(self._note_connection)
        self._session = aiohttp.ClientSession(
            headers=headers,
            # Sets TCP_NODELAY itself.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(
                total=settings.total_s,
                sock_connect=settings.connect_s,
                sock_read=settings.idle_s,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=settings.proxy_from_environment,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            trace_configs=[trace],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, request: ServerRequest) -> ServerAnswer:
        """Send a request and read its answer to the end.

        Raises:
            ServerFault: it got no complete answer.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use it in an 'async with' block")
        exchange = _Exchange(self._settings, self._clock, self._secrets)
        body = _body(self._settings, request)
        answer = await exchange.run(self._session, body)
        if isinstance(answer, ServerFault):
            # Outside of any handler: aiohttp's own errors and frames hold the request's headers.
            raise answer
        return answer

    async def _note_connection(
        self, _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object
    ) -> None:
        context.trace_request_ctx.sent = self._clock()


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, settings: ServerSettings, clock: Callable[[], float], secrets: tuple[str, ...]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._secrets = secrets
        self._builder = AnswerBuilder()
        self._status: int | None = None
        self._asked = 0.0
        #: Set by the client's trace when the connection stands.
        self.sent: float | None = None

    async def run(self, session: aiohttp.ClientSession, body: bytes) -> ServerAnswer | ServerFault:
        """Send the request; return its answer, or what went wrong."""
        self._asked = self._clock()
        try:
            async with session.post(
                self._settings.endpoint,
                data=body,
                allow_redirects=False,
                trace_request_ctx=self,
            ) as response:
                self._status = response.status
                if refused := await self._refusal(response):
                    return refused
                return await self._read(response)
        except aiohttp.ConnectionTimeoutError:
            waited = f"no connection within {self._settings.connect_s:g} s"
            return self._fault("connect", waited)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            return self._fault("connect", f"no connection: {error}")
        except aiohttp.ServerTimeoutError:
            return self._fault("idle_timeout", f"silent for {self._settings.idle_s:g} s")
        except asyncio.TimeoutError:
            return self._fault("total_timeout", f"not finished in {self._settings.total_s:g} s")
        except aiohttp.ClientResponseError as error:
            return self._fault("bad_frame", f"its response is no HTTP: {error.message}")
        except (aiohttp.ClientError, OSError) as error:
            return self._fault("reset", f"the connection broke: {error or type(error).__name__}")

    async def _refusal(self, response: aiohttp.ClientResponse) -> ServerFault | None:
        """Return why the response can't be an answer, or None."""
        if response.status != 200:
            body = await response.content.read(_MAX_ERROR_BODY)
            return self._fault("status", f"answered with HTTP status {response.status}", body)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            return self._fault("bad_frame", f"sent its answer compressed ({encoding})")
        if response.content_type == "application/json":
            body = await response.content.read(_MAX_ERROR_BODY)
            if b'"error"' in body:
                return self._fault("server_error", "reported an error", body)
            return self._fault("bad_frame", "answered without streaming", body)
        return None

    async def _read(self, response: aiohttp.ClientResponse) -> ServerAnswer | ServerFault:
        """Read the stream to its end."""
        parser, builder, clock = SseParser(), self._builder, self._clock
        read, take = response.content.readany, builder.take
        data = event_data = b""
        try:
            while data := await read():
                now = clock()
                for event in parser.feed(data, now):
                    event_data = event.data
                    if event_data == b"[DONE]":
                        await self._finish_connection(response)
                        return builder.answer(self._asked, self._sent(), now)
                    if event.name == "error":
                        raise ServerSaysError
                    take(event.time, _loads(event_data))
        except ServerSaysError:
            return self._fault("server_error", "reported an error in its stream", event_data)
        except FrameError as error:
            return self._fault("bad_frame", f"sent a frame that can't be read: {error}", event_data)
        except SseError as error:
            return self._fault("bad_frame", str(error), data)
        except ValueError:
            return self._fault("bad_frame", "sent a frame that is no JSON", event_data)
        if builder.finish_reason is None:
            return self._fault("cut_short", "ended its stream before the answer was finished")
        return builder.answer(self._asked, self._sent(), clock())

    async def _finish_connection(self, response: aiohttp.ClientResponse) -> None:
        """Read what follows the stream's end, so that the connection can be used again."""
        if response.content.at_eof():
            return
        closing = asyncio.get_running_loop().call_later(_AFTER_END_S, response.close)
        try:
            while await response.content.readany():
                pass
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
            # The answer is complete; the connection is not kept.
            response.close()
        finally:
            closing.cancel()

    def _sent(self) -> float:
        return self._asked if self.sent is None else self.sent

    def _fault(self, kind: FaultKind, what: str, body: bytes = b"") -> ServerFault:
        shown = excerpt(body, self._secrets)
        what = excerpt(what.encode(), self._secrets)
        message = f"{self._settings.shown_endpoint}: {what}{f': {shown}' if shown else ''}"
        return ServerFault(
            kind,
            message,
            at=self._clock(),
            status=self._status,
            body=shown,
            sent=self.sent,
            chunks=tuple(self._builder.chunks),
        )


def _headers(settings: ServerSettings) -> dict[str, str]:
    headers = {
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "pytest-llmperf",
        **settings.headers,
    }
    key = settings.read_key()
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _secrets(settings: ServerSettings, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return what no message may contain: the key and whatever else grants access."""
    parts = urlsplit(settings.url)
    found = [value for _, value in parse_qsl(parts.query)] + [parts.password or ""]
    for name, value in headers.items():
        if _SECRET_HEADER.search(name):
            found += [value, value.rpartition(" ")[2]]
    # A longer one first: a shorter one may be its part.
    return tuple(sorted({one for one in found if len(one) > 3}, key=len, reverse=True))


def _body(settings: ServerSettings, request: ServerRequest) -> bytes:
    fields: dict[str, Any] = {
        "model": settings.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **settings.body,
    }
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
    if request.messages is not None:
        fields["messages"] = [dict(message) for message in request.messages]
    elif settings.api == "chat":
        fields["messages"] = [{"role": "user", "content": request.prompt}]
    else:
        fields["prompt"] = request.prompt
    fields.update(request.body)
    return json.dumps({k: v for k, v in fields.items() if v is not None}).encode()
