"""How many requests and chunks per second the client of servers sustains, beside bare aiohttp.

A second process answers with chunks as servers send them, each in a write of its own. The
clients ask it in turn, in an order drawn per round:

- ``bare``: aiohttp alone, which reads the answers and drops them;
- ``parsed``: aiohttp, and the JSON of each line: the least that any client of such a server does;
- ``ours``: ``ServerClient``.

Chunks come at a rate that all of them keep up with, so that each is read by itself; requests are
sent as fast as answers come. The CPU time says how many of each one core would sustain.

    .venv/bin/python benchmarks/client_capacity.py

Exit status 0 if this project's client sustains at least 90% of what bare aiohttp does, in the
median over rounds, of both requests and chunks; 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import aiohttp

from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.generator import quiet_gc
from pytest_llmperf.engine.server.settings import ServerSettings

if TYPE_CHECKING:
    from json import loads
else:
    try:
        from orjson import loads
    except ImportError:
        from json import loads

#: A chunk of llama.cpp's server.
CHUNK = {
    "choices": [{"finish_reason": None, "index": 0, "delta": {"content": " token"}}],
    "created": 1764374400,
    "id": "chatcmpl-6oB1jTqfXlG8iEo1mVhBoyWmZ0a5Vwqm",
    "model": "smollm2-135m",
    "system_fingerprint": "b6900-0123456789",
    "object": "chat.completion.chunk",
}
END = {**CHUNK, "choices": [{"finish_reason": "length", "index": 0, "delta": {}}]}
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: keep-alive\r\n\r\n"
)
#: Seconds between the chunks of an answer; chunks per answer, and requests, that are measured.
TICK, TOKENS, REQUESTS = 0.004, 400, 1000
#: The least share of bare aiohttp's rates.
SHARE = 0.9


def framed(*frames: str) -> bytes:
    """Return events of a stream as one HTTP chunk."""
    data = "".join(f"data: {frame}\n\n" for frame in frames).encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Answering(asyncio.Protocol):
    """Answers each request with as many chunks as its ``max_tokens`` says."""

    def __init__(self, waiting: dict[Answering, int]) -> None:
        self._waiting = waiting
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._waiting.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Take a request; a single chunk is answered at once."""
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or -1)
        if len(body) != size:
            return
        self._received = b""
        chunks = json.loads(body)["max_tokens"]
        if chunks == 1:
            self.transport.write(HEAD + framed(json.dumps(CHUNK)))
            self.end()
        else:
            self.transport.write(HEAD)
            self._waiting[self] = chunks

    def end(self) -> None:
        """End the answer."""
        self.transport.write(framed(json.dumps(END), "[DONE]") + b"0\r\n\r\n")


async def serve() -> None:
    """Serve until the standard input closes; print the port."""
    waiting: dict[Answering, int] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(waiting), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = loop.run_in_executor(None, sys.stdin.read)
    chunk = framed(json.dumps(CHUNK))
    due = time.perf_counter()
    while not ended.done():
        due = max(due + TICK, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())
        for connection, left in list(waiting.items()):
            if left:
                connection.transport.write(chunk)
                waiting[connection] = left - 1
            else:
                del waiting[connection]
                connection.end()


Ask = Callable[[int], Awaitable[None]]


def bare(session: aiohttp.ClientSession, url: str) -> Ask:
    """Return a client that reads answers and drops them."""

    async def ask(tokens: int) -> None:
        async with session.post(url, json={"max_tokens": tokens}) as response:
            async for _ in response.content.iter_any():
                pass

    return ask


def parsed(session: aiohttp.ClientSession, url: str) -> Ask:
    """Return a client that reads the time and the text of each line, as scripts do."""

    async def ask(tokens: int) -> None:
        async with session.post(url, json={"max_tokens": tokens}) as response:
            texts = []
            async for line in response.content:
                if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                    delta = loads(line[6:])["choices"][0]["delta"]
                    texts.append((time.perf_counter(), delta.get("content")))

    return ask


def ours(client: ServerClient) -> Ask:
    """Return this project's client."""

    async def ask(tokens: int) -> None:
        answer = await client.ask(ServerRequest("hi", max_tokens=tokens))
        assert len(answer.output_chunks) == tokens

    return ask


async def spend(ask: Ask, requests: int, tokens: int) -> float:
    """Return the CPU seconds that some requests took, 16 at a time."""
    numbers = iter(range(requests))

    async def one_after_the_other() -> None:
        for _ in numbers:
            await ask(tokens)

    began = time.process_time()
    await asyncio.gather(*(one_after_the_other() for _ in range(16)))
    return time.process_time() - began


async def measure(port: int, rounds: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """Return each client's rates by quantity, one per round."""
    draw = random.Random(seed)
    url = f"http://127.0.0.1:{port}"
    settings = ServerSettings(url, model="m")
    rates: dict[str, dict[str, list[float]]] = {"chunks/s": {}, "requests/s": {}}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ServerClient(settings) as client,
    ):
        clients = {
            "bare": bare(session, settings.endpoint),
            "parsed": parsed(session, settings.endpoint),
            "ours": ours(client),
        }
        for number in range(rounds + 1):
            order = list(clients)
            draw.shuffle(order)
            for name in order:
                with quiet_gc():
                    chunks = 16 * TOKENS / await spend(clients[name], 16, TOKENS)
                    requests = REQUESTS / await spend(clients[name], REQUESTS, 1)
                if number:
                    rates["chunks/s"].setdefault(name, []).append(chunks)
                    rates["requests/s"].setdefault(name, []).append(requests)
    return rates


def shares(by_client: Mapping[str, Sequence[float]], name: str) -> list[float]:
    """Return a client's rate as a share of bare aiohttp's in each round, from the lowest up."""
    pairs = zip(by_client[name], by_client["bare"], strict=True)
    return sorted(own / bare for own, bare in pairs)


def show(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Print a table: each rate with its spread, and its share of bare aiohttp's in the round."""
    print(f"{'':12} {'client':8} {'median':>8} {'lowest':>8} {'highest':>8}   share of bare")
    for quantity, by_client in rates.items():
        for name, values in by_client.items():
            found = shares(by_client, name)
            print(
                f"{quantity:12} {name:8} {median(values):8.0f} {min(values):8.0f} "
                f"{max(values):8.0f}   {median(found):.0%} ({found[0]:.0%} to {found[-1]:.0%})"
            )


def too_slow(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return the rates in which this project's client sustains too little, in words."""
    found = {name: median(shares(by_client, "ours")) for name, by_client in rates.items()}
    return [
        f"{name}: {share:.0%} of bare aiohttp, less than {SHARE:.0%}"
        for name, share in found.items()
        if share < SHARE
    ]


def main() -> int:
    """Start the server, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
        return 0
    command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        rates = asyncio.run(measure(port, arguments.rounds, arguments.seed))
    show(rates)
    slow = too_slow(rates)
    for line in slow:
        print(line, file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
