"""Whether rates relative to a yardstick vary less between a machine's good and bad hours.

    python benchmarks/yardstick.py --file yardstick.jsonl             # a session, say hourly
    python benchmarks/yardstick.py --file yardstick.jsonl --report    # over all sessions

``benchmarks/data/yardstick.jsonl`` holds the sessions of docs/findings.md.
A session takes under half a minute. In turns with replays of the test (the embedded model on
``--threads``) it measures, on the same number of threads:

- stream: how fast memory is streamed through (``a = b + c`` over arrays larger than the caches);
- same: the embedded model in a fixed small context, which stands for an engine that stays the
  same when everything else changes;
- tiny: a model of one layer with random weights, most of which stay in the caches.

The medians of a session are one line of the file. The report gives, over all sessions, the spread
(1.4826 times the median absolute deviation of natural logarithms) of the test's own rates and of
their ratios to each yardstick, and whether a ratio varies at most half as much as the rate.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from exit_status import exit_with
from outcomes import Outcomes
from turns import PROMPT, spec_of, spread

from pytest_llmperf.arguments import duration, whole_number
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.request import Request
from pytest_llmperf.machine.cpu_bandwidth import BandwidthError, stream
from pytest_llmperf.measure.turns import SPIN_SECONDS
from pytest_llmperf.metrics import compute_all
from pytest_llmperf.models.synthetic import synthesize
from pytest_llmperf.run import Run

#: Rates of the test, which the yardsticks with an engine measure, too.
RATES = ("tokens_per_sec", "prefill_tokens_per_sec")
YARDSTICKS = ("stream", "same", "tiny")
#: Output tokens of the test, and of the yardsticks' engines.
TOKENS, SHORT = 32, 16
#: Context of the yardsticks' engines.
SMALL = 128
#: Bytes of each of the three arrays that are streamed through, and passes over them.
ARRAY, PASSES = 64 << 20, 6
#: Fewest rounds of turns that count.
MIN_ROUNDS = 3
#: Sessions needed for a report, and draws of its intervals.
MIN_SESSIONS, DRAWS = 4, 2000

#: Measures one turn; returns values by name.
Turn = Callable[[], Mapping[str, float]]


def engine_turn(client: EngineClient, name: str, tokens: int) -> Mapping[str, float]:
    """Replay once; return the rates."""
    client.reset()
    generation = client.request(Request(prompt=PROMPT, max_tokens=tokens))
    metrics = compute_all(Run.in_order([generation.timeline]))
    return {f"{name} {rate}": metrics[rate] for rate in RATES}


def stream_turn(threads: int) -> Mapping[str, float]:
    """Stream through memory; return nothing if the threads did not get their cores."""
    try:
        result = stream(threads, ARRAY, PASSES)
    except BandwidthError:
        return {}
    return {"stream": result.median_bytes_per_s}


def session(threads: int, seconds: float) -> Mapping[str, float]:
    """Measure the test and the yardsticks in turns for ``seconds``; return each value's median.

    Raises:
        EngineError: an engine cannot be loaded.
    """
    test = spec_of(threads)
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.gguf"
        synthesize("smollm2-135m", "Q4_1", tiny, layers=1)
        small = {"n_ctx": SMALL, "n_threads": threads, "n_threads_batch": threads}
        frozen = LlamaCppConfig.model_validate({**small, "max_tokens": SHORT})
        specs: dict[str, tuple[LaunchSpec, int]] = {
            "test": (test, TOKENS),
            "same": (replace(test, config={**test.config, "n_ctx": SMALL}), SHORT),
            "tiny": (LaunchSpec("llama_cpp", frozen.resolved(tiny)), SHORT),
        }
        turns: list[Turn] = [partial(stream_turn, min(threads, usable_cpus()))]
        for name, (spec, tokens) in specs.items():
            client = EngineClient.start(spec)
            stack.callback(client.close)
            turns.append(partial(engine_turn, client, name, tokens))
        until, number = time.monotonic() + seconds, 0
        while number <= MIN_ROUNDS or time.monotonic() < until:
            for turn in random.sample(turns, len(turns)):
                # Wait until the threads of the previous engine have gone to sleep.
                time.sleep(SPIN_SECONDS)
                values = turn()
                # The first round warms up.
                for name, value in values.items() if number else ():
                    samples.setdefault(name, []).append(value)
            number += 1
    return {name: median(values) for name, values in samples.items()}


def ratios(rate: str) -> dict[str, str]:
    """Return, by yardstick, the name of the value that a rate is divided by."""
    return {name: name if name == "stream" else f"{name} {rate}" for name in YARDSTICKS}


def report(sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print the spreads over all sessions."""
    hours = [row["time"] for row in sessions]
    print(f"{len(sessions)} sessions from {hours[0]} to {hours[-1]}; spread between them, % [95%]")
    print(f"{'rate':<24}{'divided by':<12}{'sessions':>9}{'spread':>9}{'share of the rate':>24}")
    for rate in RATES:
        own = {
            number: math.log(row["values"][f"test {rate}"]) for number, row in enumerate(sessions)
        }
        print(f"{rate:<24}{'-':<12}{len(own):>9}{spread(list(own.values())):>9.2%}")
        for yardstick, divisor in ratios(rate).items():
            logs = {
                number: own[number] - math.log(row["values"][divisor])
                for number, row in enumerate(sessions)
                if divisor in row["values"]
            }
            if len(logs) < MIN_SESSIONS:
                print(f"{'':<24}{yardstick:<12}{len(logs):>9}  too few sessions")
                continue
            both = [(own[number], log) for number, log in logs.items()]
            share, low, high = share_of_spread(both)
            verdict = "at most half" if share <= 0.5 else "more than half"
            print(
                f"{'':<24}{yardstick:<12}{len(logs):>9}{spread(list(logs.values())):>9.2%}"
                f"{share:>8.2f} [{low:.2f}, {high:.2f}]  {verdict}"
            )


def share_of_spread(both: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the spread of the second values over that of the first, with a bootstrap interval."""

    def share(some: Sequence[tuple[float, float]]) -> float:
        first, second = (spread(column) for column in zip(*some, strict=True))
        return second / first if first else math.inf

    order = random.Random(1)
    drawn = sorted(share(order.choices(both, k=len(both))) for _ in range(DRAWS))
    return share(both), drawn[round(0.025 * DRAWS)], drawn[round(0.975 * DRAWS) - 1]


def main() -> int:
    """Measure a session and append it, or report on all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=whole_number(), default=2, help="(default 2)")
    parser.add_argument(
        "--seconds", type=duration, default=18.0, help="of turns, besides loading (default 18s)"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing")
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    if arguments.file is None:
        parser.error("--file: needed, because the sessions of different hours are compared")
    outcomes = Outcomes(arguments.file, {"threads": arguments.threads})
    if arguments.report:
        if len(outcomes.all) < MIN_SESSIONS:
            parser.error(
                f"{arguments.file}: {len(outcomes.all)} sessions on {arguments.threads} threads; a "
                f"report takes {MIN_SESSIONS}"
            )
        report(outcomes.all)
        return 0
    began = time.monotonic()
    values = session(arguments.threads, arguments.seconds)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    outcomes.add({"time": now, "seconds": time.monotonic() - began, "values": values})
    print(f"{now}  " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(values.items())))
    return 0


if __name__ == "__main__":
    exit_with(main, EngineError)
