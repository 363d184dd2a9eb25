"""How much pairs of an engine with itself differ, depending on how their processes take turns.

    python benchmarks/turns.py [--blocks 4] [--threads 2] [--tokens 32] [--neighbour [KIND]]
        [--file FILE]
    python benchmarks/turns.py --kept-prompt

Both sides are the same configuration of the embedded model, so every difference is noise, except
for the slowdown of the candidate by ``--plant 5%`` in ``--where``: in decode, in the prompt, or in
every 16th token only (sparse). Blocks of pairs that take turns by tokens, by iterations and not
at all (one process after the other) alternate in random order.
With ``--kept-prompt`` the candidate restores the prompt before each answer, and the base evaluates
it. Only decode is compared, by tokens: it must not differ.
Printed for each way: median and spread of the pairs' differences (1.4826 times the median
absolute deviation, natural logarithms; the pairs that a verdict takes grow with its square);
seconds per pair; and the share of the wall time spent generating. With ``--file``, a later run
continues where this one stopped.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

from busy_neighbour import add_neighbour_argument, busy_neighbour
from exit_status import exit_with
from outcomes import Outcomes

from pytest_llmperf.arguments import share
from pytest_llmperf.config.embedded import find_cached
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.engine.request import Request
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import OpenTest, Rounds
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.measure.turns import Turns
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.timeline import Timeline

#: Output tokens of the request that leaves the prompt in the cache for ``--kept-prompt``.
FIRST_TOKENS = 4
PROMPT = "Explain in a few words what a key value cache is good for when a model writes an answer."
METRICS = ("tokens_per_sec", "first_token", "end_to_end")
#: Pairs of a block.
BLOCK = 4
PLANTS = {
    "decode": Plant(0.0),
    "prompt": Plant(0.0, part="prompt"),
    "sparse": Plant(0.0, every=16),
}
WAYS: dict[str, Turns | None] = {"tokens": "tokens", "iterations": "iterations", "processes": None}


class NoWatch:
    """Watch that observes nothing, because the noise of the machine is what is measured."""

    def __init__(self, client: EngineClient) -> None:
        """Ignore the engine's process."""

    def iteration_metrics(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return no metrics."""
        return {}

    def record_turn(self, timelines: Sequence[Timeline]) -> None:
        """Ignore the replay."""

    def overall_metrics(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:
        """Return no metrics."""
        return {}

    def missing_reasons(self) -> Mapping[str, str]:
        """Return nothing, because there are no metrics."""
        return {}

    def telemetry(self) -> None:
        """Return None, because no GPU is watched."""

    def cpu_mhz(self) -> None:
        """Return None, because the clock is not compared."""

    def sample(self) -> None:
        """Return None, because no sample is taken."""

    def stop(self) -> Sequence[FitnessFinding]:
        """Return no findings."""
        return ()


def spec_of(threads: int) -> LaunchSpec:
    """Return how to start an engine of the embedded model on ``threads`` threads.

    Raises:
        EngineError: the model is not in the cache.
    """
    model = find_cached("smollm2-135m")
    if model is None:
        raise EngineError("the embedded model is not here: llmperf model smollm2-135m")
    both = {"n_threads": threads, "n_threads_batch": threads}
    config = LlamaCppConfig.model_validate({"n_ctx": 512, **both})
    return LaunchSpec("llama_cpp", config.resolved(model))


def plan_of(
    workload: Workload,
    pairs: int,
    iterations: int,
    seed: int,
    start_seconds: float = 0.0,
    processes: int = 1,
) -> Plan:
    """Return a plan for at most ``pairs`` pairs of one test, and at least ``processes``."""
    perf = PerfConfig(processes=processes, max_pairs=pairs, iterations=iterations, warmup_max=2)
    return Plan(
        workloads={"answer": workload},
        recorded_seconds={"answer": 0.0},
        start_seconds=start_seconds,
        perf=perf,
        seed=seed,
        budget=3600.0,
        paired=True,
    )


def record(spec: LaunchSpec, tokens: int, prompt: str = PROMPT) -> Workload:
    """Send one request, and return it as a workload.

    Raises:
        EngineError: the engine cannot be loaded.
    """
    client = EngineClient.start(spec)
    try:
        request = Request(prompt=prompt, max_tokens=tokens)
        return Workload((RecordedRequest.of(request, client.request(request)),))
    finally:
        client.close()


def start_seconds_of(spec: LaunchSpec) -> float:
    """Return the seconds that an engine takes to start, which is how long turns should last.

    Raises:
        EngineError: the engine cannot be loaded.
    """
    began = time.monotonic()
    client = EngineClient.start(spec)
    seconds = time.monotonic() - began
    client.close()
    return seconds


def asked_twice(answer: RecordedRequest, *, keeps: bool) -> Workload:
    """Return a short request, then the whole one, which may reuse the first one's prompt."""
    first = replace(
        answer, request=replace(answer.request, max_tokens=FIRST_TOKENS), output_tokens=FIRST_TOKENS
    )
    return Workload((first, answer.with_kept_prompt() if keeps else answer))


@dataclass(frozen=True)
class Block:
    """Results of consecutive pairs.

    Attributes:
        way: what the processes took turns by.
        differences: of each pair, by metric, on the log scale.
        seconds, generating: wall time, and the part of it spent generating.
        apart: why the processes stopped taking turns; empty if they did not.
    """

    way: str
    differences: Mapping[str, Sequence[float]]
    seconds: float
    generating: float
    apart: str


def block(
    candidate: LaunchSpec,
    base: LaunchSpec,
    plan: Plan,
    way: str,
    kept: Workload | None = None,
) -> Block:
    """Measure a block of pairs.

    ``kept``: the candidate's workload, if it differs; only decode is then compared.

    Raises:
        EngineError: fewer than two could be measured.
    """
    own = {"answer": kept} if kept is not None else {}
    sides = [
        Side(CANDIDATE, CANDIDATE, starter_of(candidate), own),
        Side(BASE, BASE, starter_of(base)),
    ]
    still_open = {"answer": OpenTest(METRICS if kept is None else METRICS[:1])}
    rounds = Rounds(
        plan,
        sides,
        NoWatch,
        lambda _: None,
        lambda _: still_open,
        possible_turns=lambda _: WAYS[way],
    )
    measurement = rounds.run()
    samples = measurement.tests["answer"]
    if samples.error:
        raise EngineError(samples.error)
    if samples.pairs < 2:
        raise EngineError(f"too few pairs: {[sample.void for sample in samples.voided]}")
    names = METRICS if kept is None else METRICS[:1]
    logs = {name: samples.differences(get_metric(name)) or () for name in names}
    return Block(
        way,
        logs,
        measurement.seconds,
        measurement.generating_seconds,
        measurement.why_not_side_by_side,
    )


def main() -> int:
    """Measure all ways and print the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("--blocks", type=int, default=4, help=f"of {BLOCK} pairs, each way")
    parser.add_argument("--iterations", type=int, default=3, help="counted, of a process")
    parser.add_argument("--threads", type=int, default=2, help="of the engine")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    add_neighbour_argument(parser)
    parser.add_argument("--plant", type=share, default=0.0, help="slow the candidate by so much")
    parser.add_argument("--where", choices=PLANTS, default="decode", help="what is slowed")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--kept-prompt", action="store_true", help="of the candidate alone")
    parser.add_argument("--seed", type=int, default=1)
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    if arguments.kept_prompt:
        arguments.ways = ["tokens"]
    metrics = METRICS[:1] if arguments.kept_prompt else METRICS
    base = spec_of(arguments.threads)
    candidate = base
    if arguments.plant:
        # If one side runs the code of a plant, so must the other: it alone can cost or gain 2%.
        plant = PLANTS[arguments.where]
        candidate = replace(base, plant=replace(plant, slowdown=arguments.plant))
        base = replace(base, plant=plant)
    workload, kept = record(base, arguments.tokens), None
    starting = start_seconds_of(base)
    if arguments.kept_prompt:
        (answer,) = workload.requests
        workload, kept = (asked_twice(answer, keeps=keeps) for keeps in (False, True))
    order = random.Random(arguments.seed)
    ignored = ("blocks", "ways", "seed", "file")
    conditions = {key: value for key, value in vars(arguments).items() if key not in ignored}
    outcomes = Outcomes(arguments.file, conditions)
    blocks: dict[str, list[Block]] = {way: [] for way in arguments.ways}
    for outcome in outcomes.all:
        if outcome["way"] in blocks:
            blocks[outcome["way"]].append(Block(**outcome))
    with busy_neighbour(arguments.neighbour):
        for number in range(arguments.blocks):
            left = [way for way in arguments.ways if len(blocks[way]) <= number]
            for way in order.sample(left, len(left)):
                plan = plan_of(
                    workload, BLOCK, arguments.iterations, order.getrandbits(32), starting
                )
                done = block(candidate, base, plan, way, kept)
                if done.apart:
                    print(f"turns: no more turns by {way}: {done.apart}", file=sys.stderr)
                blocks[way].append(done)
                outcomes.add(asdict(done))
            print(f"block {number + 1} of {arguments.blocks}", file=sys.stderr)
    print(
        f"{'turns by':<12}" + "".join(f"  {name:>18}" for name in metrics) + "  pairs  s/pair  gen"
    )
    for way, done_of_way in blocks.items():
        values = [[d for part in done_of_way for d in part.differences[name]] for name in metrics]
        seconds = sum(part.seconds for part in done_of_way)
        # The first pair of a block only shows that both engines fit side by side.
        pairs = len(done_of_way) * (BLOCK + (WAYS[way] is not None))
        print(
            f"{way:<12}"
            + "".join(f"  {f'{median(d):+.1%} ({spread(d):.2%})':>18}" for d in values)
            + f"  {len(values[0]):>5}  {seconds / pairs:>6.1f}"
            + f"  {sum(part.generating for part in done_of_way) / seconds:.0%}"
        )
    return 0


def spread(values: Sequence[float]) -> float:
    """Return the robust standard deviation: 1.4826 times the median absolute deviation."""
    centre = median(values)
    return 1.4826 * median(abs(value - centre) for value in values)


if __name__ == "__main__":
    exit_with(main, EngineError)
