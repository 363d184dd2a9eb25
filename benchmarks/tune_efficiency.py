"""How near llmperf tune comes to the best of an exhaustive grid, and in what part of its time.

    python benchmarks/tune_efficiency.py [--size small] [--tries 3] [--file outcomes.jsonl]
    python benchmarks/tune_efficiency.py --nothing [--tries 10] [--file outcomes.jsonl]

The start is bad on purpose: more threads than CPUs, no flash attention, small batches, a large
context. The grid holds every combination that goes together; each is measured as a perf test is by
default: three fresh processes, three replays in each after warming up. Then each try searches from
nothing, and its best point runs against the grid's in interleaved pairs. Printed for each try: the
search's seconds (loading included, the final proof apart), their share of the grid's, and the speed
of what it found as a share of the grid's best. The aim is at least 98% in at most a quarter.

With ``--nothing`` the space holds only settings that change nothing, and every claim of an
improvement is a false alarm.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from outcomes import Outcomes

import pytest_llmperf as perf
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.measure.neighbours import clipped_mean
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.context import SessionContext, SilentConsole
from pytest_llmperf.session.machine_watch import FitWait
from pytest_llmperf.session.measuring import MeasureStage, quick_perf
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.recording import record_body
from pytest_llmperf.session.run import free_device, session_facts
from pytest_llmperf.session.setup import EngineSetup, with_settings
from pytest_llmperf.tune.request import TuneRequest
from pytest_llmperf.tune.result import TuneResult
from pytest_llmperf.tune.run import TuneRun
from pytest_llmperf.tune.space import Demand, Space, build_space

WHOLE = get_metric("end_to_end")
#: Pairs of the last comparison.
PAIRS = 8


def space_of(size: str) -> dict[str, list[Any]]:
    """Return the values to try, without those of the bad start."""
    cpus = usable_cpus()
    threads = sorted({1, cpus})
    found: dict[str, list[Any]] = {
        "n_threads": threads,
        "n_threads_batch": [*threads],
        "flash_attn": [False, True],
        "n_batch": [32, 256],
    }
    if size != "small":
        found["n_batch"] = [32, 128, 512]
        found["n_ctx"] = [512, 2048, 8192]
    if size == "large":
        found["type_k"] = ["f16", "q8_0"]
        found["n_batch"] = [32, 64, 128, 256, 512]
    return found


def bad_start() -> dict[str, Any]:
    """Return settings that a careless user may have."""
    many = 4 * usable_cpus()
    return {
        "n_threads": many,
        "n_threads_batch": many,
        "flash_attn": False,
        "n_batch": 32,
        "n_ctx": 8192,
    }


class Bench:
    """One configuration file, its recorded workload, and what is measured of it.

    Args:
        folder: for the file and the studies.
        llm: today's settings.
        space: the values to try.
        prompt_tokens, max_tokens: of the workload.
    """

    def __init__(
        self,
        folder: Path,
        llm: Mapping[str, Any],
        space: Mapping[str, Any],
        prompt_tokens: int,
        max_tokens: int,
    ) -> None:
        file = folder / "config.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "llm": {**llm, "max_tokens": max_tokens},
                    "perf": {"budget": "20m"},
                    "tune": {"space": dict(space), "budget": "60m"},
                }
            )
        )
        self.setup: EngineSetup = perf.configuration(file)
        self._prompt = [1, *random.Random(1).choices(range(5, 500), k=prompt_tokens - 1)]
        self._max_tokens = max_tokens

    def record(self) -> tuple[RecordedTest, LlmEngine]:
        """Run the workload once."""

        def body(engine: LlmEngine) -> None:
            engine.generate(self._prompt, max_tokens=self._max_tokens)

        return record_body(self.setup, "tune", body, print)

    def context(self) -> SessionContext:
        """Return a session's context."""
        return SessionContext(self.setup, FitWait())

    def grid(self, space: Space, test: RecordedTest, engine: LlmEngine) -> dict[str, Any]:
        """Measure every combination that goes together."""
        levels: dict[str, float] = {}
        best, best_level, began = dict[str, Any](), math.inf, time.monotonic()
        combinations = product(*space.choices.values())
        every = [dict(zip(space.choices, row, strict=True)) for row in combinations]
        # The start's own values are no choice of a grid that somebody would declare.
        fitting = [one for one in every if not space.why_not(space.changed(one)) and _is_fit(one)]
        with self.stage(test, engine) as (stage, start_seconds):
            for number, whole in enumerate(fitting, start=1):
                changed = space.changed(whole)
                setup = with_settings(self.setup, changed)
                side = Side(CANDIDATE, "grid", starter_of(setup.spec))
                plan = self._plan(test, start_seconds, 3, turns="processes")
                samples = stage.measure(plan, [side]).tests[test.nodeid]
                rows = samples.values("end_to_end")
                if not rows:
                    print(f"grid {number}/{len(fitting)}: {changed}: {samples.error}", flush=True)
                    continue
                level = median(median(row) for row in rows)
                levels[str(changed)] = level
                print(f"grid {number}/{len(fitting)}: {changed}: {level:.3f} s", flush=True)
                if level < best_level:
                    best, best_level = changed, level
        seconds = time.monotonic() - began
        return {
            "kind": "grid",
            "points": len(fitting),
            "seconds": seconds,
            "best": best,
            "level": best_level,
            "levels": levels,
        }

    def search(self) -> TuneResult:
        """Search from nothing; the study is a new one."""
        with tempfile.TemporaryDirectory() as cache:
            storage = f"sqlite:///{cache}/study.db"
            test, engine = self.record()
            context = SessionContext(self.setup, FitWait(), console=Lines())
            return TuneRun(context, TuneRequest(storage=storage)).run([test], engine)

    def compare(
        self,
        one: Mapping[str, Any],
        other: Mapping[str, Any],
        test: RecordedTest,
        engine: LlmEngine,
    ) -> float:
        """Return by how much the first settings are slower, on the log scale, from pairs."""
        if dict(one) == dict(other):
            return 0.0
        sides = [
            Side(role, role, starter_of(with_settings(self.setup, changed).spec))
            for role, changed in ((CANDIDATE, one), (BASE, other))
        ]
        with self.stage(test, engine) as (stage, start_seconds):
            plan = self._plan(test, start_seconds, PAIRS, turns="auto", paired=True)
            samples = stage.measure(plan, sides).tests[test.nodeid]
        found = samples.differences(WHOLE)
        if not found:
            raise SystemExit(f"the last comparison failed: {samples.error or 'no valid pair'}")
        return clipped_mean(found)

    @contextmanager
    def stage(self, test: RecordedTest, engine: LlmEngine) -> Iterator[tuple[MeasureStage, float]]:
        """Provide a measure stage, and the seconds that an engine takes to start."""
        info, start_seconds = free_device(engine)
        context = self.context()
        with session_facts(context, info, [test], None, lambda _: None) as facts:
            specs = [self.setup.spec]
            yield MeasureStage(facts.watch, SilentConsole(), FitWait(), specs), start_seconds

    def _plan(
        self,
        test: RecordedTest,
        start_seconds: float,
        processes: int,
        *,
        turns: str,
        paired: bool = False,
    ) -> Plan:
        return Plan(
            workloads={test.nodeid: test.workload},
            recorded_seconds={test.nodeid: test.seconds},
            start_seconds=start_seconds,
            perf=quick_perf(
                processes,
                processes,
                iterations=3,
                warmup_max=self.setup.perf.warmup_max,
                turns=turns,
                fitness={},
            ),
            seed=1,
            budget=3600.0,
            paired=paired,
        )


class Lines(SilentConsole):
    """Prints lines."""

    def line(self, text: str) -> None:
        """Print a line."""
        print(f"  {text}", flush=True)


def _is_fit(whole: Mapping[str, Any]) -> bool:
    return all(whole.get(key, 1) <= usable_cpus() for key in ("n_threads", "n_threads_batch"))


def efficiency(arguments: argparse.Namespace, folder: Path) -> None:
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
    grids = [one for one in outcomes.all if one["kind"] == "grid"]
    if not grids:
        outcomes.add(bench.grid(space, test, engine))
        grids = [outcomes.all[-1]]
    grid = grids[-1]
    print(f"grid: {grid['points']} points in {grid['seconds']:.0f} s, best {grid['best']}")
    tries = sum(one["kind"] == "try" for one in outcomes.all)
    while tries < arguments.tries:
        result = bench.search()
        found = dict(result.best.settings) if result.best is not None else {}
        proof = result.confirmed.seconds if result.confirmed is not None else 0.0
        seconds = result.seconds - proof
        slower = bench.compare(found, grid["best"], test, engine)
        outcomes.add(
            {
                "kind": "try",
                "found": found,
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
    _summary([one for one in outcomes.all if one["kind"] == "try"])


def nothing(arguments: argparse.Namespace, folder: Path) -> None:
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
    # All of them are larger than the workload.
    space = {"use_mmap": [True, False], "n_batch": [1024, 2048], "n_ctx": [1024, 1280]}
    bench = Bench(folder, start, space, arguments.prompt_tokens, arguments.max_tokens)
    outcomes = Outcomes(arguments.file, _conditions(arguments, "nothing"))
    while len(outcomes.all) < arguments.tries:
        result = bench.search()
        outcomes.add(
            {
                "kind": "nothing",
                "points": len(result.points),
                "seconds": result.seconds,
                "took_over": result.best is not None,
                "improved": result.winner is not None,
                "conclusion": result.conclusion,
            }
        )
        print(f"try {len(outcomes.all)}: {result.conclusion}", flush=True)
    claimed = sum(one["improved"] for one in outcomes.all)
    raced = sum(one["took_over"] for one in outcomes.all)
    print(f"{claimed} of {len(outcomes.all)} searches claimed an improvement that is none")
    print(f"{raced} of them had a point that looked better, and had to disprove it")


def _conditions(arguments: argparse.Namespace, what: str) -> dict[str, Any]:
    return {
        "what": what,
        "model": arguments.model,
        "cpus": usable_cpus(),
        "prompt_tokens": arguments.prompt_tokens,
        "max_tokens": arguments.max_tokens,
    }


def _print_try(one: Mapping[str, Any]) -> None:
    print(
        f"try: {one['points']} points in {one['seconds']:.0f} s ({one['time_share']:.0%} of the "
        f"grid's), {one['speed_share']:.1%} of the best point's speed; {one['found']}; "
        f"{one['conclusion']} ({one['proof_seconds']:.0f} s)",
        flush=True,
    )


def _summary(tries: Sequence[Mapping[str, Any]]) -> None:
    if not tries:
        return
    good = sum(one["speed_share"] >= 0.98 and one["time_share"] <= 0.25 for one in tries)
    print(
        f"{good} of {len(tries)} tries reached 98% in a quarter; median "
        f"{median(one['speed_share'] for one in tries):.1%} in "
        f"{median(one['time_share'] for one in tries):.0%} of the time; worst "
        f"{min(one['speed_share'] for one in tries):.1%}, "
        f"{max(one['time_share'] for one in tries):.0%}"
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("small", "medium", "large"), default="medium")
    parser.add_argument("--tries", type=int, default=3, help="searches (default: 3)")
    parser.add_argument("--nothing", action="store_true", help="a space where nothing helps")
    parser.add_argument("--model", default="smollm2-135m", help="as llm.model_path")
    parser.add_argument("--prompt-tokens", type=int, default=192)
    parser.add_argument("--max-tokens", type=int, default=32)
    Outcomes.add_argument(parser)
    arguments = parser.parse_args()
    if arguments.file is not None:
        arguments.file = arguments.file.absolute()
    with tempfile.TemporaryDirectory(prefix="llmperf-") as folder:
        os.chdir(folder)
        (nothing if arguments.nothing else efficiency)(arguments, Path(folder))


if __name__ == "__main__":
    main()
