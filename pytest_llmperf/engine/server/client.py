"""Client of an OpenAI-compatible server that records when each chunk of an answer arrived."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.fault import ServerFault
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.secret_headers import is_secret_name

try:
    import aiohttp
except ImportError:
    raise EngineError(
        "servers are asked with aiohttp, which is not installed; "
        "run: pip install 'pytest-llmperf[serve]'"
    ) from None

from pytest_llmperf.engine.server.connections import TimedConnector
from pytest_llmperf.engine.server.exchange import Exchange

#: Bytes that may wait to be parsed before reading from the socket pauses.
_READ_BUFFER = 2**20


class ServerClient:
    """Sends any number of requests at a time to a server, over connections that are kept open.

    Args:
        settings: the server's address, and how to ask it.
        clock: monotonic clock for all times, in seconds.
    """

    def __init__(
        self, settings: ServerSettings, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._secrets: tuple[str, ...] = ()
        self._keeps_connections = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings!r})"

    async def __aenter__(self) -> ServerClient:
        settings = self._settings
        secret = settings.secret_headers()
        headers = {**_headers(settings), **secret}
        self._secrets = _secrets(settings, headers, secret)
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=TimedConnector(self._clock),
            # Each exchange watches all other deadlines itself.
            timeout=aiohttp.ClientTimeout(total=None, connect=settings.connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, request: ServerRequest, *, within: float | None = None) -> ServerAnswer:
        """Send a request and read its answer to the end.

        Args:
            request: the request to send.
            within: seconds that it may take, silent or not; None: the limits of the settings.

        Raises:
            ServerFault: the request got no complete answer.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use it in an 'async with' block")
        asked, settings = self._clock(), self._settings
        if within is not None:
            settings = replace(settings, idle_s=within, total_s=within)
        body = _body(settings, request)
        while True:
            exchange = Exchange(settings, self._clock, self._secrets, asked)
            answer = await exchange.run(self._session, body, keep=self._keeps_connections)
            if not isinstance(answer, ServerFault):
                return answer
            if not (answer.kind == "reset" and answer.status is None and exchange.sent_before):
                # Not within a handler: aiohttp's errors and frames hold the request's headers.
                raise answer
            # The server closed the kept connection before it saw the request (RFC 9112, 9.3.1).
            # llama.cpp's server closes each connection after one answer without saying so. That
            # shows only afterwards, so each kept connection would cost a request sent in vain.
            if exchange.sent_before == 1:
                self._keeps_connections = False


def _headers(settings: ServerSettings) -> dict[str, str]:
    return {
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "pytest-llmperf",
        **settings.headers,
    }


def _secrets(
    settings: ServerSettings, headers: Mapping[str, str], secret: Collection[str]
) -> tuple[str, ...]:
    """Return the strings no message may contain: keys and anything else that grants access.

    ``secret``: names of the headers known to hold keys.
    """
    values = [value for _, value in parse_qsl(urlsplit(settings.url).query)]
    for parts in (urlsplit(settings.url), urlsplit(settings.proxy or "")):
        # A user name without a password may be a key.
        login = parts.password or parts.username or ""
        values += [login, unquote(login)]
    for name, value in headers.items():
        if name in secret or is_secret_name(name):
            values += [value, value.rpartition(" ")[2]]
    # The longest first: a shorter secret may be part of a longer one.
    return tuple(sorted({text for text in values if len(text) > 3}, key=len, reverse=True))


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
