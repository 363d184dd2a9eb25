"""Does a sweep whose cells share a process measure a grid of settings in half the time?

    python benchmarks/sweep_order.py [--pairs 6] [--side 3] [--tokens 1] [--json sweep.json]

A grid of n_batch x n_ctx x n_threads (``--side`` values each) on the embedded model, measured as
a session measures it, one round: once in the order of a sweep, whose cells share one process and
its model, and once with a process of its own for every cell. Pairs of both, in random order.
The request is short: loads are saved, and generating takes equally long both ways. One output
token takes no decode step, in which more threads than cores would wait for one another.
Exit status 0 if the ratio of the wall times, with its 95% interval, is at most a half; 1 if not;
2 if it could not be measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from exit_status import exit_with
from paired import MIN_PAIRS, ratio_interval
from turns import NoWatch, record

from pytest_llmperf.config.embedded import find_cached
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Rounds
from pytest_llmperf.measure.samples import CANDIDATE
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.measure.workload import Workload

LIMIT = 0.5
VALUES = {
    "n_batch": (128, 256, 512, 1024),
    "n_ctx": (512, 1024, 2048, 4096),
    "n_threads": (1, 2, 3, 4),
}


class Run(NamedTuple):
    """One round of the grid: wall time and time spent generating in seconds, and its processes."""

    wall: float
    generating: float
    processes: int


def grid(model: Path, side: int) -> dict[str, LaunchSpec]:
    """Return the settings of every cell, by its name."""
    cells = {}
    for values in itertools.product(*(known[:side] for known in VALUES.values())):
        settings = dict(zip(VALUES, values, strict=True))
        llm = LlamaCppConfig.model_validate({**settings, "max_tokens": 8, "n_threads_batch": 1})
        name = "-".join(f"{key}={value}" for key, value in settings.items())
        cells[name] = LaunchSpec("llama_cpp", llm.resolved(model))
    return cells


def apart(cells: Mapping[str, LaunchSpec]) -> dict[str, LaunchSpec]:
    """Return the same cells, changed so that no two can share a process."""
    return {
        name: replace(spec, env={"SWEEP_CELL": str(number)})
        for number, (name, spec) in enumerate(cells.items())
    }


def measure(cells: Mapping[str, LaunchSpec], workload: Workload, seed: int) -> Run:
    """Measure one round of the grid.

    Raises:
        EngineError: a cell could not be measured.
    """
    plan = Plan(
        workloads=dict.fromkeys(cells, workload),
        recorded_seconds=dict.fromkeys(cells, 0.0),
        start_seconds=0.0,
        perf=PerfConfig(processes=1, max_processes=1, iterations=3, warmup_max=2),
        seed=seed,
        budget=3600.0,
    )
    first = next(iter(cells.values()))
    side = Side(CANDIDATE, "candidate", starter_of(first), specs=cells)
    measurement = Rounds(plan, [side], NoWatch, lambda _: None).run()
    for name, samples in measurement.tests.items():
        if samples.error or not samples.processes:
            raise EngineError(f"{name}: {samples.error or samples.voided[0].void}")
    return Run(measurement.seconds, measurement.generating_seconds, measurement.processes)


def main() -> int:
    """Measure the pairs and print the ratio."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS)
    parser.add_argument("--side", type=int, choices=range(1, 5), default=3, help="values a setting")
    parser.add_argument("--tokens", type=int, default=1, help="of an answer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the runs to this file")
    arguments = parser.parse_args()
    model = find_cached("smollm2-135m")
    if model is None:
        print("sweep_order: the embedded model is not here: llmperf model smollm2-135m")
        return 2
    cells = grid(model, arguments.side)
    workload = record(next(iter(cells.values())), arguments.tokens, "Hello")
    ways = {"sweep": cells, "apart": apart(cells)}
    order = random.Random(arguments.seed)
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for number in range(arguments.pairs):
        for way in order.sample(list(ways), len(ways)):
            runs[way].append(measure(ways[way], workload, order.getrandbits(32)))
        shown = ", ".join(f"{way} {runs[way][-1].wall:.1f} s" for way in ways)
        print(f"pair {number + 1} of {arguments.pairs}: {shown}", file=sys.stderr)
    if arguments.json is not None:
        data = {way: [run._asdict() for run in rounds] for way, rounds in runs.items()}
        arguments.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print(f"{len(cells)} cells, {arguments.pairs} pairs; median seconds a round:")
    for way, rounds in runs.items():
        print(
            f"  {way:<6} {median(run.wall for run in rounds):6.1f} "
            f"(generating {median(run.generating for run in rounds):.1f}), "
            f"{rounds[0].processes} processes"
        )
    walls = {way: [run.wall for run in rounds] for way, rounds in runs.items()}
    if arguments.pairs < MIN_PAIRS:
        ratio = median(a / b for a, b in zip(walls["sweep"], walls["apart"], strict=True))
        print(f"sweep / apart: {ratio:.2f}; {MIN_PAIRS} pairs give an interval")
        return 0 if ratio <= LIMIT else 1
    interval = ratio_interval(walls["sweep"], walls["apart"])
    print(
        f"sweep / apart: {interval.centre:.2f} [{interval.low:.2f}, {interval.high:.2f}], "
        f"asked: at most {LIMIT:g}"
    )
    return 0 if interval.high <= LIMIT else 1


if __name__ == "__main__":
    exit_with(main, EngineError)
