"""How much longer an answer takes beside each kind of busy process, by the engine's threads.

    python benchmarks/busy_threads.py [--threads 1 2 4] [--rounds 3] [--tokens 8]

The embedded model answers the same prompt alone and beside every kind of neighbour
(``busy_neighbour.py``), in random order, one engine for each number of threads. Printed: the
median seconds of an answer, the shortest and the longest one, and the ratio to the median alone.
Beside a process that never rests an answer on all cores can take a minute.
"""

from __future__ import annotations

import argparse
import random
import time
from statistics import median

from busy_neighbour import KINDS, busy_neighbour
from exit_status import exit_with
from turns import PROMPT, spec_of

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.request import Request


def measure(threads: int, rounds: int, tokens: int) -> dict[str | None, list[float]]:
    """Return the seconds of each answer, by kind of neighbour; None is without one.

    Raises:
        EngineError: the engine cannot be loaded, or gives no answer.
    """
    seconds: dict[str | None, list[float]] = {None: [], **{kind: [] for kind in KINDS}}
    request = Request(prompt=PROMPT, max_tokens=tokens)
    client = EngineClient.start(spec_of(threads))
    try:
        client.request(request)
        for number in range(rounds):
            for kind in random.sample(list(seconds), len(seconds)):
                with busy_neighbour(kind, seed=number):
                    time.sleep(0.5)  # until it is busy
                    client.reset()
                    began = time.monotonic()
                    client.request(request)
                    seconds[kind].append(time.monotonic() - began)
    finally:
        client.close()
    return seconds


def main() -> int:
    """Print a row for each number of threads and kind of neighbour."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cpus = usable_cpus()
    parser.add_argument(
        "--threads",
        type=whole_number(),
        nargs="+",
        default=sorted({1, cpus}),
        help="of the engine (default: 1, and as many as CPUs)",
    )
    parser.add_argument("--rounds", type=whole_number(), default=3, help="(default 3)")
    parser.add_argument("--tokens", type=whole_number(2), default=8, help="of an answer (8)")
    arguments = parser.parse_args()
    print(f"{cpus} usable CPUs; seconds of an answer of {arguments.tokens} tokens")
    heads = "".join(f"{head:>9}" for head in ("median", "shortest", "longest", "ratio"))
    print(f"{'threads':>7} {'neighbour':<10}{heads}")
    for threads in arguments.threads:
        seconds = measure(threads, arguments.rounds, arguments.tokens)
        alone = median(seconds[None])
        for kind, times in seconds.items():
            values = (median(times), min(times), max(times), median(times) / alone)
            cells = "".join(f"{value:>9.3g}" for value in values)
            print(f"{threads:>7} {kind or 'none':<10}{cells}", flush=True)
    return 0


if __name__ == "__main__":
    exit_with(main, EngineError)
