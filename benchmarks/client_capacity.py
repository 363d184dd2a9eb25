"""How many requests and chunks per second our server client sustains, beside bare aiohttp.

A second process (``null_server.py``) answers with chunks as servers send them, each in a write of
its own. The clients ask it in turn, in an order drawn per round:

- ``bare``: aiohttp alone, which reads the answers and drops them;
- ``parsed``: aiohttp that parses the JSON of each line, the least that any such client does;
- ``ours``: ``ServerClient``.

Chunks come slowly enough for all clients, so that each is read by itself; requests are sent as fast
as answers come. The CPU time tells how many of each one core would sustain.

    .venv/bin/python benchmarks/client_capacity.py [--with guidellm] [--with aiperf]

Other tools send requests to the same server, from environments of their own in the cache folder.
A second table has what a request costs each client, and how many each sends per second by the
clock, with all its processes. What a tool does before and after the requests is not counted.
A tool that can't be installed or run here is named and left out.

Exit status 0 if this project's client sustains at least 90% of what bare aiohttp does, in the
median over rounds, of both requests and chunks; 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from load_tools import TOOLS
from null_server import answered_by, null_server
from tool_cost import Cost, cost_of
from tools_env import SetupError

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

#: Chunks per answer; requests that are measured, also of another tool; requests in flight.
TOKENS, REQUESTS, TOOL_REQUESTS, AT_ONCE = 400, 1000, 4000, 16
#: Lowest accepted share of bare aiohttp's rates.
SHARE = 0.9

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


class Times(NamedTuple):
    """Seconds that some requests took, of CPU time and by the clock."""

    cpu: float
    clock: float


async def time_requests(ask: Ask, requests: int, tokens: int) -> Times:
    """Send requests, 16 at a time; return the time they took."""
    numbers = iter(range(requests))

    async def one_after_the_other() -> None:
        for _ in numbers:
            await ask(tokens)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    return Times(time.process_time() - cpu, time.perf_counter() - began)


async def measure(
    url: str, rounds: int, seed: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[Cost]]]:
    """Return each client's rates by quantity, and its cost per request, one value per round."""
    draw = random.Random(seed)
    settings = ServerSettings(url, model="m")
    rates: dict[str, dict[str, list[float]]] = {"chunks/s": {}, "requests/s": {}}
    costs: dict[str, list[Cost]] = {}
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
                    chunks = await time_requests(clients[name], AT_ONCE, TOKENS)
                    requests = await time_requests(clients[name], REQUESTS, 1)
                if number:
                    rates["chunks/s"].setdefault(name, []).append(AT_ONCE * TOKENS / chunks.cpu)
                    rates["requests/s"].setdefault(name, []).append(REQUESTS / requests.cpu)
                    cost = Cost(REQUESTS / requests.clock, requests.cpu / REQUESTS)
                    costs.setdefault(name, []).append(cost)
    return rates, costs


def tool_costs(url: str, names: Iterable[str], rounds: int) -> dict[str, list[Cost]]:
    """Return other tools' costs per request, one per round; print which can't be run here."""
    costs: dict[str, list[Cost]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            try:
                tool = TOOLS[name]()
                for _ in range(rounds):
                    command = tool.sending(url, TOOL_REQUESTS, AT_ONCE, folder)
                    answered = partial(answered_by, url)
                    cost = cost_of(command, TOOL_REQUESTS, answered, folder, tool.environment)
                    costs.setdefault(tool.name, []).append(cost)
            except SetupError as error:
                print(f"{name} is left out, because it can't be run here: {error}", file=sys.stderr)
    return costs


def shares(by_client: Mapping[str, Sequence[float]], name: str) -> list[float]:
    """Return a client's rate as a share of bare aiohttp's in each round, in ascending order."""
    pairs = zip(by_client[name], by_client["bare"], strict=True)
    return sorted(own / bare for own, bare in pairs)


def show(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Print a table: each rate with its spread, and its share of bare aiohttp's in the round."""
    print(f"{'':12} {'client':8} {'median':>8} {'lowest':>8} {'highest':>8}   share of bare")
    for quantity, by_client in rates.items():
        for name, values in by_client.items():
            ratios = shares(by_client, name)
            print(
                f"{quantity:12} {name:8} {median(values):8.0f} {min(values):8.0f} "
                f"{max(values):8.0f}   {median(ratios):.0%} ({ratios[0]:.0%} to {ratios[-1]:.0%})"
            )


def cost_lines(costs: Mapping[str, Sequence[Cost]]) -> list[str]:
    """Return the lines of a table: what a request of one chunk costs each client."""
    lines = [
        f"answers of one chunk, {AT_ONCE} in flight: median (lowest to highest)",
        f"{'client':16} {'requests/s by the clock':>28} {'CPU ms per request':>28}",
    ]
    for name, values in costs.items():
        rates = [cost.requests_per_sec for cost in values]
        cpu = [cost.cpu * 1000 for cost in values]
        rate_text = f"{median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        cpu_text = f"{median(cpu):.3f} ({min(cpu):.3f} to {max(cpu):.3f})"
        lines.append(f"{name:16} {rate_text:>28} {cpu_text:>28}")
    return lines


def too_slow(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return a line for each rate that this project's client does not sustain."""
    medians = {name: median(shares(by_client, "ours")) for name, by_client in rates.items()}
    return [
        f"{name}: {share:.0%} of bare aiohttp, less than {SHARE:.0%}"
        for name, share in medians.items()
        if share < SHARE
    ]


def main() -> int:
    """Start the server, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--with", dest="tools", action="append", default=[], choices=TOOLS, help="another load tool"
    )
    parser.add_argument("--tool-rounds", type=int, default=3, help="of other tools (default 3)")
    arguments = parser.parse_args()
    with null_server() as url:
        rates, costs = asyncio.run(measure(url, arguments.rounds, arguments.seed))
        costs |= tool_costs(url, arguments.tools, arguments.tool_rounds)
    show(rates)
    print("", *cost_lines(costs), sep="\n")
    slow = too_slow(rates)
    for line in slow:
        print(line, file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
