"""A configuration to tune: its file, its recorded workload, and measurements of it."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml

import pytest_llmperf as perf
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.measure.neighbours import clipped_mean
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.context import SessionContext, SilentConsole
from pytest_llmperf.session.machine_watch import FitWait
from pytest_llmperf.session.measuring import MeasureStage, quick_perf
from pytest_llmperf.session.recording import record_body
from pytest_llmperf.session.run import free_device, session_facts
from pytest_llmperf.session.setup import EngineSetup, with_settings
from pytest_llmperf.tune.request import TuneRequest
from pytest_llmperf.tune.run import TuneRun

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.tune.result import Phase, TuneResult
    from pytest_llmperf.tune.space import Space

WHOLE = get_metric("end_to_end")
#: Pairs of the final comparison of two settings.
PAIRS = 8


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
    """A configuration file, its recorded workload, and measurements of it.

    Args:
        folder: for the file and the studies.
        llm: the present settings.
        space: the values to try.
        prompt_tokens, max_tokens: of the workload.
        tune: other settings of the section ``tune``.
    """

    def __init__(
        self,
        folder: Path,
        llm: Mapping[str, Any],
        space: Mapping[str, Any],
        prompt_tokens: int,
        max_tokens: int,
        **tune: Any,
    ) -> None:
        file = folder / "config.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "llm": {**llm, "max_tokens": max_tokens},
                    "perf": {"budget": "20m"},
                    "tune": {"space": dict(space), "budget": "60m", **tune},
                }
            )
        )
        self.setup: EngineSetup = perf.configuration(file)
        self._prompt = [1, *random.Random(1).choices(range(5, 500), k=prompt_tokens - 1)]
        self._max_tokens = max_tokens

    def record(self) -> tuple[RecordedTest, LlmEngine]:
        """Run the workload once; return the recorded test and its engine."""

        def body(engine: LlmEngine) -> None:
            engine.generate(self._prompt, max_tokens=self._max_tokens)

        return record_body(self.setup, "tune", body, print)

    def context(self) -> SessionContext:
        """Return a session's context."""
        return SessionContext(self.setup, FitWait())

    def grid(self, space: Space, test: RecordedTest, engine: LlmEngine) -> dict[str, Any]:
        """Measure every valid combination; return the best one and the level of each."""
        levels: dict[str, float] = {}
        best, best_level, began = dict[str, Any](), math.inf, time.monotonic()
        combinations = product(*space.choices.values())
        every = [dict(zip(space.choices, row, strict=True)) for row in combinations]
        # Nobody would put the bad start's own values into a grid.
        fitting = [row for row in every if not space.why_not(space.changed(row)) and _is_fit(row)]
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

    def search(self, phases: tuple[Phase, ...] = (1, 2, 3), seed: int = 42) -> TuneResult:
        """Search from scratch, in a new study.

        ``seed``: of its proposals, as ``tune.seed``.
        """
        with tempfile.TemporaryDirectory() as cache:
            storage = f"sqlite:///{cache}/study.db"
            test, engine = self.record()
            context = SessionContext(self._with_seed(seed), FitWait(), console=Lines())
            return TuneRun(context, TuneRequest(phases, storage=storage)).run([test], engine)

    def _with_seed(self, seed: int) -> EngineSetup:
        loaded = self.setup.loaded
        tune = loaded.config.tune.model_copy(update={"seed": seed})
        config = loaded.config.model_copy(update={"tune": tune})
        return replace(self.setup, loaded=replace(loaded, config=config))

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
        differences = samples.differences(WHOLE)
        if not differences:
            raise SystemExit(f"the last comparison failed: {samples.error or 'no valid pair'}")
        return clipped_mean(differences)

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
    """Console that prints lines and nothing else."""

    def line(self, text: str) -> None:
        """Print a line."""
        print(f"  {text}", flush=True)


def _is_fit(whole: Mapping[str, Any]) -> bool:
    return all(whole.get(key, 1) <= usable_cpus() for key in ("n_threads", "n_threads_batch"))
