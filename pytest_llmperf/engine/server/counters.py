"""A server's own counters, read from its ``/metrics`` without trusting the content.

The text may be huge, slow, cut off or hostile, and it is read in the event loop that times
requests. So only lines with known names are parsed, and only a limited number of them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytest_llmperf.engine.server.about import root_of
from pytest_llmperf.engine.server.counter_names import (
    BROKEN_DOWN_BY,
    DIALECTS,
    SAME_REQUEST,
    Dialect,
)
from pytest_llmperf.engine.server.settings import ServerSettings

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S = 3.0
_MAX_BYTES = 4 * 2**20
_MAX_LINE, _MAX_SERIES = 4096, 256
#: HTTP statuses of servers that publish nothing; llama-server without ``--metrics`` answers 501.
_NO_SUCH_PAGE = (404, 405, 501)
#: Shares may be rounded up slightly above 1.
_LARGEST_SHARE = 1.01
NOT_PUBLISHED = (
    "the server does not publish /metrics (llama-server needs --metrics, SGLang --enable-metrics)"
)


class NoCountersError(Exception):
    """A server's counters can't be read; str() says why.

    Attributes:
        final: whether asking again is pointless.
    """

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


@dataclass(frozen=True)
class ServerCounters:
    """A server's own counters at one moment. None means unknown, never 0.

    Counters of several engines or models of one server are added up; the largest share counts.

    Attributes:
        server: ``vLLM``, ``SGLang`` or ``llama.cpp``.
        running: number of requests being computed.
        waiting: number of requests in the queue.
        kv_use: share of the KV cache in use, 0 to 1.
        preemptions: requests that lost their place in the KV cache since the server started.
        prompt_tokens: tokens of prompts since it started; includes cached tokens if it counts
            them.
        generated_tokens: output tokens since it started.
        cache_hits: prompt tokens that a cache served since it started.
        cache_queries: all prompt tokens, counted together with ``cache_hits``.
        incomplete: whether a known counter was published but could not be read.
    """

    server: str
    running: int | None = None
    waiting: int | None = None
    kv_use: float | None = None
    preemptions: int | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    cache_hits: int | None = None
    cache_queries: int | None = None
    incomplete: bool = False


async def read_counters(settings: ServerSettings) -> ServerCounters | None:
    """Return a server's counters; None if they can't be read."""
    try:
        async with counters_session(settings) as session:
            return await ask_counters(session, settings)
    except NoCountersError:
        return None


def counters_session(settings: ServerSettings) -> aiohttp.ClientSession:
    """Return a session for ``ask_counters``, to be closed by the caller.

    It has its own connections, so that timed requests never wait for these.
    """
    import aiohttp

    return aiohttp.ClientSession(
        headers={
            **settings.headers,
            **settings.secret_headers(),
            "Accept": "text/plain;version=0.0.4",
            "Accept-Encoding": "identity",
        },
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


async def ask_counters(session: aiohttp.ClientSession, settings: ServerSettings) -> ServerCounters:
    """Ask a server for its counters.

    Args:
        session: session from ``counters_session``.
        settings: settings of the server.

    Raises:
        NoCountersError: it publishes no counters, or none that can be read.
    """
    import aiohttp

    if find_spec("prometheus_client") is None:
        raise NoCountersError(
            "/metrics is read with prometheus_client, which is not installed; "
            "run: pip install 'pytest-llmperf[serve]'",
            final=True,
        )
    try:
        url = f"{root_of(settings.url)}/metrics"
        async with session.get(url, allow_redirects=False, proxy=settings.proxy) as response:
            _check(response)
            data = await _read(response)
    except asyncio.TimeoutError:
        raise NoCountersError(f"/metrics was not answered within {_TIMEOUT_S:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError):
        # aiohttp's errors may quote headers, and thus a key.
        raise NoCountersError("/metrics could not be read: the connection broke") from None
    counters = parse_counters(data)
    if counters is None:
        known = ", ".join(dialect.server for dialect in DIALECTS)
        raise NoCountersError(f"/metrics has no counters of a known server ({known})", final=True)
    return counters


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status in _NO_SUCH_PAGE:
        raise NoCountersError(NOT_PUBLISHED, final=True)
    if response.status != 200:
        refused = response.status in (401, 403)
        raise NoCountersError(f"/metrics: HTTP status {response.status}", final=refused)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise NoCountersError("/metrics is compressed, although that was not asked for", final=True)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_chunked(2**16):
        size += len(part)
        if size > _MAX_BYTES:
            raise NoCountersError(f"/metrics is larger than {_MAX_BYTES // 2**20} MiB", final=True)
        parts.append(part)
    return b"".join(parts)


def parse_counters(data: bytes) -> ServerCounters | None:
    """Parse counters in Prometheus' text format; None if there are none of a known server."""
    data = b"\n" + data.replace(b"\r\n", b"\n")
    for dialect in DIALECTS:
        values = {name: _values(data, name) for name in dialect.names}
        if any(values.values()):
            return _counters(dialect, values)
    return None


#: Values of each name's series: empty if it has none, None if any of them can't be read.
_Values = Mapping[str, tuple[float, ...] | None]


def _counters(dialect: Dialect, values: _Values) -> ServerCounters:
    prompt_tokens = _total(values, dialect.prompt_tokens)
    hits, queries = None, None
    for hits_name, queries_name in dialect.cache:
        hits, queries = _total(values, (hits_name,)), _total(values, (queries_name,))
        if hits is not None:
            break
    if dialect.leaves_out_cached and hits is not None and prompt_tokens is not None:
        prompt_tokens = queries = prompt_tokens + hits
    return ServerCounters(
        dialect.server,
        running=_total(values, dialect.running),
        waiting=_total(values, dialect.waiting),
        kv_use=_share(values, dialect.kv_use),
        preemptions=_total(values, dialect.preemptions),
        prompt_tokens=prompt_tokens,
        generated_tokens=_total(values, dialect.generated_tokens),
        cache_hits=hits,
        cache_queries=None if hits is None else queries,
        incomplete=None in values.values(),
    )


def _total(values: _Values, names: Iterable[str]) -> int | None:
    series = _first(values, names)
    return round(math.fsum(series)) if series else None


def _share(values: _Values, names: Iterable[str]) -> float | None:
    largest = max(_first(values, names), default=None)
    return min(largest, 1.0) if largest is not None and largest <= _LARGEST_SHARE else None


def _first(values: _Values, names: Iterable[str]) -> tuple[float, ...]:
    return next((series for name in names if (series := values[name])), ())


def _values(data: bytes, name: str) -> tuple[float, ...] | None:
    """Return the values of a name's series; processes that share requests count once.

    Empty if it has none, None if any of them can't be read.
    """
    totals: dict[frozenset[tuple[str, str]], float] = {}
    parts: dict[frozenset[tuple[str, str]], float] = {}
    for number, line in enumerate(_lines(data, name.encode())):
        series = _series(line) if number < _MAX_SERIES else None
        if series is None:
            return None
        labels, value = series
        key = frozenset((k, v) for k, v in labels.items() if k not in SAME_REQUEST)
        into = parts if labels.get(BROKEN_DOWN_BY) else totals
        into[key] = max(value, into.get(key, value))
    return tuple((totals or parts).values())


def _lines(data: bytes, name: bytes) -> Iterator[bytes]:
    """Yield the lines of a name's series without parsing any other line."""
    mark, start = b"\n" + name, 0
    while (start := data.find(mark, start)) >= 0:
        end = data.find(b"\n", start + 1)
        line = data[start + 1 : end if end >= 0 else None]
        if line[len(name) : len(name) + 1] in (b"{", b" ", b"\t"):
            yield line
        start += 1


def _series(line: bytes) -> tuple[Mapping[str, str], float] | None:
    """Return labels and value of a line; None if it is not a series with a number."""
    from prometheus_client.parser import text_string_to_metric_families

    if len(line) > _MAX_LINE:
        return None
    try:
        (family,) = text_string_to_metric_families(line.decode())
        (sample,) = family.samples
        value = float(sample.value)
    except Exception:
        # The parser may raise anything at a malformed line.
        return None
    return (sample.labels, value) if math.isfinite(value) and value >= 0 else None
