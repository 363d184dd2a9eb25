"""An OpenAI-compatible server with known latencies, which fails in any way asked for.

In a test: ``async with ServerSimulator(Plan(first=0.01)) as server: ...`` with ``server.url`` and
``server.truths``. As a process, which prints its URL when it is ready::

    python tests/support/server_simulator.py --port 0 --plan '{"first": 0.05, "gap": 0.01}'

``GET /truth`` then returns what really happened and, with ``--metrics``, ``GET /metrics`` the
server's own counts. A request may change its plan by a ``simulate`` field in its body. All times
are seconds of ``time.perf_counter``, which on Linux all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import stat
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from simulated_answers import FAULTY_FRAMES, Plan, Truth, event_of, events_of
from simulated_metrics import Tally, metrics_of

#: Text of each engine's first request.
GREETING = b"Say hello."
#: Prompt tokens, and cached ones among them, that every answer states.
PROMPT_TOKENS, CACHED_TOKENS = 5, Plan.cached


class ServerSimulator:
    """A server that answers requests by a plan.

    It implements HTTP itself, because a framework would take as long as the latencies that tests
    tell apart. A request counts as received when its last byte has left the socket.

    Args:
        plan: the plan for every request that does not change it.
        slots: number of requests served at a time; others wait in order of arrival.
        stop: seconds after the first request at which the whole server stops, and for how long.
        metrics: dialect of ``/metrics`` from ``simulated_metrics.DIALECTS``; None: no ``/metrics``.
        port: port to listen on; 0 takes a free one.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        slots: int | None = None,
        stop: tuple[float, float] | None = None,
        metrics: str | None = None,
        port: int = 0,
    ) -> None:
        self.plan = plan or Plan()
        self.metrics = metrics
        #: The server's own counts, which ``/metrics`` publishes.
        self.tally = Tally()
        #: Number of requests for ``/metrics``.
        self.metrics_asked = 0
        #: Number of engines that have started with this server.
        self.greeted = 0
        self.truths: list[Truth] = []
        self.bodies: list[dict[str, Any]] = []
        #: Number of connections that were made.
        self.connections = 0
        #: When the whole server stopped and when it went on; empty if it never stopped.
        self.stopped: tuple[float, ...] = ()
        self.open: set[_Connection] = set()
        self._slots = asyncio.Semaphore(slots) if slots else None
        self._stop = stop
        self._port = port
        self._draw = random.Random(0)

    async def __aenter__(self) -> ServerSimulator:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, backlog=4096
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in tuple(self.open):
            connection.transport.abort()
        await asyncio.sleep(0)
        await self._server.wait_closed()

    async def serve(self, connection: _Connection, request: _Request) -> None:
        """Serve one request."""
        if request.path == "/truth":
            self._tell(connection, request.method)
            return
        if request.path == "/metrics":
            self.metrics_asked += 1
            if self.metrics is not None:
                connection.respond(200, metrics_of(self.tally, self.metrics), kind="text/plain")
                return
        if request.method == "CONNECT":
            connection.respond(self.plan.status, "{}")
            return
        if request.method != "POST":
            connection.respond(404, "{}")
            return
        if self._stop is not None:
            at, seconds = self._stop
            self._stop = None
            asyncio.get_running_loop().call_later(at, self._stop_everything, seconds)
        body = json.loads(request.body)
        asked = dict(body.pop("simulate", {}))
        number = asked.pop("number", None)
        plan = replace(self.plan, **asked)
        if plan.tokens is None:
            plan = replace(plan, tokens=int(body.get("max_tokens") or 16))
        if plan.cold:
            plan = replace(plan, first=plan.first + plan.cold * 0.97 ** len(self.truths))
        if plan.faulty_share < 1.0 and self._draw.random() >= plan.faulty_share:
            plan = replace(plan, fault=None)
        self.greeted += GREETING in request.body
        if plan.renamed_after is not None and self.greeted > plan.renamed_after:
            plan = replace(plan, model="another")
        truth = Truth(number, request.received, fault=plan.fault)
        truth.authorization = request.authorization
        self.truths.append(truth)
        self.bodies.append(body)
        chat = request.path.endswith("/chat/completions")
        async with self._turn():
            truth.started = request.received if self._slots is None else time.perf_counter()
            try:
                await _answer(connection, plan, truth, chat)
            finally:
                self.tally.prompt_tokens += PROMPT_TOKENS
                self.tally.cached_tokens += plan.cached
                self.tally.generated_tokens += sum(tokens for _, tokens in truth.chunks)
                if len(self.truths) == self.plan.forgets_at:
                    self.tally.generated_tokens = 0

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a slot, if their number is limited, and hold it."""
        self.tally.waiting += 1
        try:
            if self._slots is not None:
                await self._slots.acquire()
        finally:
            self.tally.waiting -= 1
        self.tally.running += 1
        try:
            yield
        finally:
            self.tally.running -= 1
            if self._slots is not None:
                self._slots.release()

    def _tell(self, connection: _Connection, method: str) -> None:
        truths = [asdict(truth) for truth in self.truths]
        connection.respond(200, json.dumps({"truths": truths, "stopped": self.stopped}))
        if method == "DELETE":
            self.truths.clear()
            self.bodies.clear()

    def _stop_everything(self, seconds: float) -> None:
        begin = time.perf_counter()
        time.sleep(seconds)
        self.stopped = (begin, time.perf_counter())


class _Request(NamedTuple):
    method: str
    path: str
    authorization: str | None
    body: bytes
    received: float


class _Connection(asyncio.Protocol):
    """A client's connection, and the request that it waits for."""

    def __init__(self, server: ServerSimulator) -> None:
        self._server = server
        self._buffer = b""
        self._serving: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.open.add(self)
        self._server.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open.discard(self)
        if self._serving is not None:
            self._serving.cancel()

    def data_received(self, data: bytes) -> None:
        received = time.perf_counter()
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if not end or len(body) < int(headers.get("content-length", 0)):
            return
        self._buffer = b""
        method, url, _ = first.split(" ")
        # A proxy is asked for a complete URL (RFC 9112, 3.2.2); this server answers it itself.
        request = _Request(method, urlsplit(url).path, headers.get("authorization"), body, received)
        self._serving = asyncio.ensure_future(self._server.serve(self, request))

    def begin(self) -> None:
        """Begin a stream."""
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )

    def write(self, data: bytes) -> None:
        """Write a part of the stream; without data, its end."""
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def respond(
        self,
        status: int,
        body: str,
        header: str = "X-Nothing: 0",
        kind: str = "application/json",
    ) -> None:
        """Write a whole response that is not a stream."""
        data = body.encode()
        self.transport.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{header}\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )


async def _answer(connection: _Connection, plan: Plan, truth: Truth, chat: bool) -> None:
    if _fail_early(connection, plan):
        return
    assert truth.started is not None
    connection.begin()
    number = 0
    for after, data, tokens in events_of(plan, chat):
        await _sleep_until(truth.started + after)
        if plan.fault is not None and number == plan.fault_at:
            await _fail(connection, plan)
            return
        if tokens:
            truth.chunks.append((time.perf_counter(), tokens))
            number += 1
        await _write(connection, plan, data)
    if plan.done:
        truth.finished = time.perf_counter()
        await _write(connection, plan, event_of(plan, "data: [DONE]"))
    connection.write(b"")


async def _write(connection: _Connection, plan: Plan, data: bytes) -> None:
    if plan.piece is None:
        connection.write(data)
        return
    for begin in range(0, len(data), plan.piece):
        connection.write(data[begin : begin + plan.piece])
        await asyncio.sleep(0)


async def _sleep_until(due: float) -> None:
    left = due - time.perf_counter()
    if left > 0:
        await asyncio.sleep(left)


def _fail_early(connection: _Connection, plan: Plan) -> bool:
    """Answer with something other than a stream if that is the plan; return whether it is."""
    if plan.fault == "status":
        error = {"error": {"message": plan.error, "code": plan.status}}
        connection.respond(plan.status, json.dumps(error), "Location: /elsewhere")
    elif plan.fault == "no_stream":
        connection.respond(200, json.dumps({"choices": [{"message": {"content": "a"}}]}))
    elif plan.fault == "compressed":
        connection.respond(200, "?", "Content-Encoding: gzip")
    elif plan.fault == "no_http":
        connection.transport.write(f"{plan.error}\r\n\r\n".encode())
        connection.transport.close()
    else:
        return False
    return True


async def _fail(connection: _Connection, plan: Plan) -> None:
    """Fail within the stream as planned; then end it, unless a missing end is the fault."""
    if plan.fault == "reset":
        # Closed with a reset instead of an orderly end.
        linger = struct.pack("ii", 1, 0)
        client_socket = connection.transport.get_extra_info("socket")
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.transport.abort()
        return
    if plan.fault == "stall":
        await asyncio.sleep(60)
    while plan.fault == "slow_body":
        connection.write(b":\n\n")
        await asyncio.sleep(0.02)
    while plan.fault == "endless_frame":
        connection.write(b"data: " + b"x" * 2**20)
        await asyncio.sleep(0)
    if plan.fault == "half_frame":
        connection.write(b'data: {"choices"')
    elif plan.fault in FAULTY_FRAMES:
        error = json.dumps({"error": {"message": plan.error}})
        connection.write(event_of(plan, FAULTY_FRAMES[plan.fault].replace("ERROR", error)))
    connection.write(b"")


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until the process is ended, or a pipe on its standard input closes."""
    plan = Plan(**json.loads(arguments.plan))
    stop = tuple(arguments.stop) if arguments.stop else None
    simulator = ServerSimulator(
        plan,
        slots=arguments.slots,
        stop=stop,
        metrics=arguments.metrics,
        port=arguments.port,
    )
    async with simulator:
        print(simulator.url, flush=True)
        if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        else:
            await asyncio.Event().wait()


def main() -> None:
    """Run the simulator as a process."""
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server of known latencies.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--plan", default="{}", help="fields of Plan, as JSON")
    parser.add_argument("--slots", type=int, help="requests served at a time")
    parser.add_argument("--metrics", help="dialect of /metrics, such as vllm")
    parser.add_argument("--stop", type=float, nargs=2, metavar=("AT", "SECONDS"))
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
