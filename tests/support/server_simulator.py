"""An OpenAI-compatible server whose latencies are known, and which fails in any way asked for.

In a test: ``async with ServerSimulator(Plan(first=0.01)) as server: ...`` with ``server.url`` and
``server.truths``. As a process, which prints its URL when it is ready::

    python tests/support/server_simulator.py --port 0 --plan '{"first": 0.05, "gap": 0.01}'

Its truth is then at ``GET /truth``. A request may change its own plan by a ``simulate`` field of
its body. All times are seconds of ``time.perf_counter``, which on Linux all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aiohttp import web

#: A character of one, two, three and four bytes.
TEXTS = ("a", "é", "…", "😀")
FAULTS = (
    "reset",
    "stall",
    "slow_body",
    "bad_frame",
    "status",
    "error_event",
    "error_frame",
    "error_field",
    "cut_short",
    "half_frame",
    "no_stream",
    "no_http",
    "compressed",
    "endless_frame",
)


@dataclass(frozen=True)
class Plan:
    """What a request gets.

    Attributes:
        first: seconds from the request's start to its first token.
        gap: seconds from token to token.
        tokens: number of output tokens; None takes the request's ``max_tokens``.
        tokens_per_chunk: how many are sent together, when the last of them is due.
        reasoning: number of tokens at the beginning that are reasoning.
        tool_calls: whether the others are parts of a tool call.
        role_first: whether a chunk with only the role comes first, as soon as the request starts.
        usage: ``own_chunk`` without choices, ``with_choices``, ``truncated`` (without the number
            of output tokens) or ``none``.
        timings: whether llama.cpp's timings are sent.
        done: whether the stream ends with ``[DONE]``.
        finish: the reason sent at the end; None sends none.
        piece: bytes per write; None writes whole events.
        line_end: of the stream's lines.
        comments: whether a comment line precedes each event.
        fault: one of ``FAULTS``, or None.
        fault_at: number of chunks sent before the fault.
        faulty_share: share of requests that get ``fault``.
        status: HTTP status of the fault ``status``.
        error: text that the server states in its faults.
    """

    first: float = 0.0
    gap: float = 0.0
    tokens: int | None = None
    tokens_per_chunk: int = 1
    reasoning: int = 0
    tool_calls: bool = False
    role_first: bool = False
    usage: str = "own_chunk"
    timings: bool = False
    done: bool = True
    finish: str | None = "length"
    piece: int | None = None
    line_end: str = "\n"
    comments: bool = False
    fault: str | None = None
    fault_at: int = 1
    faulty_share: float = 1.0
    status: int = 429
    error: str = "out of memory"


@dataclass
class Truth:
    """What really happened to a request.

    Attributes:
        number: the client's own number of it (field ``number`` of ``simulate``), or None.
        received: when the server had read it.
        started: when it left the queue.
        chunks: when each chunk with output was written, and its number of tokens.
        finished: when the stream's end was written, or None.
        fault: the fault that it got, or None.
        authorization: the header of that name.
    """

    number: int | None
    received: float
    started: float | None = None
    chunks: list[tuple[float, int]] = field(default_factory=list)
    finished: float | None = None
    fault: str | None = None
    authorization: str | None = None


class ServerSimulator:
    """A server that follows a plan.

    Args:
        plan: of every request, unless it brings another.
        slots: number of requests served at a time; others wait in order of arrival.
        stop: seconds after the first request at which the whole server stops, and for how long.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        slots: int | None = None,
        stop: tuple[float, float] | None = None,
        port: int = 0,
    ) -> None:
        self.plan = plan or Plan()
        self.truths: list[Truth] = []
        self.bodies: list[dict[str, Any]] = []
        self.connections: set[asyncio.BaseTransport] = set()
        #: When the whole server stopped, and when it went on; empty if it didn't.
        self.stopped: tuple[float, ...] = ()
        self._slots = asyncio.Semaphore(slots) if slots else None
        self._stop = stop
        self._port = port
        self._draw = random.Random(0)

    async def __aenter__(self) -> ServerSimulator:
        app = web.Application(client_max_size=2**26)
        for path in ("/v1/completions", "/v1/chat/completions"):
            app.router.add_post(path, self._answer)
        app.router.add_get("/truth", self._tell)
        app.router.add_delete("/truth", self._forget)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self._port))
        await web.SockSite(self._runner, self._socket, backlog=4096).start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self.connections:
            transport.close()
        await self._runner.cleanup()

    def _stop_everything(self, seconds: float) -> None:
        begin = time.perf_counter()
        time.sleep(seconds)
        self.stopped = (begin, time.perf_counter())

    async def _tell(self, _request: web.Request) -> web.Response:
        truths = [asdict(truth) for truth in self.truths]
        return web.json_response({"truths": truths, "stopped": self.stopped})

    async def _forget(self, _request: web.Request) -> web.Response:
        self.truths.clear()
        self.bodies.clear()
        return web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        received = time.perf_counter()
        if self._stop is not None:
            at, seconds = self._stop
            self._stop = None
            asyncio.get_running_loop().call_later(at, self._stop_everything, seconds)
        assert request.transport is not None
        self.connections.add(request.transport)
        body = await request.json()
        asked = dict(body.pop("simulate", {}))
        number = asked.pop("number", None)
        plan = replace(self.plan, **asked)
        if plan.tokens is None:
            plan = replace(plan, tokens=int(body.get("max_tokens") or 16))
        if plan.faulty_share < 1.0 and self._draw.random() >= plan.faulty_share:
            plan = replace(plan, fault=None)
        truth = Truth(number, received, fault=plan.fault)
        truth.authorization = request.headers.get("Authorization")
        self.truths.append(truth)
        self.bodies.append(body)
        if self._slots is None:
            return await self._serve(request, plan, truth)
        async with self._slots:
            return await self._serve(request, plan, truth)

    async def _serve(self, request: web.Request, plan: Plan, truth: Truth) -> web.StreamResponse:
        truth.started = truth.received if self._slots is None else time.perf_counter()
        if early := await _early_fault(request, plan):
            return early
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chat = request.path.endswith("/chat/completions")
        number = 0
        async for frame, tokens in _frames(plan, truth.started, chat):
            if plan.fault is not None and number == plan.fault_at:
                await _fail(request, response, plan)
                return response
            if tokens:
                truth.chunks.append((time.perf_counter(), tokens))
                number += 1
            await _write(response, plan, frame)
        if plan.done:
            truth.finished = time.perf_counter()
            await _write(response, plan, "data: [DONE]")
        return response


async def _write(response: web.StreamResponse, plan: Plan, frame: str) -> None:
    if plan.comments:
        frame = f": still here\n{frame}"
    data = f"{frame}\n\n".replace("\n", plan.line_end).encode()
    for begin in range(0, len(data), plan.piece or len(data)):
        await response.write(data[begin : begin + (plan.piece or len(data))])
        if plan.piece:
            await asyncio.sleep(0)


async def _sleep_until(due: float) -> None:
    left = due - time.perf_counter()
    if left > 0:
        await asyncio.sleep(left)


async def _frames(plan: Plan, started: float, chat: bool) -> AsyncIterator[tuple[str, int]]:
    """Yield the events of an answer when they are due, and their numbers of tokens."""
    assert plan.tokens is not None
    if plan.role_first:
        yield _frame([_choice(chat, {"role": "assistant", "content": ""})]), 0
    sent = 0
    while sent < plan.tokens:
        tokens = min(plan.tokens_per_chunk, plan.tokens - sent)
        if sent < plan.reasoning:
            tokens = min(tokens, plan.reasoning - sent)
        await _sleep_until(started + plan.first + plan.gap * (sent + tokens - 1))
        text = "".join(TEXTS[number % len(TEXTS)] for number in range(sent, sent + tokens))
        yield _frame([_choice(chat, _delta(plan, text, sent))]), tokens
        sent += tokens
    usage: dict[str, Any] = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
    if plan.usage != "truncated":
        usage["completion_tokens"] = plan.tokens
    last: dict[str, Any] = {}
    if plan.usage == "with_choices":
        last["usage"] = usage
    if plan.timings:
        last["timings"] = {"cache_n": 2, "prompt_n": 3, "predicted_n": plan.tokens}
    if plan.finish is not None or last:
        yield _frame([_choice(chat, {}, plan.finish)], **last), 0
    if plan.usage in ("own_chunk", "truncated"):
        yield _frame([], usage=usage), 0


def _delta(plan: Plan, text: str, sent: int) -> dict[str, Any]:
    if sent < plan.reasoning:
        return {"reasoning_content": text}
    if plan.tool_calls:
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
    return {"content": text}


def _choice(chat: bool, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    part = {"delta": delta} if chat else {"text": delta.get("content", "")}
    return {"index": 0, **part, "finish_reason": finish}


def _frame(choices: list[dict[str, Any]], **more: Any) -> str:
    frame = {"id": "1", "model": "simulated", "system_fingerprint": "b1", "choices": choices}
    return "data: " + json.dumps({**frame, **more}, ensure_ascii=False, separators=(",", ":"))


async def _early_fault(request: web.Request, plan: Plan) -> web.StreamResponse | None:
    """Return a response that takes the place of the stream, or None."""
    error = {"error": {"message": plan.error, "code": plan.status}}
    if plan.fault == "status":
        return web.json_response(error, status=plan.status)
    if plan.fault == "no_stream":
        return web.json_response({"choices": [{"message": {"content": "a"}}]})
    if plan.fault == "compressed":
        return web.Response(body=b"?", headers={"Content-Encoding": "gzip"})
    if plan.fault == "no_http":
        assert request.transport is not None
        request.transport.write(f"{plan.error}\r\n\r\n".encode())
        request.transport.close()
        await asyncio.sleep(60)
    return None


async def _fail(request: web.Request, response: web.StreamResponse, plan: Plan) -> None:
    """Fail within the stream."""
    error = json.dumps({"error": {"message": plan.error}})
    if plan.fault == "reset":
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        # Closed with a reset instead of an orderly end.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    elif plan.fault == "stall":
        await asyncio.sleep(60)
    elif plan.fault == "slow_body":
        while True:
            await response.write(b":\n\n")
            await asyncio.sleep(0.02)
    elif plan.fault == "endless_frame":
        while True:
            await response.write(b"data: " + b"x" * 2**20)
    elif plan.fault == "half_frame":
        await response.write(b'data: {"choices"')
    elif plan.fault in _FAULTY_FRAMES:
        await _write(response, plan, _FAULTY_FRAMES[plan.fault].replace("ERROR", error))


_FAULTY_FRAMES = {
    "bad_frame": "data: {ERROR",
    "error_event": "event: error\ndata: ERROR",
    "error_frame": "data: ERROR",
    "error_field": "error: ERROR",
}


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until the process is ended or its standard input closes."""
    plan = Plan(**json.loads(arguments.plan))
    stop = tuple(arguments.stop) if arguments.stop else None
    simulator = ServerSimulator(plan, slots=arguments.slots, stop=stop, port=arguments.port)
    async with simulator:
        print(simulator.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Run the simulator as a process."""
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server of known latencies.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--plan", default="{}", help="fields of Plan, as JSON")
    parser.add_argument("--slots", type=int, help="requests served at a time")
    parser.add_argument("--stop", type=float, nargs=2, metavar=("AT", "SECONDS"))
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
