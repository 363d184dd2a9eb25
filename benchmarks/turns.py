"""How much the pairs of one engine with itself differ, by what their processes take turns.

    python benchmarks/turns.py [--blocks 5] [--iterations 3] [--threads 1] [--tokens 16]

Both sides are the same configuration of the embedded model, so every difference is noise.
Blocks of pairs whose processes live side by side and take turns by iterations, and of
pairs whose processes follow one another, alternate in random order. What is printed is
the spread of the pairs' differences (1.4826 times the median absolute difference, natural
logarithms), which the pairs that a verdict takes grow with the square of.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from statistics import median

from pytest_llmperf.config.embedded import find_cached
from pytest_llmperf.config.schema import LlmConfig, PerfConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.request import Request
from pytest_llmperf.gate.numbers import differences
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Rounds
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.timeline import Timeline

PROMPT = "Explain in a few words what a key value cache is good for when a model writes an answer."
METRICS = ("tokens_per_sec", "first_token", "end_to_end")
#: Pairs of a block; one more is measured where the first shows only that both have room.
BLOCK = 4


class NoWatch:
    """Watches nothing: the noise of the machine is what is measured."""

    def __init__(self, client: EngineClient) -> None:
        """Take the engine's process, and leave it alone."""

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Nothing beside the generations."""
        return {}

    def whole(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:
        """Nothing beside them."""
        return {}

    def undefined(self) -> Mapping[str, str]:
        """Nobody asks."""
        return {}

    def telemetry(self) -> None:
        """No card."""

    def sample(self) -> str | None:
        """Never lost."""
        return None

    def stop(self) -> Sequence[FitnessFinding]:
        """Never unfit."""
        return ()


def record(spec: LaunchSpec, tokens: int) -> Workload:
    """Ask once, and return what was asked.

    Raises:
        EngineError: the engine cannot be loaded.
    """
    client = EngineClient.start(spec)
    try:
        request = Request(prompt=PROMPT, max_tokens=tokens)
        return Workload((RecordedRequest.of(request, client.request(request)),))
    finally:
        client.close()


def block(spec: LaunchSpec, plan: Plan, *, by_iterations: bool) -> Mapping[str, list[float]]:
    """Measure some pairs; return their differences by metric."""
    sides = [Side(role, role, lambda: EngineClient.start(spec)) for role in (CANDIDATE, BASE)]
    rounds = Rounds(plan, sides, NoWatch, lambda _: None, fits=lambda _: by_iterations)
    samples = rounds.run().tests["answer"]
    if samples.error:
        raise EngineError(samples.error)
    found = {}
    for name in METRICS:
        turns = samples.beside(name)
        apart = differences(get_metric(name), *samples.paired(name), turns)
        found[name] = [d for d, took in zip(apart, turns, strict=True) if took == by_iterations]
    return found


def main() -> int:
    """Measure both ways and print the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--blocks", type=int, default=5, help=f"of {BLOCK} pairs, each way")
    parser.add_argument("--iterations", type=int, default=3, help="counted, of a process")
    parser.add_argument("--threads", type=int, default=1, help="of the engine")
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    model = find_cached("smollm2-135m")
    if model is None:
        print("turns: the embedded model is not here: llmperf model smollm2-135m", file=sys.stderr)
        return 2
    threads = {"n_threads": arguments.threads, "n_threads_batch": arguments.threads}
    llm = LlmConfig.model_validate({"n_ctx": 512, **threads})
    spec = LaunchSpec("llama_cpp", llm.resolved(model))
    workload = record(spec, arguments.tokens)
    order = random.Random(arguments.seed)
    found: dict[bool, dict[str, list[float]]] = {
        way: {name: [] for name in METRICS} for way in (True, False)
    }
    for number in range(arguments.blocks):
        for way in order.sample((True, False), 2):
            pairs = BLOCK + way
            plan = Plan(
                workloads={"answer": workload},
                recorded_seconds={"answer": 0.0},
                start_seconds=0.0,
                perf=PerfConfig(
                    processes=pairs,
                    max_pairs=pairs,
                    iterations=arguments.iterations,
                    warmup_max=2,
                ),
                seed=order.getrandbits(32),
                budget=3600.0,
                paired=True,
            )
            for name, values in block(spec, plan, by_iterations=way).items():
                found[way][name] += values
        print(f"block {number + 1} of {arguments.blocks}", file=sys.stderr)
    print(
        f"{'spread of pairs':<18}  {'by iterations':>14}  {'by processes':>14}  {'ratio':>6}  pairs"
    )
    for name in METRICS:
        turns, apart = (_spread(found[way][name]) for way in (True, False))
        count = len(found[True][name]), len(found[False][name])
        print(
            f"{name:<18}  {turns:>14.1%}  {apart:>14.1%}  {turns / apart:>6.2f}  "
            f"{count[0]} and {count[1]}"
        )
    return 0


def _spread(values: Sequence[float]) -> float:
    centre = median(values)
    return 1.4826 * median(abs(value - centre) for value in values)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EngineError as problem:
        print(f"turns: {problem}", file=sys.stderr)
        sys.exit(2)
