"""How close llmperf tune comes to the best of an exhaustive grid, in what share of its time.

    python benchmarks/tune_efficiency.py [--size small] [--tries 5] [--file outcomes.jsonl]
    python benchmarks/tune_efficiency.py --nothing [--tries 10] [--file outcomes.jsonl]
    python benchmarks/tune_efficiency.py --others [--trials 15] [--file outcomes.jsonl]

The start is bad on purpose: more threads than CPUs, no flash attention, small batches, a large
context. The grid holds every valid combination; each is measured as a perf test is by default:
three fresh processes, three replays in each after warming up. Then each try searches from scratch,
with its own seed, and its best point runs against the grid's in interleaved pairs. Printed for each
try: the search's seconds (with loading, without the final proof), their share of the grid's, and
the speed of its best point as a share of the grid's best. A good try reaches at least 98% of the
speed in at most a quarter of the time. Exit status 0 if four of five tries are good, else 1.

With ``--nothing`` the space holds only settings that change nothing, and every claim of an
improvement is a false alarm. Exit status 0 if there was none, else 1.

With ``--others`` llama-optimus searches the same ranges of threads and batches, and fituna the same
quantizations of an F16 model, with the llama.cpp of the tools build. They are installed into an
environment of their own in the cache folder. The point of each runs against that of llmperf tune in
interleaved pairs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from outcomes import Outcomes
from tune_bench import Bench, bad_start

from pytest_llmperf.arguments import whole_number
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.tune.space import Demand, build_space

#: Speed that a good try reaches, its share of the grid's time, and the share of tries to be good.
SPEED_SHARE, TIME_SHARE, GOOD_SHARE = 0.98, 0.25, 0.8


def space_of(size: str) -> dict[str, list[Any]]:
    """Return the values to try, without those of the bad start."""
    cpus = usable_cpus()
    threads = sorted({1, cpus})
    space: dict[str, list[Any]] = {
        "n_threads": threads,
        "n_threads_batch": [*threads],
        "flash_attn": [False, True],
        "n_batch": [32, 256],
    }
    if size != "small":
        space["n_batch"] = [32, 128, 512]
        space["n_ctx"] = [512, 2048, 8192]
    if size == "large":
        space["type_k"] = ["f16", "q8_0"]
        space["n_batch"] = [32, 64, 128, 256, 512]
    return space


def efficiency(arguments: argparse.Namespace, folder: Path) -> int:
    """Measure the grid, unless the file has it, and search as often as asked."""
    start = {**bad_start(), "model_path": arguments.model}
    bench = Bench(
        folder, start, space_of(arguments.size), arguments.prompt_tokens, arguments.max_tokens
    )
    outcomes = Outcomes(arguments.file, _conditions(arguments, arguments.size))
    test, engine = bench.record()
    space = build_space(
        bench.setup,
        Demand(arguments.prompt_tokens + arguments.max_tokens, arguments.prompt_tokens),
        usable_cpus(),
    )
    grids = [outcome for outcome in outcomes.all if outcome["kind"] == "grid"]
    if not grids:
        outcomes.add(bench.grid(space, test, engine))
        grids = [outcomes.all[-1]]
    grid = grids[-1]
    print(f"grid: {grid['points']} points in {grid['seconds']:.0f} s, best {grid['best']}")
    tries = sum(outcome["kind"] == "try" for outcome in outcomes.all)
    while tries < (arguments.tries or 5):
        result = bench.search(seed=tries + 1)
        if result.interrupted:
            return 1
        settings = dict(result.best.settings) if result.best is not None else {}
        proof = result.confirmed.seconds if result.confirmed is not None else 0.0
        seconds = result.seconds - proof
        slower = bench.compare(settings, grid["best"], test, engine)
        outcomes.add(
            {
                "kind": "try",
                "seed": result.seed,
                "found": settings,
                "points": len(result.points),
                "seconds": seconds,
                "proof_seconds": proof,
                "time_share": seconds / grid["seconds"],
                "speed_share": math.exp(-slower),
                "conclusion": result.conclusion,
                "improved": result.winner is not None,
            }
        )
        tries += 1
        _print_try(outcomes.all[-1])
    return _summary([outcome for outcome in outcomes.all if outcome["kind"] == "try"])


def nothing(arguments: argparse.Namespace, folder: Path) -> int:
    """Search where nothing helps; count the claims of an improvement."""
    cpus = usable_cpus()
    start = {
        "model_path": arguments.model,
        "n_threads": cpus,
        "n_threads_batch": cpus,
        "n_ctx": 1024,
        "n_batch": 1024,
        "n_ubatch": 512,
    }
    # All sizes are larger than the workload needs.
    space = {"use_mmap": [True, False], "n_batch": [1024, 2048], "n_ctx": [1024, 1280]}
    bench = Bench(folder, start, space, arguments.prompt_tokens, arguments.max_tokens)
    outcomes = Outcomes(arguments.file, _conditions(arguments, "nothing"))
    while len(outcomes.all) < (arguments.tries or 10):
        result = bench.search(seed=len(outcomes.all) + 1)
        if result.interrupted:
            return 1
        outcomes.add(
            {
                "kind": "nothing",
                "seed": result.seed,
                "points": len(result.points),
                "seconds": result.seconds,
                "took_over": result.best is not None,
                "improved": result.winner is not None,
                "conclusion": result.conclusion,
            }
        )
        print(f"try {len(outcomes.all)}: {result.conclusion}", flush=True)
    claimed = sum(outcome["improved"] for outcome in outcomes.all)
    raced = sum(outcome["took_over"] for outcome in outcomes.all)
    print(f"{claimed} of {len(outcomes.all)} searches claimed an improvement that is none")
    print(f"{raced} of them had a point that looked better, and had to disprove it")
    return 1 if claimed else 0


def _conditions(arguments: argparse.Namespace, what: str) -> dict[str, Any]:
    return {
        "what": what,
        "model": arguments.model,
        "cpus": usable_cpus(),
        "prompt_tokens": arguments.prompt_tokens,
        "max_tokens": arguments.max_tokens,
    }


def _print_try(outcome: Mapping[str, Any]) -> None:
    print(
        f"try: {outcome['points']} points in {outcome['seconds']:.0f} s "
        f"({outcome['time_share']:.0%} of the grid's), {outcome['speed_share']:.1%} of the best "
        f"point's speed; {outcome['found']}; {outcome['conclusion']} "
        f"({outcome['proof_seconds']:.0f} s)",
        flush=True,
    )


def _summary(tries: Sequence[Mapping[str, Any]]) -> int:
    good = sum(
        row["speed_share"] >= SPEED_SHARE and row["time_share"] <= TIME_SHARE for row in tries
    )
    print(
        f"{good} of {len(tries)} tries reached {SPEED_SHARE:.0%} in a quarter; median "
        f"{median(row['speed_share'] for row in tries):.1%} in "
        f"{median(row['time_share'] for row in tries):.0%} of the time; worst "
        f"{min(row['speed_share'] for row in tries):.1%}, "
        f"{max(row['time_share'] for row in tries):.0%}"
    )
    return 0 if good >= GOOD_SHARE * len(tries) else 1


def main() -> int:
    """Run what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("small", "medium", "large"), default="medium")
    parser.add_argument(
        "--tries", type=whole_number(), help="searches (default: 5; 10 with --nothing)"
    )
    parser.add_argument("--nothing", action="store_true", help="a space where nothing helps")
    parser.add_argument("--others", action="store_true", help="beside fituna and llama-optimus")
    parser.add_argument(
        "--trials", type=int, default=15, help="of each stage of llama-optimus (default: 15)"
    )
    parser.add_argument(
        "--layers", type=int, default=30, help="of fituna's model, which has random weights"
    )
    parser.add_argument("--model", default="smollm2-135m", help="as llm.model_path")
    parser.add_argument("--prompt-tokens", type=int, default=192)
    parser.add_argument("--max-tokens", type=int, default=32)
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    if arguments.file is not None:
        arguments.file = arguments.file.absolute()
    with tempfile.TemporaryDirectory(prefix="llmperf-") as folder:
        os.chdir(folder)
        if arguments.others:
            from tune_others import side_by_side

            outcomes = Outcomes(arguments.file, _conditions(arguments, "others"))
            side_by_side(arguments, Path(folder), outcomes)
            return 0
        return (nothing if arguments.nothing else efficiency)(arguments, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
