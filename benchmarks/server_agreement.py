"""Whether our figures of a server agree with its own and with another load tool's.

    .venv/bin/python benchmarks/server_agreement.py [--with guidellm]

llama.cpp's server (package xllamacpp; ``--start`` for another one) says how long it worked on each
answer: ``timings``. Requests are sent one at a time, and this project's first token and time per
token stand beside the server's own of the same answers. With ``--with guidellm``, GuideLLM sends
the same number of similar requests to the same server, in turns, from an environment in the cache
folder. The definition of each figure is printed, because definitions differ.

Exit status 0 if this project's figures are within 2% of the server's; 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from load_tools import GuideLlm, Latencies
from paired import Interval, ratio_interval
from served_project import Served, running, small_model
from slow_relay import free_port
from tools_env import SetupError

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.generation_of_answer import generation_of
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.run import Run

SHARE = 0.02
FIGURES = ("first token", "time per token")
_WORDS = ("one", "river", "stone", "of", "a", "light", "engine", "and", "slow", "answer", "two")
OURS = {
    "first token": "first bytes with output, when they left the socket, - just before the request "
    "is written",
    "time per token": "(last bytes with output - first ones) / (n - 1), n by the server's usage",
}
SERVERS = {
    "first token": "prompt_ms: from the prompt's first batch to its first token; no HTTP, no "
    "queue, no tokenizing",
    "time per token": "predicted_ms / (n - 1): from the first token to the last, in the server",
}


@dataclass(frozen=True)
class Pair:
    """One answer's latencies, in seconds: as measured here, and as the server states them."""

    ours: Mapping[str, float]
    servers: Mapping[str, float]


def pair_of(answer: ServerAnswer, tokens: int) -> Pair:
    """Return the latencies of an answer.

    Raises:
        SystemExit: the server states none.
    """
    timings = answer.timings or {}
    if not {"prompt_ms", "predicted_ms", "predicted_n"} <= timings.keys():
        raise SystemExit("the server states no timings: it is not llama.cpp's")
    request = Request(prompt="", max_tokens=tokens)
    generation = generation_of(answer, request, "completions", is_shared=True)
    metrics = compute_all(Run.in_order([generation.timeline]))
    gaps = int(timings["predicted_n"]) - 1
    return Pair(
        {
            "first token": metrics["first_token"],
            "time per token": metrics["time_per_output_token"],
        },
        {
            "first token": timings["prompt_ms"] / 1000.0,
            "time per token": timings["predicted_ms"] / gaps / 1000.0,
        },
    )


def prompts(draw: random.Random, count: int, letters: int) -> Iterator[str]:
    """Yield different prompts of the same length."""
    for _ in range(count):
        text = ""
        while len(text) < letters:
            text += f"{draw.choice(_WORDS)} "
        yield text[:letters]


async def ask(url: str, texts: Sequence[str], tokens: int) -> list[Pair]:
    """Send the prompts one at a time; return the latencies of each."""
    body = {"cache_prompt": False, "temperature": 0.0, "ignore_eos": True}
    settings = ServerSettings(url, api="completions", body=body)
    async with ServerClient(settings) as client:
        return [
            pair_of(await client.ask(ServerRequest(text, max_tokens=tokens)), tokens)
            for text in texts
        ]


def line(figure: str, ours: Sequence[float], others: Sequence[float], name: str) -> str:
    """Return a row of the table: both medians, their ratio and their difference."""
    ratio = ratio_interval(ours, others)
    apart = median(a - b for a, b in zip(ours, others, strict=True))
    return (
        f"{figure:15} {name:14} {median(ours) * 1000:9.3f} {median(others) * 1000:9.3f}   "
        f"{ratio.centre:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]  {apart * 1000:+.3f} ms"
    )


def is_near(ratio: Interval) -> bool:
    """Whether a ratio is within ``SHARE`` of 1."""
    return abs(ratio.centre - 1.0) <= SHARE


def show(pairs: Sequence[Pair], turns: Sequence[tuple[Latencies, Latencies]], tool: str) -> bool:
    """Print the table and what its figures mean; return whether ours agree with the server's."""
    print(f"{'figure':15} {'beside':14} {'ours ms':>9} {'other ms':>9}   ratio [95% interval]")
    fine = True
    for figure in FIGURES:
        ours, servers = (
            [pair.ours[figure] for pair in pairs],
            [pair.servers[figure] for pair in pairs],
        )
        print(line(figure, ours, servers, "the server"))
        fine = fine and is_near(ratio_interval(ours, servers))
    for figure, name in zip(FIGURES, ("first", "per_token"), strict=True):
        if turns:
            sides = [[median(getattr(run, name)) for run in side] for side in zip(*turns)]  # noqa: B905
            print(line(figure, sides[0], sides[1], tool))
    print(f"{len(pairs)} answers beside the server's own; {len(turns)} turns beside another tool")
    for figure in FIGURES:
        print(f"\n{figure}:\n  here: {OURS[figure]}\n  the server: {SERVERS[figure]}")
        if turns:
            print(f"  {tool}: {GuideLlm.definitions[figure]}")
    return fine


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    count = whole_number()
    parser.add_argument("--turns", type=whole_number(6), default=10, help="(default 10)")
    parser.add_argument("--requests", type=count, default=12, help="of a turn (default 12)")
    parser.add_argument("--letters", type=count, default=384, help="of a prompt (default 384)")
    parser.add_argument("--tokens", type=whole_number(2), default=64, help="(default 64)")
    parser.add_argument("--model", type=Path, help="a GGUF file (default: a tiny one)")
    parser.add_argument("--start", help="another server: its command, with {port}")
    parser.add_argument("--with", dest="tool", choices=("guidellm",), help="another load tool")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tool = None
    if arguments.tool:
        try:
            tool = GuideLlm()
        except SetupError as error:
            print(f"GuideLLM can't be installed here:\n{error}", file=sys.stderr)
    served = Served(arguments.model or small_model(), arguments.tokens, context=1024)
    command = shlex.split(arguments.start) if arguments.start else served.command()
    draw = random.Random(arguments.seed)
    pairs: list[Pair] = []
    turns: list[tuple[Latencies, Latencies]] = []

    def texts() -> list[str]:
        return list(prompts(draw, arguments.requests, arguments.letters))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with running(command, free_port(), folder / "log") as url:
            # The first requests are slower for every client.
            asyncio.run(ask(url, texts()[:2], arguments.tokens))
            for number in range(arguments.turns):
                latencies: dict[str, Latencies] = {}
                for name in draw.sample(("ours", "other"), 2):
                    if name == "ours":
                        batch = asyncio.run(ask(url, texts(), arguments.tokens))
                        pairs += batch
                        latencies[name] = Latencies(
                            *(tuple(pair.ours[figure] for pair in batch) for figure in FIGURES)
                        )
                    elif tool is not None:
                        latencies[name] = tool.measure(url, "m", texts(), arguments.tokens, folder)
                if tool is not None:
                    turns.append((latencies["ours"], latencies["other"]))
                print(f"turn {number + 1} of {arguments.turns}", file=sys.stderr)
    fine = show(pairs, turns, GuideLlm.name)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
